"""Choose what the page shows of curation: distributions, kept and dropped samples, clusters.

    annotate -> one distribution per measured column
    verdicts -> samples that were kept, samples dropped for a reason, duplicate clusters

Only tables are read, shard by shard; which keys become pictures is decided here, `gallery.py`
loads them. Absent stages and columns leave their part out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

from curate.core.schema import KEY, OK, STATUS
from curate.core.shard import ShardSet
from curate.core.top_counter import TopCounter
from eval.row_stream import order_by_hash, read_parts, sample_rows

pc: Any = pyarrow.compute  # its functions are made at import, unseen by type checkers
Array = npt.NDArray[np.float64]

# Columns that are numbers by type and names by meaning.
_NOT_MEASURES = ("phash.", "hashes.")
_MAX_VALUES = 50_000  # rows of a distribution; chosen by us: bins of 36 are then within 0.5 %
_NUM_LARGEST = 2  # clusters shown for their size; the others are a fair sample


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Distribution:
    """Hold measured values of one column: [N] float64, finite."""

    column: str
    values: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class DuplicateCluster:
    """Show one duplicate cluster: its keeper and others with the kind of evidence."""

    keeper: str
    others: Sequence[tuple[str, str]]
    num_members: int


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
    annotate: ShardSet | None, judged: Collection[str] = ()
) -> list[Distribution]:
    """Collect values of each measured column, of at most 50,000 samples chosen at random.

    Args:
        annotate: where they were measured.
        judged: columns to leave out, since a rule shows them; constant ones are left out too.
    """
    columns = [name for name in list_measures(annotate) if name not in judged]
    table = sample_rows(read_parts(annotate, [KEY, *columns]), _MAX_VALUES)
    found: list[Distribution] = []
    for column in columns if table else ():
        assert table is not None, "columns without a table"
        values = table[column].cast(pa.float64()).to_numpy(zero_copy_only=False)
        values = values[np.isfinite(values)]
        if len(values) and values.min() < values.max():
            found.append(Distribution(column=column, values=values))
    return found


def choose_kept(verdicts: ShardSet | None, limit: int) -> list[str]:
    """Choose keys at random among those that a stage kept."""
    chosen = sample_rows((part.filter(part["keep"]) for part in _verdicts(verdicts)), limit)
    return chosen[KEY].to_pylist() if chosen else []


def choose_failing(
    verdicts: ShardSet | None, rules: Iterable[str], limit: int
) -> dict[str, list[str]]:
    """Choose keys at random among those that fail each rule, first or not."""
    found: dict[str, list[str]] = {}
    for rule in rules:
        chosen = sample_rows((_failing(part, rule) for part in _verdicts(verdicts)), limit)
        found[rule] = chosen[KEY].to_pylist() if chosen else []
    return found


def choose_clusters(dedup: ShardSet | None, limit: int, max_members: int) -> list[DuplicateCluster]:
    """Choose duplicate clusters: the largest two, then others at random.

    Args:
        dedup: its tables have `keeper` and, for the kind of evidence, `edge`.
        limit: clusters.
        max_members: pictures shown of each beside the keeper.
    """
    sizes = TopCounter()
    some: list[str] = []
    for part in _members(dedup):
        sizes.add(part["keeper"])
        some = sorted({*some, *part["keeper"].unique().to_pylist()})[: limit + _NUM_LARGEST]
    largest = [keeper for keeper, _ in sizes.most_common(_NUM_LARGEST)]
    rest = [keeper for keeper in order_by_hash(some) if keeper not in largest]
    chosen = [*largest, *rest][:limit]
    counts: Counter[str] = Counter()
    members: dict[str, list[tuple[str, str]]] = {keeper: [] for keeper in chosen}
    for part in _members(dedup):
        here = pc.is_in(part["keeper"], value_set=pa.array(chosen, pa.string()))
        for row in part.filter(here).to_pylist():
            counts[row["keeper"]] += 1
            members[row["keeper"]].append((row[KEY], row.get("edge") or ""))
        members = {keeper: sorted(known)[:max_members] for keeper, known in members.items()}
    return [
        DuplicateCluster(keeper=keeper, others=members[keeper], num_members=counts[keeper] + 1)
        for keeper in chosen
    ]


def _verdicts(shards: ShardSet | None) -> Iterator[pa.Table]:
    """Yield what a stage said of the good samples it judged."""
    for part in read_parts(shards, [KEY, STATUS, "keep", "failed_rules"]):
        if "keep" in part.column_names:
            yield part.filter(pc.equal(part[STATUS], OK))


def _failing(part: pa.Table, rule: str) -> pa.Table:
    """Give the key of the rows that name a rule among those they fail."""
    if "failed_rules" not in part.column_names:
        return part.select([KEY]).slice(0, 0)
    failed = part["failed_rules"].combine_chunks()
    is_named = pc.is_in(failed.flatten(), value_set=pa.array([rule, f"unmeasured.{rule}"]))
    rows = pc.list_parent_indices(failed).filter(is_named)
    return part.select([KEY]).take(rows)


def _members(dedup: ShardSet | None) -> Iterator[pa.Table]:
    """Yield key, keeper and kind of evidence of the samples that have another keeper."""
    for part in read_parts(dedup, [KEY, "keeper", "edge"]):
        if "keeper" in part.column_names:
            yield part.filter(pc.not_equal(part["keeper"], part[KEY]))  # null drops out too
