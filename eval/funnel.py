"""Count what every stage was given and what became of it, from the stages' markers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from curate.core.manifest import find_markers, finished_shards
from curate.core.shard import ShardSet


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


def measure_funnel(inputs: Mapping[str, ShardSet]) -> list[FunnelRow]:
    """Count every stage, in the order of `inputs`, from its markers.

    A row that failed at ingest, or that blocklist dropped, stays in later tables under the same
    status; it is counted where that happened and taken out of what later stages were given.
    """
    rows: list[FunnelRow] = []
    failed_before: Counter[str] = Counter()
    for stage, shards in inputs.items():
        counts = count_stage(shards)
        if not counts:
            continue
        failed = _with_prefix(counts, "failed.")
        carried = failed & failed_before
        dropped = _with_prefix(counts, "dropped.")
        failed_before |= failed | dropped
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


def _with_prefix(counts: Mapping[str, int], prefix: str) -> Counter[str]:
    return Counter(
        {name.removeprefix(prefix): num for name, num in counts.items() if name.startswith(prefix)}
    )
