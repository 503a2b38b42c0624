"""Prepare the report's second half for the template: losses, sample grid, numbers, truth."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from curate.core.errors import ShardError
from curate.core.schema import KEY, OK, STATUS
from curate.core.shard import ShardSet
from eval.charts import Curve, Dot, draw_curves, draw_intervals
from eval.compositional import ATTRIBUTES
from eval.evidence import DEFAULT_VARIANT
from eval.metrics import Number
from eval.row_stream import order_by_hash, read_columns
from eval.thumbnails import load_thumbnails

LOSSES = "metrics.jsonl"
_MAX_BINS = 5  # curves a chart can carry; chosen by us

# Number -> (group, words). What is not named here is shown under its own name, last.
LABELS: Mapping[str, tuple[str, str]] = {
    "color.f1": ("Composition", "Colour, F1"),
    "color.precision": ("Composition", "Colour, precision"),
    "color.recall": ("Composition", "Colour, recall"),
    "object.f1": ("Composition", "Shape, F1"),
    "object.precision": ("Composition", "Shape, precision"),
    "object.recall": ("Composition", "Shape, recall"),
    "color_object.f1": ("Composition", "Colour + shape, F1"),
    "color_object.precision": ("Composition", "Colour + shape, precision"),
    "color_object.recall": ("Composition", "Colour + shape, recall"),
    "position.f1": ("Composition", "Colour + place, F1"),
    "position.precision": ("Composition", "Colour + place, precision"),
    "position.recall": ("Composition", "Colour + place, recall"),
    "count.accuracy": ("Composition", "Count of objects"),
    "background.accuracy": ("Composition", "Background"),
    "exact_scene": ("Composition", "Exact scene"),
    "unreadable": ("Composition", "Unreadable pictures (less is better)"),
    "clip_similarity": ("Fit to the prompt", "Image-text similarity"),
    "frechet_distance": ("Distance to real pictures (less is better)", "Frechet distance"),
    "frechet_distance_corrected": (
        "Distance to real pictures (less is better)",
        "Frechet distance, bias-corrected",
    ),
    "kernel_distance": ("Distance to real pictures (less is better)", "Kernel distance"),
    "kernel_distance_biased": (
        "Distance to real pictures (less is better)",
        "Kernel distance, biased form",
    ),
}
_CHARTED = (
    "color.f1",
    "object.f1",
    "color_object.f1",
    "position.f1",
    "count.accuracy",
    "background.accuracy",
    "exact_scene",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LossView:
    """Hold the two loss charts and the last loss."""

    total_svg: str
    bins_svg: str
    last: float
    samples_seen: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnView:
    """Hold one drawn picture and what was read in it."""

    variant: str
    uri: str
    verdict: str
    is_exact: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptView:
    """Lay out one prompt with the pictures of each variant."""

    prompt: str
    pictures: Sequence[DrawnView]


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberRow:
    """Lay out one number over all variants; None where it was not measured."""

    label: str
    name: str
    cells: Sequence[Number | None]
    best: Number


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberGroup:
    """Hold the rows under one heading."""

    title: str
    rows: Sequence[NumberRow]


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodRow:
    """Say how the numbers with these names were measured."""

    names: Sequence[str]
    method: str
    note: str
    extractor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NumbersView:
    """Hold the tables of numbers and the chart of rates.

    Args:
        variants: (name, number of pictures), across the tables.
        groups: the headline numbers, down the first table.
        details: precision and recall, down the second.
        methods: how each was measured.
        svg: chart of the rates; "" without any.
    """

    variants: Sequence[tuple[str, int]]
    groups: Sequence[NumberGroup]
    details: Sequence[NumberRow]
    methods: Sequence[MethodRow]
    svg: str


def view_losses(train: ShardSet | None) -> LossView | None:
    """Draw the loss in total and by timestep bin."""
    lines = read_losses(train)
    if not lines:
        return None
    seen = np.array([line["samples_seen"] for line in lines], np.float64)
    total = np.array([line["loss"] for line in lines], np.float64)
    label = "pictures seen"
    if seen[-1] >= 10_000:
        seen, label = seen / 1000, "pictures seen, thousands"
    bins = _bin_curves(lines, seen)
    return LossView(
        total_svg=draw_curves(
            [Curve(label="all t", x=seen, y=total)],
            name="loss-total",
            x_label=label,
            y_label="loss",
            title="Training loss over pictures seen",
        ),
        bins_svg=draw_curves(
            bins,
            name="loss-bins",
            x_label=label,
            y_label="loss",
            title="Training loss by timestep over pictures seen",
        )
        if bins
        else "",
        last=float(total[-1]),
        samples_seen=int(lines[-1]["samples_seen"]),
    )


def read_losses(train: ShardSet | None) -> list[dict[str, Any]]:
    """Read the lines of metrics.jsonl that carry a loss.

    Raises:
        ShardError: a line is no JSON.
    """
    if train is None or not train.store.exists(LOSSES):
        return []
    try:
        text = train.store.read(LOSSES).decode()
        lines = [json.loads(line) for line in text.splitlines() if line.strip()]
    except ValueError as error:
        raise ShardError(
            f"{train.url}/{LOSSES}: must hold one JSON object a line, got {error}; rerun train"
        ) from error
    return [line for line in lines if line.get("loss") is not None and "samples_seen" in line]


def view_samples(
    sample: ShardSet | None, evaluate: ShardSet | None, limit: int, side_px: int
) -> list[PromptView]:
    """Show prompts chosen by hash (not by success) with a picture of each variant.

    Prompts that every variant has drawn come first, so that pictures can be compared.
    """
    columns = [KEY, STATUS, "variant", "prompt", "prompt_key"]
    table = read_columns(sample, columns)
    if table is None or "prompt" not in table.column_names:
        return []
    drawn: dict[str, dict[str, str]] = {}
    prompts: dict[str, str] = {}
    for row in table.to_pylist():
        if row[STATUS] == OK:
            name = row.get("prompt_key") or row["prompt"] or ""
            prompts[name] = row["prompt"] or ""
            drawn.setdefault(name, {}).setdefault(row.get("variant") or DEFAULT_VARIANT, row[KEY])
    chosen = sorted(order_by_hash(drawn), key=lambda name: -len(drawn[name]))[:limit]
    uris = load_thumbnails(
        sample, {key for name in chosen for key in drawn[name].values()}, side_px
    )
    verdicts = read_picture_scores(evaluate)
    views: list[PromptView] = []
    for name in chosen:
        pictures = [
            DrawnView(
                variant=variant,
                uri=uris.get(key, ""),
                verdict=describe_score(verdicts.get(key)),
                is_exact=bool(verdicts.get(key, {}).get("exact")),
            )
            for variant, key in drawn[name].items()
        ]
        views.append(PromptView(prompt=prompts[name], pictures=pictures))
    return views


def read_picture_scores(evaluate: ShardSet | None) -> dict[str, dict[str, Any]]:
    """Read the per-picture scores of an evaluation by key."""
    columns = [KEY, "readable", "exact", "count"]
    columns += [f"{name}.{part}" for name in ATTRIBUTES for part in ("hits", "misses")]
    table = read_columns(evaluate, columns)
    return {row[KEY]: row for row in table.to_pylist()} if table is not None else {}


def describe_score(score: Mapping[str, Any] | None) -> str:
    """Put one picture's score in a few words; "" where nothing was scored."""
    if score is None or score.get("exact") is None:
        return ""
    if not score["readable"]:
        return "unreadable"
    if score["exact"]:
        return "exact scene"
    asked = score["color.hits"] + score["color.misses"]
    return (
        f"colour {score['color.hits']}, shape {score['color_object.hits']}, "
        f"place {score['position.hits']} of {asked}"
    )


