"""Count how many samples would survive other thresholds of filter; nothing is run again or written.

    filter's marker (config, cuts) + swept thresholds + the columns that rules judge, shard by shard
        -> for every swept threshold: survivors with all other rules as they were in the run
        -> for every combination of swept thresholds: survivors with the unswept rules as they were

A score falls into the bin of the strictest threshold it still passes, so one histogram over all
swept scores and a running sum along each of its axes count every combination at once. A swept share
(`top_frac`) is turned into scores first, over all shards. Arrays are [A, N]: A axes by N rows.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.core.errors import ConfigError, DataError, StageError
from curate.core.manifest import SUMMARY
from curate.core.shard import ShardSet
from curate.core.store import Store
from curate.stages.filtering.columns import (
    LANGUAGE,
    find_ok,
    find_places,
    read_columns,
    shards_of_all,
)
from curate.stages.filtering.config import Bounds, FilterConfig
from curate.stages.filtering.cuts import ALL, Cuts, columns_of_tops, find_cuts, split_scores
from curate.stages.filtering.precision import in_precision_of
from curate.stages.filtering.quantiles import Group
from curate.stages.filtering.rules import RULES
from curate.stages.filtering.rules_in_force import RuleInForce, columns_of, put_in_force
from curate.stages.filtering.score_rule import PASSED, ScoreRule, score_rule
from curate.stages.filtering.verdicts import CUTS, finished_config, judge
from pipelines.inspect import open_inputs, read_run
from pipelines.sweep_axes import TOP_FRAC, Axis, parse_axes

SweptCuts = Mapping[str, Mapping[str, Sequence[float]]]
"""Rule -> language, or "" over all -> the cut of each swept share."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    """Hold the run's rules with some ends opened, and where these axes place a row."""

    axes: Sequence[Axis]
    rules: Sequence[RuleInForce]
    opened: Mapping[str, ScoreRule]
    bounds: Mapping[str, Bounds]  # of the opened rules

    def survivors(
        self, table: pa.Table, is_ok: NDArray[np.bool_], cuts: SweptCuts
    ) -> NDArray[np.int64]:
        """Count the rows by the strictest thresholds they pass, one axis for each of `axes`."""
        passed = is_ok & (judge(self.rules, table) == PASSED).all(axis=0)
        chosen = table.filter(pa.array(passed))
        places = [self._place(axis, chosen, cuts) for axis in self.axes]
        return _histogram(places, tuple(len(axis.thresholds) for axis in self.axes))

    def _place(self, axis: Axis, table: pa.Table, cuts: SweptCuts) -> NDArray[np.int64]:
        """Give the index of the strictest threshold that each row passes, outside if none: [N].

        A row that the axis does not concern (its language has another threshold) passes them all.
        """
        scores = self.opened[axis.rule].scores(table)
        if axis.end == TOP_FRAC:
            return _place_by_share(axis, scores, table, cuts[axis.rule])
        strictest = len(axis.thresholds) - 1 if axis.strictest_last else 0
        concerned = _concerns(axis, list(self.bounds[axis.rule].languages()), table)
        kind = table.schema.field(self.opened[axis.rule].column).type
        thresholds = in_precision_of(kind, axis.thresholds)
        return np.where(concerned, _place_scores(axis, thresholds, scores), strictest)


def sweep(out: Store, arguments: Sequence[str]) -> Sweep:
    """Count survivors at every swept threshold and at every combination of them.

    Args:
        out: folder of a run whose filter stage is finished.
        arguments: "filter.RULE.END=VALUES", see `sweep_axes.py`.

    Raises:
        ConfigError: as `parse_axes`, or a column that was not measured.
        DataError: filter is not finished.
    """
    axes = parse_axes(arguments)
    config, run_cuts = _read_run(out)
    inputs = open_inputs(out)
    try:
        return _count(axes, config, run_cuts, inputs)
    except StageError as error:
        raise ConfigError(str(error)) from error


def _count(
    axes: tuple[Axis, ...], config: FilterConfig, run_cuts: Cuts, inputs: Mapping[str, ShardSet]
) -> Sweep:
    shards = shards_of_all(inputs)
    cuts = _find_swept_cuts(axes, config, inputs, shards)
    run_rules = put_in_force(config, run_cuts)
    alone = {axis.key: _open(config, run_cuts, [axis]) for axis in axes}
    together = _open(config, run_cuts, axes)
    counts = {axis.key: np.zeros(len(axis.thresholds), np.int64) for axis in axes}
    joint = np.zeros(tuple(len(axis.thresholds) for axis in axes), np.int64)
    wanted = columns_of([*run_rules, *together.rules])
    num_samples = num_kept = 0
    for shard in shards:
        table = read_columns(inputs, shard, wanted)
        is_ok = find_ok(table)
        num_samples += len(is_ok)
        num_kept += int((is_ok & (judge(run_rules, table) == PASSED).all(axis=0)).sum())
        for axis in axes:
            counts[axis.key] += alone[axis.key].survivors(table, is_ok, cuts)
        joint += together.survivors(table, is_ok, cuts)
    return Sweep(
        axes=axes,
        num_samples=num_samples,
        num_kept=num_kept,
        kept={axis.key: _accumulate(counts[axis.key], [axis]) for axis in axes},
        combinations=_accumulate(joint, axes),
    )


