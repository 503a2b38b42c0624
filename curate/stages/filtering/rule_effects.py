"""Say what each rule of a finished filter does: histogram, threshold, nearest samples, groups.

    verdicts + the columns that rules judge, shard by shard, twice
        pass 1: bins of each score, the common hosts and languages
        pass 2: histograms, the samples nearest to each threshold, counts by group

For the report, which draws it. Memory does not grow with the number of samples. Rules are in the
order of judgement; "before" counts what all earlier rules let pass, "after" what this one does too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.core.schema import KEY, STATUS
from curate.core.shard import ShardSet
from curate.core.top_counter import TopCounter
from curate.stages.filtering.columns import find_ok, read_columns
from curate.stages.filtering.rules_in_force import RuleInForce, columns_of
from curate.stages.filtering.sample_groups import (
    NUM_HOSTS,
    Grouping,
    columns_to_group,
    group_by_size,
    group_by_value,
)
from curate.stages.filtering.score_bins import ScoreBins
from curate.stages.filtering.score_rule import OUTSIDE, PASSED, UNMEASURED, ScoreRule
from curate.stages.filtering.verdicts import finished_rules, read_outcomes

NUM_NEAREST = 10  # chosen by us: a row of thumbnails
_MAX_LANGUAGES = 200  # lid.176 knows 176


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """Point at a sample near a threshold.

    Args:
        distance: of its score to the nearest end of what passes.
        is_decided: whether no other rule drops it, so that this threshold decides.
    """

    key: str
    shard: str
    score: float
    distance: float
    is_decided: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupCount:
    """Count a group's samples before and after a rule."""

    name: str
    before: int
    after: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RuleEffect:
    """Say what one rule does.

    Args:
        rule: its name, and the reason it gives.
        columns: that it reads; the first is the score's, where it has one.
        thresholds: score and words of each threshold, e.g. (0.28, ">= 0.28 (en)"); none where the
            rule holds no number.
        words: what must hold, in languages without a threshold of their own.
        edges: [B + 1], of the histogram, even but for the outermost two bins (`score_bins.py`);
            empty without scores.
        kept, dropped: [B], samples by score that this rule lets pass and does not.
        num_passed, num_outside, num_unmeasured: of all good samples, by this rule alone.
        nearest_kept, nearest_dropped: nearest first; those that this rule decides come first.
        groups: kind -> counts in the order of judgement, largest group first.
    """

    rule: str
    columns: tuple[str, ...]
    thresholds: tuple[tuple[float, str], ...]
    words: str
    edges: NDArray[np.float64]
    kept: NDArray[np.int64]
    dropped: NDArray[np.int64]
    num_passed: int
    num_outside: int
    num_unmeasured: int
    nearest_kept: tuple[Neighbour, ...]
    nearest_dropped: tuple[Neighbour, ...]
    groups: Mapping[str, tuple[GroupCount, ...]]


def measure_effects(inputs: Mapping[str, ShardSet], verdicts: ShardSet) -> list[RuleEffect]:
    """Measure every active rule of a finished filter stage; none without finished shards.

    Args:
        inputs: the stages whose columns filter judged: annotate, ingest, repeats.
        verdicts: filter's shards.

    Raises:
        ShardError, StageError: as `read_columns`.
    """
    shards = verdicts.shards()
    rules = finished_rules(verdicts, shards[0]) if shards else []
    if not rules:
        return []
    reader = _Reader(inputs=inputs, verdicts=verdicts, rules=rules, shards=shards)
    edges, groupings = _look_over(reader)
    found = [_Effect(rule=rule, edges=own, groupings=groupings)
             for rule, own in zip(rules, edges, strict=True)]  # fmt: skip
    for shard, table, outcomes in reader.read():
        failed = outcomes != PASSED
        alive = np.ones(table.num_rows, bool)
        places = [grouping.places(table) for grouping in groupings]
        for index, effect in enumerate(found):
            others = failed.sum(axis=0) - failed[index] > 0
            effect.add(shard, table, outcomes[index], ~others)
            survives = alive & ~failed[index]
            effect.count_groups(places, alive, survives)
            alive = survives
    return [effect.finish() for effect in found]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reader:
    """Read the good samples of every shard, with what the rules read and what groups them."""

    inputs: Mapping[str, ShardSet]
    verdicts: ShardSet
    rules: Sequence[RuleInForce]
    shards: Sequence[str]

    def kinds(self) -> dict[str, str]:
        """Give the column of each kind of group."""
        schemas = {
            name: self.inputs[name].schema(self.shards[0]).names if name in self.inputs else []
            for name in ("annotate", "ingest")
        }
        return columns_to_group(schemas["annotate"], schemas["ingest"])

    def read(self) -> Iterator[tuple[str, pa.Table, NDArray[np.uint8]]]:
        """Yield (shard, columns, outcomes [R, N]) of the samples with the status ok."""
        kinds = {column: f"report by {kind}" for kind, column in self.kinds().items()}
        wanted = {**kinds, **columns_of(self.rules)}
        names = [rule.name for rule in self.rules]
        for shard in self.shards:
            judged = self.verdicts.table(shard, [KEY, STATUS, "failed_rules"])
            is_ok = pa.array(find_ok(judged))
            table = read_columns(self.inputs, shard, wanted).filter(is_ok)
            yield shard, table, read_outcomes(judged.filter(is_ok), names)


