"""Draw the report's charts as inline SVG: histograms, loss curves, intervals.

Equal values give equal bytes: no date, a fixed hash salt, ids prefixed by the chart's name so that
several charts can stand in one page. Text stays text and takes the page's font.
"""

from __future__ import annotations

import io
import re
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

# The page's palette (templates/report.html.j2 repeats it). It survives grey print and a red-green
# deficiency: blue against orange, never red against green.
INK = "#1c2430"
MUTED = "#6a7482"
RULE = "#d9dee5"
KEPT = "#4477aa"
DROPPED = "#d98a5f"
ORDINAL = ("#9dbfe0", "#6f9fd0", "#4477aa", "#2b5480", "#142f52")  # light to dark: t from 0 to 1
MARKERS = ("o", "s", "D", "^", "v", "x")

_PX = 1 / 72  # SVG user units of matplotlib are points
_MAX_POINTS = 240  # of a curve; chosen by us: finer than the chart's pixels


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curve:
    """Hold one line: x and y, [N] float64 each."""

    label: str
    x: Array
    y: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Dot:
    """Hold one value with its interval; ends None without one."""

    value: float
    low: float | None
    high: float | None


def draw_histogram(
    edges: Array,
    kept: Counts,
    dropped: Counts,
    *,
    name: str,
    title: str,
    thresholds: Sequence[float] = (),
    is_root: bool = False,
) -> str:
    """Draw a distribution, the dropped in another colour on top of the kept, thresholds as lines.

    Args:
        edges: [B + 1]; the outermost bins may be wide and are drawn as wide as the others.
        kept: [B], samples of each bin.
        dropped: [B].
        name: of the chart, unique in the page.
        title: for those who cannot see it.
        thresholds: those beyond the chart are left out.
        is_root: whether heights are square roots of counts, so that few show beside many.
    """
    low, high = shown_range(edges)
    shown = np.concatenate([[low], edges[1:-1], [high]])
    with _figure(300, 132) as (figure, axes):
        axes.stairs(kept, shown, fill=True, color=KEPT, linewidth=0)
        if dropped.any():
            axes.stairs(kept + dropped, shown, baseline=kept, fill=True, color=DROPPED, linewidth=0)
        for end in sorted({end for end in thresholds if low <= end <= high}):
            axes.axvline(end, color=INK, linewidth=1)
        axes.set_xlim(low, high)
        if is_root:
            axes.set_yscale("function", functions=(np.sqrt, np.square))
        axes.set_ylim(0, 1.05 * float((kept + dropped).max(initial=1)))
        axes.set_yticks([])
        if (
            len(edges) > 1 and edges[-2 if len(edges) > 2 else 0] % 1 == 0.5
        ):  # bins of whole numbers
            axes.locator_params(axis="x", integer=True)
        axes.spines["left"].set_visible(False)
        return _to_svg(figure, name, title)


def shown_range(edges: Array) -> tuple[float, float]:
    """Give the ends of a chart whose outermost bins are drawn as wide as those between them."""
    if len(edges) < 4:  # none between them
        return (float(edges[0]), float(edges[-1])) if len(edges) else (0.0, 1.0)
    width = float(edges[2] - edges[1])
    return max(float(edges[0]), float(edges[1]) - width), min(
        float(edges[-1]), float(edges[-2]) + width
    )


def bin_values(values: Array, *, num_bins: int = 36) -> tuple[Array, Counts]:
    """Count values in even bins; the outermost half percent goes to the outermost bins.

    Returns:
        Edges [B + 1] and counts [B].
    """
    low, high = (float(end) for end in np.quantile(values, [0.005, 0.995]))
    if np.all(values == np.round(values)):  # whole numbers want bins of whole width
        step = int(np.ceil((high - low + 1) / num_bins))
        edges = np.arange(np.floor(low) - 0.5, high + step, step)
    else:
        edges = np.linspace(low, high if high > low else low + 1.0, num_bins + 1)
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    return edges, counts