def _read_run(out: Store) -> tuple[FilterConfig, Cuts]:
    """Read what the finished run was asked, and its cuts; its markers all have the same."""
    verdicts = ShardSet(out.child("filter"))
    shards = verdicts.shards()
    read_run(out)
    if not shards or not verdicts.store.exists(SUMMARY):
        raise DataError(
            f"{verdicts.url}: must be a finished stage, got {len(shards)} shards and no end; "
            f"run `curate run stage=filter out={out.url}`"
        )
    config = finished_config(verdicts, shards[0])
    return config, verdicts.marker(shards[0]).identity.params.get(CUTS, {})


def _find_swept_cuts(
    axes: Sequence[Axis],
    config: FilterConfig,
    inputs: Mapping[str, ShardSet],
    shards: Sequence[str],
) -> SweptCuts:
    shares = {axis.rule: axis.thresholds for axis in axes if axis.end == TOP_FRAC}
    tops = {rule: _bounds(config, rule) for rule in shares}
    wanted = columns_of_tops(tops)

    def read() -> Iterator[tuple[Group, NDArray[np.float64]]]:
        for shard in shards:
            yield from split_scores(read_columns(inputs, shard, wanted), tops)

    return find_cuts(read, shares, config.quantile_mode) if shares else {}


def _open(config: FilterConfig, cuts: Cuts, axes: Sequence[Axis]) -> _Opened:
    """Put the run's rules into force without the ends that are swept.

    An opened rule still refuses the unmeasured; a rule that is off and not opened refuses nothing.
    """
    names = dict.fromkeys(axis.rule for axis in axes)
    opened: dict[str, ScoreRule] = {}
    bounds: dict[str, Bounds] = {}
    for name in names:
        own = [axis for axis in axes if axis.rule == name]
        is_share_open = any(axis.end == TOP_FRAC for axis in own)
        bounds[name] = _loosen(_bounds(config, name), own)
        opened[name] = score_rule(name, bounds[name], {} if is_share_open else cuts.get(name, {}))
    others = [rule for rule in put_in_force(config, cuts) if rule.name not in names]
    return _Opened(axes=axes, rules=[*others, *opened.values()], opened=opened, bounds=bounds)


def _loosen(bounds: Bounds, axes: Sequence[Axis]) -> Bounds:
    """Open the swept ends; a swept language keeps its own entry, which then bounds nothing."""
    changes: dict[str, Any] = {axis.end: None for axis in axes if not axis.code}
    open_ends = {axis.code: -math.inf if axis.is_low else math.inf for axis in axes if axis.code}
    return dataclasses.replace(bounds, **changes, by_language={**bounds.by_language, **open_ends})


def _bounds(config: FilterConfig, rule: str) -> Bounds:
    return getattr(config, rule)


def _place_scores(
    axis: Axis, thresholds: NDArray[np.float64], scores: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Give the index of the strictest threshold that each score passes, outside if it passes none.

    Thresholds ascend: the strictest `min` passed is the last one <= score, the strictest `max`
    passed the first one >= score. Both are inclusive, as in `ScoreRule`.
    """
    if axis.strictest_last:
        return np.searchsorted(thresholds, scores, side="right") - 1  # -1: none
    return np.searchsorted(thresholds, scores, side="left")  # len(thresholds): none


def _concerns(axis: Axis, codes: Sequence[str], table: pa.Table) -> NDArray[np.bool_]:
    """Tell which rows an axis bounds, given the languages with a threshold of their own: [N]."""
    if axis.code:
        return find_places(table[LANGUAGE], codes) == codes.index(axis.code)
    if codes and axis.is_low == (RULES[axis.rule].better == "high"):
        return find_places(table[LANGUAGE], codes) == len(codes)
    return np.ones(table.num_rows, bool)


def _place_by_share(
    axis: Axis, scores: NDArray[np.float64], table: pa.Table, cuts: Mapping[str, Sequence[float]]
) -> NDArray[np.int64]:
    """Give the index of the smallest share that each score is among: its cut is the strictest."""
    sign = -1.0 if axis.is_low else 1.0  # cuts of growing shares fall where they bound from below
    if ALL in cuts or not cuts:
        return np.searchsorted(sign * np.array(cuts.get(ALL, ())), sign * scores, side="left")
    places = np.full(len(scores), len(axis.thresholds), np.int64)
    codes = find_places(table[LANGUAGE], list(cuts))
    for number, values in enumerate(cuts.values()):
        own = codes == number
        places[own] = np.searchsorted(sign * np.array(values), sign * scores[own], side="left")
    return places


def _histogram(places: Sequence[NDArray[np.int64]], shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Count the rows at each combination of places [A, N]; rows that pass none are left out."""
    stacked, sizes = np.array(places), np.array(shape)[:, None]
    inside = ((stacked >= 0) & (stacked < sizes)).all(axis=0)
    flat = np.ravel_multi_index(tuple(stacked[:, inside]), shape)
    return np.bincount(flat, minlength=int(sizes.prod())).reshape(shape)


def _accumulate(histogram: NDArray[np.int64], axes: Sequence[Axis]) -> NDArray[np.int64]:
    """Turn counts by strictest threshold into survivors: who passes a strict one passes laxer."""
    counts = histogram
    for number, axis in enumerate(axes):
        if axis.strictest_last:
            counts = np.flip(np.flip(counts, number).cumsum(number), number)
        else:
            counts = counts.cumsum(number)
    return counts