def _look_over(reader: _Reader) -> tuple[list[NDArray[np.float64]], list[Grouping]]:
    """Find the bins of each rule's scores, and the groups."""
    bins = [ScoreBins() for _ in reader.rules]
    kinds = reader.kinds()
    values = {kind: TopCounter() for kind in ("language", "host") if kind in kinds}
    for _, table, _ in reader.read():
        for rule, own in zip(reader.rules, bins, strict=True):
            own.add(table[KEY], rule.scores(table))
        for kind, counter in values.items():
            counter.add(table[kinds[kind]])
    limits = {"language": _MAX_LANGUAGES, "host": NUM_HOSTS}
    groupings = [
        group_by_value(kind, kinds[kind], [n for n, _ in counter.most_common(limits[kind])])
        for kind, counter in values.items()
    ]
    edges = [
        own.edges([score for score, _ in _thresholds(rule)])
        for rule, own in zip(reader.rules, bins, strict=True)
    ]
    return edges, groupings + ([group_by_size(kinds["size"])] if "size" in kinds else [])


@dataclass(slots=True, kw_only=True)
class _Effect:
    """Add up what one rule does, shard by shard."""

    rule: RuleInForce
    edges: NDArray[np.float64]
    groupings: Sequence[Grouping]
    kept: NDArray[np.int64] = field(init=False)
    dropped: NDArray[np.int64] = field(init=False)
    counts: NDArray[np.int64] = field(init=False)  # by outcome
    near: dict[int, list[Neighbour]] = field(init=False)
    groups: list[NDArray[np.int64]] = field(init=False)  # [2, labels]: before, after

    def __post_init__(self) -> None:
        self.kept, self.dropped = (np.zeros(max(len(self.edges) - 1, 0), int) for _ in range(2))
        self.counts = np.zeros(3, int)
        self.near = {PASSED: [], OUTSIDE: []}
        self.groups = [np.zeros((2, len(item.labels)), int) for item in self.groupings]

    def add(
        self, shard: str, table: pa.Table, outcomes: NDArray[np.uint8], decided: NDArray[np.bool_]
    ) -> None:
        """Add a shard's samples; `decided` tells those that no other rule drops."""
        self.counts += np.bincount(outcomes, minlength=3)
        if not isinstance(self.rule, ScoreRule) or not len(self.edges):
            return
        scores = self.rule.scores(table)
        for outcome, counts in ((PASSED, self.kept), (OUTSIDE, self.dropped)):
            inside = np.isfinite(scores) & (outcomes == outcome)
            counts += np.histogram(scores[inside], self.edges)[0]
        low, high = self.rule.ends(table)
        distances = np.fmin(np.abs(scores - low), np.abs(scores - high))  # an open end is far
        for outcome, known in self.near.items():
            rows = np.flatnonzero((outcomes == outcome) & np.isfinite(distances))
            order = rows[np.lexsort((distances[rows], ~decided[rows]))][: 2 * NUM_NEAREST]
            keys = table[KEY].take(pa.array(order)).to_pylist()
            known += [
                Neighbour(
                    key=key,
                    shard=shard,
                    score=float(scores[row]),
                    distance=float(distances[row]),
                    is_decided=bool(decided[row]),
                )
                for key, row in zip(keys, order, strict=True)
            ]
            known.sort(key=lambda item: (not item.is_decided, item.distance, item.key))
            del known[NUM_NEAREST:]

    def count_groups(
        self,
        places: Sequence[NDArray[np.int64]],
        before: NDArray[np.bool_],
        after: NDArray[np.bool_],
    ) -> None:
        """Add a shard's samples to their groups."""
        for counts, own in zip(self.groups, places, strict=True):
            for row, alive in enumerate((before, after)):
                counts[row] += np.bincount(own[alive], minlength=counts.shape[1])

    def finish(self) -> RuleEffect:
        """Give the sums."""
        groups = {
            grouping.kind: _largest_first(grouping.labels, counts)
            for grouping, counts in zip(self.groupings, self.groups, strict=True)
        }
        return RuleEffect(
            rule=self.rule.name,
            columns=self.rule.columns,
            thresholds=_thresholds(self.rule),
            words=self.rule.words,
            edges=self.edges,
            kept=self.kept,
            dropped=self.dropped,
            num_passed=int(self.counts[PASSED]),
            num_outside=int(self.counts[OUTSIDE]),
            num_unmeasured=int(self.counts[UNMEASURED]),
            nearest_kept=tuple(self.near[PASSED]),
            nearest_dropped=tuple(self.near[OUTSIDE]),
            groups=groups,
        )


def _thresholds(rule: RuleInForce) -> tuple[tuple[float, str], ...]:
    if not isinstance(rule, ScoreRule):
        return ()
    found: dict[tuple[float, str], None] = {}
    for limit in rule.limits():
        for end in (limit.low, limit.high):
            if math.isfinite(end):
                found[end, limit.text] = None
    return tuple(sorted(found))


def _largest_first(labels: Sequence[str], counts: NDArray[np.int64]) -> tuple[GroupCount, ...]:
    rows = [
        GroupCount(name=name, before=int(before), after=int(after))
        for name, before, after in zip(labels, *counts, strict=True)
        if before
    ]
    return tuple(sorted(rows, key=lambda row: (-row.before, row.name)))
