"""Say what curation did: the funnel, the distributions behind it, and examples for every reason.

    markers     -> funnel: in, kept, dropped by reason, failed by status, stage by stage
    side tables -> one distribution per measured column, beside its threshold
                -> examples: kept and dropped ones nearest to each threshold, duplicate clusters

Only tables are read; which keys become pictures is decided here, `thumbnails.py` loads them.
Absent stages and columns leave their part out.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.core.manifest import find_markers, finished_shards
from curate.core.schema import KEY, OK, STATUS
from curate.core.shard import ShardSet

Array = npt.NDArray[np.float64]

# Columns that are numbers by type and names by meaning.
_NOT_MEASURES = ("phash.", "hashes.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Name a threshold: the reason it gives, the column it judges, its inclusive bounds."""

    reason: str
    column: str
    min: float | None = None
    max: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FunnelRow:
    """Count what one stage was given and what became of it.

    Args:
        notes: counts of other kinds, e.g. rejected caption attempts; they drop no sample.
    """

    stage: str
    num_in: int
    num_kept: int
    dropped: Mapping[str, int]
    failed: Mapping[str, int]
    notes: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Distribution:
    """Hold the measured values of one column and the rules that judge it.

    Args:
        values: [N] float64, measured ones only.
        num_outside: how many of them a rule drops.
    """

    column: str
    values: Array
    rules: Sequence[Rule]
    num_outside: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """Point at one sample and say what happened to it; `score` None without a rule's column."""

    key: str
    keep: bool
    reason: str
    score: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleExamples:
    """Show one reason: samples it dropped, nearest to the threshold first, and near survivors."""

    reason: str
    rule: Rule | None
    num_dropped: int
    dropped: Sequence[Example]
    kept: Sequence[Example]


@dataclass(frozen=True, slots=True, kw_only=True)
class DuplicateCluster:
    """Show one duplicate cluster: its keeper and others with the kind of evidence."""

    keeper: str
    others: Sequence[tuple[str, str]]
    num_members: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdicts:
    """Hold keep, reason and status of each key that a verdict stage judged."""

    reasons: Mapping[str, str] = field(default_factory=dict[str, str])
    kept: frozenset[str] = frozenset()


def measure_funnel(inputs: Mapping[str, ShardSet]) -> list[FunnelRow]:
    """Count every stage, in the order of `inputs`, from its markers.

    A row that failed at ingest stays in later tables under the same status; it is counted where
    it failed and taken out of what later stages were given.
    """
    rows: list[FunnelRow] = []
    failed_before: Counter[str] = Counter()
    for stage, shards in inputs.items():
        counts = count_stage(shards)
        if not counts:
            continue
        failed = _with_prefix(counts, "failed.")
        carried = failed & failed_before
        failed_before |= failed
        dropped = _with_prefix(counts, "dropped.")
        plain = {"in", "kept"}
        notes = {
            name: num
            for name, num in sorted(counts.items())
            if name not in plain and not name.startswith(("failed.", "dropped."))
        }
        rows.append(
            FunnelRow(
                stage=stage,
                num_in=counts["in"] - carried.total(),
                num_kept=counts["kept"],
                dropped=dict(dropped.most_common()),
                failed=dict((failed - carried).most_common()),
                notes=notes,
            )
        )
    return rows


def count_stage(shards: ShardSet) -> Counter[str]:
    """Sum the counts of all of a stage's markers, helper shards included."""
    counts: Counter[str] = Counter()
    for _, marker in find_markers(shards.store, finished_shards(shards.store)):
        counts.update(marker.counts if marker else {})
    return counts


def read_columns(shards: ShardSet | None, columns: Sequence[str]) -> pa.Table | None:
    """Read those of the columns that the side tables have, all shards joined; None without any."""
    if shards is None:
        return None
    parts: list[pa.Table] = []
    for shard in shards.shards():
        if shards.has_table(shard):
            names = set(shards.schema(shard).names)
            parts.append(shards.table(shard, [name for name in columns if name in names]))
    return pa.concat_tables(parts, promote_options="default") if parts else None


def list_measures(shards: ShardSet | None) -> list[str]:
    """List the numeric columns that annotate measured, in the table's order."""
    for shard in shards.shards() if shards else ():
        schema = shards.schema(shard) if shards else pa.schema([])
        return [
            item.name
            for item in schema
            if (pa.types.is_floating(item.type) or pa.types.is_integer(item.type))
            and "." in item.name
            and not item.name.startswith(_NOT_MEASURES)
        ]
    return []


def measure_distributions(
    annotations: pa.Table, columns: Iterable[str], rules: Sequence[Rule]
) -> list[Distribution]:
    """Collect the measured values of each column; judged columns first, constant ones left out."""
    found: list[Distribution] = []
    for column in columns:
        values = _values(annotations, column)
        values = values[np.isfinite(values)]
        own = [rule for rule in rules if rule.column == column]
        if not len(values) or (not own and values.min() == values.max()):
            continue
        found.append(
            Distribution(
                column=column,
                values=values,
                rules=own,
                num_outside=int(mark_outside(values, own).sum()),
            )
        )
    return sorted(found, key=lambda item: not item.rules)