def draw_curves(
    curves: Sequence[Curve], *, name: str, x_label: str, y_label: str, title: str
) -> str:
    """Draw up to five ordered lines over a common x axis, labelled at their right ends."""
    with _figure(470, 250) as (figure, axes):
        ends: list[tuple[float, Curve, str]] = []
        colors = ORDINAL[-len(curves) :] if len(curves) > 1 else (KEPT,)
        for index, curve in enumerate(curves):
            x, y = thin_curve(curve.x, curve.y)
            color = colors[index]
            axes.plot(x, y, color=color, linewidth=1.4)
            ends.append((float(y[-1]), curve, color))
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.grid(axis="y", color=RULE, linewidth=0.6)
        axes.set_axisbelow(True)
        top = max(float(np.quantile(curve.y, 0.98)) for curve in curves)
        axes.set_ylim(0, top * 1.1)
        axes.set_xlim(left=0)
        if len(curves) > 1:
            _label_ends(axes, ends)
        return _to_svg(figure, name, title)


def draw_intervals(
    rows: Sequence[str], series: Mapping[str, Sequence[Dot | None]], *, name: str, title: str
) -> str:
    """Draw values in [0, 1] with their intervals: one row a metric, one mark a series."""
    height = 40 + 33 * len(rows)
    with _figure(700, height) as (figure, axes):
        for row in range(len(rows)):
            axes.axhline(row + 0.5, color=RULE, linewidth=0.6, zorder=0)
        for index, (label, dots) in enumerate(series.items()):
            shift = (index - (len(series) - 1) / 2) * 0.13  # so that marks do not hide each other
            color, marker = KEPT if index == 0 else MUTED, MARKERS[index % len(MARKERS)]
            for row, dot in enumerate(dots):
                if dot is None:
                    continue
                if dot.low is not None and dot.high is not None:
                    ends = [row + shift, row + shift]
                    axes.plot([dot.low, dot.high], ends, color=color, linewidth=1.4)
                axes.plot(
                    [dot.value],
                    [row + shift],
                    marker,
                    color=color,
                    markersize=5.5 if index == 0 else 4.2,
                    markerfacecolor=color if index == 0 else "white",
                    label=label if row == _first(dots) else None,
                )
        axes.set_yticks(range(len(rows)), rows)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlim(-0.015, 1.015)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1.0])
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.legend(
            loc="lower left",
            bbox_to_anchor=(0, 1.0),
            ncols=6,
            frameon=False,
            handletextpad=0.2,
            columnspacing=1.4,
            borderaxespad=0.1,
        )
        return _to_svg(figure, name, title)


def thin_curve(x: Array, y: Array, max_points: int = _MAX_POINTS) -> tuple[Array, Array]:
    """Average a long curve over equal runs of points, so that its file stays small."""
    if len(x) <= max_points:
        return x, y
    parts = np.array_split(np.arange(len(x)), max_points)
    return (
        np.array([x[part].mean() for part in parts]),
        np.array([y[part].mean() for part in parts]),
    )


def _first(dots: Sequence[Dot | None]) -> int:
    return next((row for row, dot in enumerate(dots) if dot is not None), -1)


def _label_ends(axes: Axes, ends: list[tuple[float, Curve, str]]) -> None:
    """Write each curve's name at its right end, pushed apart so that names do not overlap."""
    low, high = axes.get_ylim()
    gap = (high - low) * 0.062
    last = -np.inf
    for value, curve, color in sorted(ends, key=lambda end: end[0]):
        last = max(value, last + gap)
        axes.annotate(
            curve.label,
            (1, last),
            xycoords=("axes fraction", "data"),
            xytext=(5, 0),
            textcoords="offset points",
            color=color,
            va="center",
        )


@contextmanager
def _figure(width_px: int, height_px: int) -> Generator[tuple[Figure, Axes]]:
    """Open an empty chart in the house style; no pyplot, so no global state is touched."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style: Any = {
        "svg.hashsalt": "latentmill",
        "svg.fonttype": "none",
        "font.family": "DejaVu Sans",  # ships with matplotlib: widths are the same everywhere
        "font.size": 10,
        "text.color": INK,
        "axes.labelcolor": MUTED,
        "axes.edgecolor": MUTED,
        "axes.linewidth": 0.7,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "xtick.major.size": 3,
        "ytick.major.size": 3,
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=(width_px * _PX, height_px * _PX), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure, figure.add_subplot()


def _to_svg(figure: Figure, name: str, title: str) -> str:
    stream = io.StringIO()
    figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
    return _inline(stream.getvalue(), re.sub(r"[^a-z0-9]+", "-", name.lower()), title)


def _inline(svg: str, prefix: str, title: str) -> str:
    """Strip what only a file needs and make every id the chart's own."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', svg)
    svg = re.sub(r'xlink:href="#([^"]+)"', rf'xlink:href="#{prefix}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", svg)
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    label = title.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{label}" class="chart" ', 1)