def view_numbers(numbers: Sequence[Number]) -> NumbersView | None:
    """Arrange the numbers in groups, one column a variant."""
    if not numbers:
        return None
    variants = list(dict.fromkeys(number.variant for number in numbers))
    if "real" in variants:  # what to aim for stands last, beside the controls
        variants = [*(name for name in variants if name != "real"), "real"]
    by_name: dict[str, dict[str, Number]] = {}
    for number in numbers:
        by_name.setdefault(number.name, {})[number.variant] = number
    groups: dict[str, list[NumberRow]] = {}
    details: list[NumberRow] = []
    order = list(LABELS)
    ranked = sorted(
        by_name, key=lambda n: order.index(_stem(n)) if _stem(n) in LABELS else len(order)
    )
    for name in ranked:
        title, label = LABELS.get(_stem(name), ("Other", name))
        cells = [by_name[name].get(variant) for variant in variants]
        best = next(cell for cell in cells if cell is not None)
        row = NumberRow(label=label, name=name, cells=cells, best=best)
        is_detail = name.endswith((".precision", ".recall"))
        (details if is_detail else groups.setdefault(title, [])).append(row)
    headline = [row for rows in groups.values() for row in rows]
    return NumbersView(
        variants=[(variant, _num_pictures(numbers, variant)) for variant in variants],
        groups=[NumberGroup(title=title, rows=rows) for title, rows in groups.items()],
        details=details,
        methods=_join_methods([*headline, *details]),
        svg=_draw_rates(by_name, variants),
    )


