"""Count how many samples would survive other thresholds of filter; nothing is run again or written.

    filter's marker (resolved config) + swept thresholds + annotate's columns, shard by shard
        -> for every swept threshold: survivors with all other rules as they were in the run
        -> for every combination of swept thresholds: survivors with the unswept rules as they were

A score falls into the bin of the strictest threshold it still passes, so one histogram over all
swept scores and a running sum along each of its axes count every combination at once. Arrays are
[A, N]: A swept thresholds' keys (axes) by N rows.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from curate.core.errors import ConfigError, DataError, StageError
from curate.core.manifest import SUMMARY
from curate.core.shard import ShardSet
from curate.core.store import Store
from curate.stages.filter import (
    PASSED,
    RULES,
    Bounds,
    FilterConfig,
    check_threshold,
    find_ok,
    finished_config,
    judge,
    measured_scores,
    read_measured,
)
from pipelines.inspect import read_run

# Chosen by us: what one can take in at a glance, and an array of 8 MB.
MAX_LINES = 50
MAX_COMBINATIONS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """Hold the thresholds that one end of a rule is swept through, ascending."""

    rule: str
    end: Literal["min", "max"]
    thresholds: tuple[float, ...]

    @property
    def key(self) -> str:
        """Give the config key, e.g. "filter.similarity.min"."""
        return f"filter.{self.rule}.{self.end}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """Count the survivors of swept thresholds.

    Args:
        axes: what was swept, in the order asked for.
        num_samples: rows of annotate's tables, those that failed before too.
        num_kept: survivors of the thresholds that the finished run had.
        kept: config key -> survivors at each of its thresholds, all other rules as in the run.
        combinations: survivors at each combination, one axis for each of `axes`; rules that are
            not swept as in the run.
    """

    axes: tuple[Axis, ...]
    num_samples: int
    num_kept: int
    kept: Mapping[str, NDArray[np.int64]]
    combinations: NDArray[np.int64]


def sweep(out: Store, arguments: Sequence[str]) -> Sweep:
    """Count survivors at every swept threshold and at every combination of them.

    Args:
        out: folder of a run whose filter stage is finished.
        arguments: "filter.RULE.min=VALUES" or ".max="; VALUES is `low:high:step` (inclusive of
            high), a comma list, or one value.

    Raises:
        ConfigError: bad syntax, an unknown rule, a threshold out of range, a column that was not
            measured, or more than MAX_COMBINATIONS combinations.
        DataError: filter is not finished.
    """
    axes = parse_axes(arguments)
    config = _read_config(out)
    annotated = ShardSet(out.child("annotate"))
    needed = {*config.active_rules(), *(axis.rule for axis in axes)}
    rules = [rule for rule in RULES if rule in needed]
    shape = tuple(len(axis.thresholds) for axis in axes)
    num_samples, num_kept = 0, 0
    alone = {axis.key: np.zeros(len(axis.thresholds), np.int64) for axis in axes}
    joint = np.zeros(shape, np.int64)
    for shard in annotated.shards():
        scores, is_ok = _read(annotated, shard, rules)
        places = np.array([_place(axis, scores[rules.index(axis.rule)]) for axis in axes])
        num_samples += len(is_ok)
        num_kept += int((is_ok & _pass_fixed(scores, rules, config, [])).sum())
        for axis, place in zip(axes, places, strict=True):
            others = is_ok & _pass_fixed(scores, rules, config, [axis])
            alone[axis.key] += _histogram(place[None, others], (len(axis.thresholds),))
        fixed = is_ok & _pass_fixed(scores, rules, config, axes)
        joint += _histogram(places[:, fixed], shape)
    return Sweep(
        axes=axes,
        num_samples=num_samples,
        num_kept=num_kept,
        kept={axis.key: _accumulate(alone[axis.key], [axis]) for axis in axes},
        combinations=_accumulate(joint, axes),
    )


def parse_axes(arguments: Sequence[str]) -> tuple[Axis, ...]:
    """Read what is swept.

    Raises:
        ConfigError: as `sweep`.
    """
    axes: dict[str, Axis] = {}
    for text in arguments:
        axis = _parse_axis(text)
        if axis.key in axes:
            raise ConfigError(f"{axis.key}: must be given once, got it twice; join the values")
        axes[axis.key] = axis
    if not axes:
        raise ConfigError(
            "sweep: needs a threshold to sweep, got none; write filter.similarity.min=0.2:0.4:0.02"
        )
    num_combinations = 1
    for axis in axes.values():
        num_combinations *= len(axis.thresholds)
    if num_combinations > MAX_COMBINATIONS:
        raise ConfigError(
            f"sweep: must have at most {MAX_COMBINATIONS:,} combinations, "
            f"got {num_combinations:,}; sweep fewer keys or take larger steps"
        )
    return tuple(axes.values())


def describe_sweep(found: Sweep) -> list[str]:
    """Give the lines to print: a table for each key, and the first combinations of several."""
    lines = [
        f"{found.num_samples:,} samples; the thresholds of the run keep "
        f"{found.num_kept:,} ({_percent(found.num_kept, found.num_samples)})"
    ]
    for axis in found.axes:
        counts = [int(count) for count in found.kept[axis.key]]
        rows = zip(axis.thresholds, counts, strict=True)
        lines += ["", f"{axis.key}, all other rules as in the run"]
        lines += _table([((f"{value:.12g}",), kept) for value, kept in rows], ["threshold"], found)
    if len(found.axes) > 1:
        rows = list(itertools.islice(_combinations(found), MAX_LINES))
        lines += ["", "all combinations, the rules that are not swept as in the run"]
        lines += _table(
            [(tuple(f"{value:.12g}" for value in values), kept) for values, kept in rows],
            [f"{axis.rule}.{axis.end}" for axis in found.axes],
            found,
        )
        if found.combinations.size > MAX_LINES:
            lines.append(
                f"... the first {MAX_LINES} of {found.combinations.size:,}; csv=PATH writes all"
            )
    return lines


def write_combinations(found: Sweep, path: Path) -> None:
    """Write every combination as CSV: a column for each key, `kept` and `kept_frac`."""
    with path.open("w", newline="", encoding="ascii") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([*(axis.key for axis in found.axes), "kept", "kept_frac"])
        for values, kept in _combinations(found):
            writer.writerow([*values, kept, kept / max(found.num_samples, 1)])


def _parse_axis(text: str) -> Axis:
    key, _, values = text.partition("=")
    section, _, name = key.partition(".")
    rule, _, end = name.partition(".")
    if section != "filter" or rule not in RULES or end not in ("min", "max"):
        raise ConfigError(
            f"{key}: must be filter.RULE.min or filter.RULE.max, with RULE among "
            f"{', '.join(RULES)}, got {text!r}; fix the key"
        )
    parts = values.split(":")
    if len(parts) not in (1, 3) or (len(parts) == 3 and "," in values):
        raise ConfigError(
            f"{key}: must be low:high:step, a comma list or one value, got {values!r}; "
            f"write e.g. {key}=0.2:0.4:0.02"
        )
    numbers = [_number(key, part) for part in (parts if len(parts) == 3 else values.split(","))]
    for number in numbers[:2] if len(parts) == 3 else numbers:
        check_threshold(rule, end, float(number))
    steps = _steps(key, *numbers) if len(parts) == 3 else numbers
    return Axis(rule=rule, end=end, thresholds=tuple(sorted({float(value) for value in steps})))


def _number(key: str, text: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or (number and abs(number.adjusted()) > 12):  # keeps sums exact
        raise ConfigError(f"{key}: must be plain numbers, got {text!r}; fix the value")
    return number


def _steps(key: str, low: Decimal, high: Decimal, step: Decimal) -> Iterator[Decimal]:
    """Count in decimals, as the user does: 0.2:0.34:0.02 ends at 0.34 and has 0.26 in it."""
    if step <= 0 or low > high:
        raise ConfigError(
            f"{key}: low:high:step needs low <= high and step > 0, got {low}:{high}:{step}; "
            "fix the value"
        )
    if (high - low) / step >= MAX_COMBINATIONS:
        raise ConfigError(
            f"{key}: must have at most {MAX_COMBINATIONS:,} steps, got {low}:{high}:{step}; "
            "take larger steps"
        )
    return (low + index * step for index in range(int((high - low) / step) + 1))


def _read_config(out: Store) -> FilterConfig:
    """Read the thresholds of the finished run; its markers all have the same."""
    verdicts = ShardSet(out.child("filter"))
    shards = verdicts.shards()
    read_run(out)
    if not shards or not verdicts.store.exists(SUMMARY):
        raise DataError(
            f"{verdicts.url}: must be a finished stage, got {len(shards)} shards and no end; "
            f"run `curate run stage=filter out={out.url}`"
        )
    return finished_config(verdicts, shards[0])


def _read(
    annotated: ShardSet, shard: str, rules: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Give the scores of the rules [R, N] and which rows have the status ok [N]."""
    try:
        table = read_measured(annotated, shard, rules)
    except StageError as error:
        raise ConfigError(str(error)) from error
    return measured_scores(table, rules), find_ok(table)


