from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import numpy as np

from eval.charts import (
    Curve,
    Dot,
    bin_values,
    draw_curves,
    draw_histogram,
    draw_intervals,
    shown_range,
    thin_curve,
)

VALUES = np.random.default_rng(0).normal(size=500)


def histogram(values: np.ndarray, *thresholds: float, **options: bool) -> str:
    edges, counts = bin_values(values)
    dropped = np.where(edges[:-1] < 0, counts, 0)
    return draw_histogram(
        edges, counts - dropped, dropped, name="hist-a.b", title="Histogram of a.b",
        thresholds=thresholds, **options,
    )  # fmt: skip


def test_equal_values_give_equal_svg():
    first, second = histogram(VALUES, 0.0), histogram(VALUES, 0.0)
    assert first == second
    assert "date" not in first.lower()


def test_svg_is_whole_and_needs_nothing_else():
    svg = histogram(VALUES, 0.0, is_root=True)
    ElementTree.fromstring(svg)
    used = re.findall(r'(?:href|src)="([^"]*)"', svg) + re.findall(r"url\(([^)]*)\)", svg)
    assert all(target.startswith("#hist-a-b-") for target in used)
    assert 'role="img"' in svg and 'aria-label="Histogram of a.b"' in svg


def test_ids_of_two_charts_do_not_meet():
    left = histogram(VALUES)
    curve = Curve(label="x", x=np.arange(3.0), y=np.ones(3))
    right = draw_curves([curve], name="other", x_label="x", y_label="y", title="t")
    ids = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (left, right)]
    assert ids[0] and ids[1] and not ids[0] & ids[1]


def test_one_value_whole_numbers_and_far_thresholds_are_drawn():
    assert histogram(np.array([3.0]))
    assert histogram(np.arange(500.0), 1e9) == histogram(np.arange(500.0))
    assert histogram(np.array([0.0, 1.0, 1.0]), 1.0)
    assert histogram(np.array([0.25]), 0.25)


def test_every_value_has_a_bin():
    for values in (VALUES, np.arange(500.0), np.r_[VALUES, 1e6], np.array([0.5])):
        edges, counts = bin_values(values)
        assert counts.sum() == len(values)
        assert len(edges) == len(counts) + 1


def test_wide_outermost_bins_are_drawn_as_wide_as_the_others():
    assert shown_range(np.array([-100.0, 1.0, 2.0, 3.0, 99.0])) == (0.0, 4.0)
    assert shown_range(np.array([0.0, 1.0, 2.0, 3.0])) == (0.0, 3.0)
    assert shown_range(np.array([0.0, 1.0])) == (0.0, 1.0)


def test_titles_are_escaped():
    curve = Curve(label="x", x=np.arange(3.0), y=np.ones(3))
    svg = draw_curves([curve], name="n", x_label="x", y_label="y", title='<b> & "c"')
    assert "&lt;b> &amp; &quot;c&quot;" in svg
    ElementTree.fromstring(svg)


def test_intervals_are_drawn_with_gaps():
    dots = [Dot(value=0.5, low=0.4, high=0.6), None, Dot(value=0.1, low=None, high=None)]
    series = {"ema": dots, "noise": [None, None, dots[0]]}
    svg = draw_intervals(["a", "b", "c"], series, name="n", title="t")
    assert ">ema<" in svg and ">noise<" in svg


def test_long_curves_are_thinned_to_their_means():
    x = np.arange(1000.0)
    thin_x, thin_y = thin_curve(x, 2 * x, max_points=10)
    assert len(thin_x) == 10
    assert thin_x[0] == 49.5 and thin_y[0] == 99.0
    assert len(thin_curve(x[:5], x[:5], max_points=10)[0]) == 5
