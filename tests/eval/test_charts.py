from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import numpy as np

from eval.charts import Curve, Dot, draw_curves, draw_histogram, draw_intervals, thin_curve
from eval.curation import Distribution, Rule


def distribution(values: np.ndarray, *rules: Rule) -> Distribution:
    return Distribution(column="a.b", values=values, rules=rules, num_outside=0)


VALUES = np.random.default_rng(0).normal(size=500)


def test_equal_values_give_equal_svg():
    first, second = (draw_histogram(distribution(VALUES)) for _ in range(2))
    assert first == second
    assert "date" not in first.lower()


def test_svg_is_whole_and_needs_nothing_else():
    svg = draw_histogram(distribution(VALUES, Rule(reason="r", column="a.b", min=0.0)))
    ElementTree.fromstring(svg)
    used = re.findall(r'(?:href|src)="([^"]*)"', svg) + re.findall(r"url\(([^)]*)\)", svg)
    assert all(target.startswith("#hist-a-b-") for target in used)
    assert 'role="img"' in svg and 'aria-label="Histogram of a.b"' in svg


def test_ids_of_two_charts_do_not_meet():
    left = draw_histogram(distribution(VALUES))
    curve = Curve(label="x", x=np.arange(3.0), y=np.ones(3))
    right = draw_curves([curve], name="other", x_label="x", y_label="y", title="t")
    ids = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (left, right)]
    assert ids[0] and ids[1] and not ids[0] & ids[1]


def test_one_value_whole_numbers_and_far_bounds_are_drawn():
    draw_histogram(distribution(np.array([3.0])))
    draw_histogram(distribution(np.arange(500.0), Rule(reason="r", column="a.b", max=1e9)))
    draw_histogram(distribution(np.array([0.0, 1.0, 1.0]), Rule(reason="r", column="a.b", min=1)))


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