def _pass_fixed(
    scores: NDArray[np.float64], rules: Sequence[str], config: FilterConfig, opened: Sequence[Axis]
) -> NDArray[np.bool_]:
    """Tell which rows pass the run's thresholds but for the opened ends [N].

    An opened rule still refuses the unmeasured; a rule that is off and not opened refuses nothing.
    """
    chosen: list[int] = []
    bounds: list[Bounds] = []
    for index, rule in enumerate(rules):
        ends = {axis.end for axis in opened if axis.rule == rule}
        item: Bounds = getattr(config, rule)
        if item.active or ends:
            low, high = None if "min" in ends else item.min, None if "max" in ends else item.max
            chosen.append(index)
            bounds.append(Bounds(min=low, max=high))
    return (judge(scores[chosen], bounds) == PASSED).all(axis=0)


def _place(axis: Axis, scores: NDArray[np.float64]) -> NDArray[np.int64]:
    """Give the index of the strictest threshold that each score passes, outside if it passes none.

    Thresholds ascend: the strictest `min` passed is the last one <= score, the strictest `max`
    passed the first one >= score. Both are inclusive, as in `judge`.
    """
    if axis.end == "min":
        return np.searchsorted(axis.thresholds, scores, side="right") - 1  # -1: none
    return np.searchsorted(axis.thresholds, scores, side="left")  # len(thresholds): none