def _num_pictures(numbers: Sequence[Number], variant: str) -> int:
    """Take the largest N of a variant's numbers, but not of those that count objects."""
    return max(
        (
            number.n
            for number in numbers
            if number.variant == variant and not number.name.endswith((".precision", ".recall"))
        ),
        default=0,
    )


def _join_methods(rows: Sequence[NumberRow]) -> list[MethodRow]:
    """Write each way of measuring once, with all numbers that came about by it."""
    names: dict[tuple[str, str, str], list[str]] = {}
    for row in rows:
        missing = [
            f"{cell.variant} not measured: {cell.note}"
            for cell in row.cells
            if cell is not None and cell.value is None
        ]
        note = "; ".join([*([row.best.note] if row.best.value is not None else []), *missing])
        names.setdefault((row.best.method, note, row.best.extractor), []).append(row.name)
    return [
        MethodRow(names=group, method=method, note=note, extractor=extractor)
        for (method, note, extractor), group in names.items()
    ]


def _draw_rates(by_name: Mapping[str, Mapping[str, Number]], variants: Sequence[str]) -> str:
    names = [name for name in _CHARTED if name in by_name]
    if not names:
        return ""
    series: dict[str, list[Dot | None]] = {}
    for variant in variants:
        dots = [_dot(by_name[name].get(variant)) for name in names]
        if any(dots):
            series[variant] = dots
    return draw_intervals(
        [LABELS[name][1] for name in names],
        series,
        name="rates",
        title="Compositional scores with 95 % intervals, models and controls",
    )


def _dot(number: Number | None) -> Dot | None:
    if number is None or number.value is None:
        return None
    return Dot(value=number.value, low=number.low, high=number.high)


def _stem(name: str) -> str:
    return name.partition("[")[0]


def _bin_curves(lines: Sequence[Mapping[str, Any]], seen: np.ndarray) -> list[Curve]:
    """Join neighbouring timestep bins until a chart can carry them."""
    num_bins = len(lines[0].get("loss_bins") or ())
    if num_bins < 2:
        return []
    values = np.array(
        [[np.nan if value is None else value for value in line["loss_bins"]] for line in lines]
    )  # [lines, bins]
    curves: list[Curve] = []
    for part in np.array_split(np.arange(num_bins), min(num_bins, _MAX_BINS)):
        block = values[:, part]
        known = np.isfinite(block)
        rows = known.any(axis=1)
        if not rows.any():
            continue
        mean = np.where(known, block, 0).sum(axis=1)[rows] / known.sum(axis=1)[rows]
        low, high = part[0] / num_bins, (part[-1] + 1) / num_bins
        curves.append(Curve(label=f"t {low:.1f} to {high:.1f}", x=seen[rows], y=mean))
    return curves