def mark_outside(values: Array, rules: Sequence[Rule]) -> npt.NDArray[np.bool_]:
    """Mark the values that a rule drops, [N]; bounds are inclusive."""
    outside = np.zeros(len(values), bool)
    for rule in rules:
        low = -np.inf if rule.min is None else rule.min
        high = np.inf if rule.max is None else rule.max
        outside |= (values < low) | (values > high)
    return outside


def read_verdicts(shards: ShardSet | None) -> Verdicts:
    """Read a verdict stage: the reason of each dropped key, and the kept keys."""
    table = read_columns(shards, [KEY, STATUS, "keep", "reason"])
    if table is None or "keep" not in table.column_names:
        return Verdicts()
    reasons: dict[str, str] = {}
    kept: set[str] = set()
    for row in table.to_pylist():
        if row["keep"]:
            kept.add(row[KEY])
        elif row[STATUS] == OK:
            reasons[row[KEY]] = row.get("reason") or "dropped"
    return Verdicts(reasons=reasons, kept=frozenset(kept))


def choose_examples(
    verdicts: Verdicts, annotations: pa.Table | None, rules: Sequence[Rule], limit: int
) -> list[RuleExamples]:
    """Choose, for each reason, dropped samples and survivors nearest to its threshold.

    Args:
        verdicts: of the filter stage.
        annotations: measured columns by key; None leaves the scores out.
        rules: the active thresholds.
        limit: examples of each kind.

    Returns:
        One entry for each reason that dropped anything, most drops first.
    """
    by_reason: dict[str, list[str]] = {}
    for key, reason in verdicts.reasons.items():
        by_reason.setdefault(reason, []).append(key)
    chosen: list[RuleExamples] = []
    for reason, keys in sorted(by_reason.items(), key=lambda item: (-len(item[1]), item[0])):
        rule = next((rule for rule in rules if rule.reason == reason), None)
        scores = _scores(annotations, rule)
        kept = list(verdicts.kept) if rule else []
        chosen.append(
            RuleExamples(
                reason=reason,
                rule=rule,
                num_dropped=len(keys),
                dropped=_nearest(keys, scores, rule, limit, keep=False, reason=reason),
                kept=_nearest(kept, scores, rule, limit, keep=True, reason=""),
            )
        )
    return chosen


def choose_clusters(dedup: ShardSet | None, limit: int, max_members: int) -> list[DuplicateCluster]:
    """Choose duplicate clusters: the largest two, then others by hash.

    Args:
        dedup: its tables have `keeper` and, for the kind of evidence, `edge`.
        limit: clusters.
        max_members: pictures shown of each beside the keeper.
    """
    table = read_columns(dedup, [KEY, "keeper", "edge"])
    if table is None or "keeper" not in table.column_names:
        return []
    members: dict[str, list[tuple[str, str]]] = {}
    for row in table.to_pylist():
        if row["keeper"] and row["keeper"] != row[KEY]:
            members.setdefault(row["keeper"], []).append((row[KEY], row.get("edge") or ""))
    largest = sorted(members, key=lambda keeper: (-len(members[keeper]), keeper))[:2]
    rest = order_by_hash(keeper for keeper in members if keeper not in largest)
    return [
        DuplicateCluster(
            keeper=keeper,
            others=sorted(members[keeper])[:max_members],
            num_members=len(members[keeper]) + 1,
        )
        for keeper in [*largest, *rest][:limit]
    ]


def order_by_hash(keys: Iterable[str]) -> list[str]:
    """Order keys as good as at random, yet the same every time."""
    return sorted(keys, key=lambda key: hashlib.blake2b(key.encode(), digest_size=8).digest())


def _nearest(
    keys: Sequence[str],
    scores: Mapping[str, float],
    rule: Rule | None,
    limit: int,
    *,
    keep: bool,
    reason: str,
) -> list[Example]:
    """Take the keys whose scores lie nearest to the rule's bounds; by hash without scores."""
    if rule is None or not scores:
        picked = order_by_hash(keys)[:limit]
        return [Example(key=key, keep=keep, reason=reason) for key in picked]
    known = [key for key in keys if key in scores]
    picked = sorted(known, key=lambda key: (_distance(scores[key], rule), key))[:limit]
    return [Example(key=key, keep=keep, reason=reason, score=scores[key]) for key in picked]


def _distance(score: float, rule: Rule) -> float:
    return min(abs(score - bound) for bound in (rule.min, rule.max) if bound is not None)


def _scores(annotations: pa.Table | None, rule: Rule | None) -> dict[str, float]:
    if annotations is None or rule is None or rule.column not in annotations.column_names:
        return {}
    values = _values(annotations, rule.column)
    pairs = zip(annotations[KEY].to_pylist(), values.tolist(), strict=True)
    return {key: value for key, value in pairs if np.isfinite(value)}


def _values(table: pa.Table, column: str) -> Array:
    if column not in table.column_names:
        return np.zeros(0)
    return table[column].cast(pa.float64()).to_numpy(zero_copy_only=False)


def _with_prefix(counts: Mapping[str, int], prefix: str) -> Counter[str]:
    return Counter(
        {name.removeprefix(prefix): num for name, num in counts.items() if name.startswith(prefix)}
    )
