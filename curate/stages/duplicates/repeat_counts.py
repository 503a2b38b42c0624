"""Count how often each hash value comes, for pictures and captions, one bin of values at a time.

`_facts-NNNNN` of every shard -> the values of one bin -> groups of equal ones -> counts
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.core.shard import ShardSet
from curate.stages.duplicates.shuffle import Bin

KINDS = ("bytes", "look", "text")
"""What may repeat: the file's sha256, the picture's pHash, the caption."""

COUNTS_SCHEMA = pa.schema(
    [
        ("shard", pa.int32()),  # number among the tables
        ("row", pa.int32()),  # of its table
        ("kind", pa.int8()),
        ("samples", pa.int32()),
        ("captions", pa.int32()),
        ("hosts", pa.int32()),
        ("number", pa.int32()),  # of the sample among these, from 1 on, in the order of draws
    ]
)
_FACTS = ("text", "host", "draw")


def count_repeats(own: ShardSet, names: Sequence[str], part: Bin) -> pa.Table:
    """Count the values of a bin that come more than once: COUNTS_SCHEMA, by shard, row, kind.

    Args:
        own: where the tables are.
        names: of the tables of all shards, in order.
        part: the bin.
    """
    found: list[NDArray[np.int64]] = [np.empty((0, len(COUNTS_SCHEMA)), np.int64)]
    for kind, name in enumerate(KINDS):
        entries = _read_entries(own, names, name, part, kind)
        counted = _count_values(entries)
        repeated = counted["samples"] > 1
        columns = [
            entries["shard"],
            entries["row"],
            np.full(len(repeated), kind),
            *counted.values(),
        ]
        found.append(np.stack([column[repeated] for column in columns], axis=1).astype(np.int64))
    rows = np.concatenate(found)
    rows = rows[np.lexsort((rows[:, 2], rows[:, 1], rows[:, 0]))]
    return pa.table(
        [pa.array(rows[:, place]).cast(field.type) for place, field in enumerate(COUNTS_SCHEMA)],
        schema=COUNTS_SCHEMA,
    )


def _read_entries(
    own: ShardSet, tables: Sequence[str], name: str, part: Bin, kind: int
) -> dict[str, NDArray[Any]]:
    """Collect value, facts and position of the samples whose value lies in a bin: [N] each."""
    parts: dict[str, list[NDArray[Any]]] = {k: [] for k in ("value", *_FACTS, "shard", "row")}
    for number, shard in enumerate(tables):
        table = own.table(shard, list(dict.fromkeys([name, *_FACTS])))
        known = np.flatnonzero(table[name].is_valid().to_numpy())
        columns = {k: table[k].fill_null(0).to_numpy()[known] for k in (name, *_FACTS)}
        here = part.holds(columns[name], kind)
        parts["value"].append(columns[name][here])
        for fact in _FACTS:
            parts[fact].append(columns[fact][here])
        parts["row"].append(known[here])
        parts["shard"].append(np.full(int(here.sum()), number))
    empty = np.empty(0, np.uint64)
    return {k: np.concatenate(arrays) if arrays else empty for k, arrays in parts.items()}


def _count_values(entries: dict[str, NDArray[Any]]) -> dict[str, NDArray[np.int64]]:
    """Give for each of [N] entries what its value has: [N] each.

    Returns:
        Samples, different captions and different hosts of the value, and the sample's number.
    """
    _, group, samples = np.unique(entries["value"], return_inverse=True, return_counts=True)
    order = np.lexsort((entries["row"], entries["shard"], entries["draw"], group))
    number = np.empty(len(group), np.int64)
    number[order] = np.arange(len(group)) - np.repeat(np.cumsum(samples) - samples, samples) + 1
    return {
        "samples": samples[group],
        "captions": _distinct(group, entries["text"])[group],
        "hosts": _distinct(group, entries["host"])[group],
        "number": number,
    }


def _distinct(group: NDArray[np.int64], values: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Count different values of each group: [N], [N] -> [G]."""
    order = np.lexsort((values, group))
    groups, ordered = group[order], values[order]
    is_new = np.r_[True, (groups[1:] != groups[:-1]) | (ordered[1:] != ordered[:-1])][: len(group)]
    return np.bincount(groups[is_new], minlength=int(group.max(initial=-1)) + 1)