def _histogram(places: NDArray[np.int64], shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Count the rows at each combination of places [A, N]; rows that pass none are left out."""
    sizes = np.array(shape)[:, None]
    inside = ((places >= 0) & (places < sizes)).all(axis=0)
    flat = np.ravel_multi_index(tuple(places[:, inside]), shape)
    return np.bincount(flat, minlength=int(sizes.prod())).reshape(shape)


def _accumulate(histogram: NDArray[np.int64], axes: Sequence[Axis]) -> NDArray[np.int64]:
    """Turn counts by strictest threshold into survivors: who passes a strict one passes laxer."""
    counts = histogram
    for number, axis in enumerate(axes):
        if axis.end == "min":
            counts = np.flip(np.flip(counts, number).cumsum(number), number)
        else:
            counts = counts.cumsum(number)
    return counts


def _combinations(found: Sweep) -> Iterator[tuple[tuple[float, ...], int]]:
    """Yield thresholds and survivors, the last key's thresholds running fastest."""
    values = itertools.product(*(axis.thresholds for axis in found.axes))
    return zip(values, (int(count) for count in found.combinations.flat), strict=True)


def _table(
    rows: Sequence[tuple[tuple[str, ...], int]], heads: Sequence[str], found: Sweep
) -> list[str]:
    cells = [[*heads, "kept", "kept %"]]
    cells += [[*names, f"{kept:,}", _percent(kept, found.num_samples)] for names, kept in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    return [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in cells
    ]


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / max(whole, 1):.2f} %"
