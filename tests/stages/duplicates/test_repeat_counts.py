"""Values that come more than once are counted, each group apart from the next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.core.commit import Output, commit
from curate.core.manifest import Identity
from curate.core.seed import make_rng
from curate.core.shard import ShardSet
from curate.core.store import LocalStore
from curate.stages.duplicates.repeat_counts import COUNTS_SCHEMA, KINDS, count_repeats
from curate.stages.duplicates.shuffle import Bin
from curate.stages.repeats import FACTS_SCHEMA

WHOLE = Bin(number=0, count=1)


def write(folder: Path, shards: list[list[dict[str, Any]]]) -> tuple[ShardSet, list[str]]:
    names = [f"_facts-{number:05d}" for number in range(len(shards))]
    for name, rows in zip(names, shards, strict=True):
        out = folder / f"new{name}"
        out.mkdir()
        full = [{"key": f"{n:020x}", "status": "ok", **row} for n, row in enumerate(rows)]
        pq.write_table(pa.Table.from_pylist(full, schema=FACTS_SCHEMA), out / f"{name}.parquet")
        identity = Identity(
            stage="repeats", version=1, seed=0, config={}, models={}, inputs={}, params={}
        )
        commit(out, Output(store=LocalStore(folder / "own")), name, identity, {})
    return ShardSet(folder / "own"), names


def fact(picture: int | None, look: int | None, text: int | None, host: int, draw: int) -> Any:
    return {"bytes": picture, "look": look, "text": text, "host": host, "draw": draw}


def test_only_values_that_come_again_are_listed_by_shard_row_and_kind(tmp_path: Path) -> None:
    shards = [
        [fact(1, 11, None, 7, 3), fact(2, 12, 21, 7, 9), fact(3, 12, 22, 7, 1)],
        [fact(4, None, 22, 8, 0), fact(1, 13, 23, 8, 2)],
    ]
    found = count_repeats(*write(tmp_path, shards), WHOLE)
    assert found.schema == COUNTS_SCHEMA
    rows = [tuple(row.values()) for row in found.to_pylist()]
    assert rows == [
        # shard, row, kind, samples, captions, hosts, number in the order of draws
        (0, 0, 0, 2, 2, 2, 2),
        (0, 1, 1, 2, 2, 1, 2),
        (0, 2, 1, 2, 2, 1, 1),
        (0, 2, 2, 2, 1, 2, 2),
        (1, 0, 2, 2, 1, 2, 1),
        (1, 1, 0, 2, 2, 2, 1),
    ]


def test_groups_of_the_same_caption_and_host_are_counted_apart(tmp_path: Path) -> None:
    rows = [fact(picture, look, 5, 6, 0) for look, picture in enumerate((1, 1, 2, 2, 3, 3))]
    found = count_repeats(*write(tmp_path, [rows]), WHOLE).to_pylist()
    of_bytes = [row for row in found if row["kind"] == KINDS.index("bytes")]
    told = [(row["samples"], row["captions"], row["hosts"]) for row in of_bytes]
    assert told == [(2, 1, 1)] * 6
    assert [row["number"] for row in of_bytes] == [1, 2] * 3  # draws tie: shard and row decide


def drawn(num: int) -> list[dict[str, Any]]:
    rng = make_rng(0, "facts")
    columns = [rng.integers(1, most, num).tolist() for most in (30, 40, 20, 5, 9)]
    rows = [fact(*row) for row in zip(*columns, strict=True)]
    for row in rows[::7]:
        row["text"] = None
    for row in rows[::5]:
        row["look"] = None
    return rows


@pytest.mark.parametrize("num_bins", [1, 4])
def test_counts_are_those_of_a_plain_count_whatever_the_bins(tmp_path: Path, num_bins: int) -> None:
    rows = drawn(120)
    own, names = write(tmp_path, [rows[:50], [], rows[50:]])
    parts = [count_repeats(own, names, Bin(number=n, count=num_bins)) for n in range(num_bins)]
    found = {
        (row["shard"], row["row"], row["kind"]): (row["samples"], row["captions"], row["hosts"])
        for row in pa.concat_tables(parts).to_pylist()
    }
    assert len(found) == sum(map(len, parts))
    expected: dict[tuple[int, int, int], tuple[int, int, int]] = {}
    for place, row in enumerate(rows):
        for kind, name in enumerate(KINDS):
            same = [other for other in rows if other[name] == row[name]]
            if row[name] is not None and len(same) > 1:
                shard, number = (0, place) if place < 50 else (2, place - 50)
                texts = {other["text"] for other in same}
                hosts = {other["host"] for other in same}
                expected[shard, number, kind] = (len(same), len(texts), len(hosts))
    assert found == expected
    assert len(np.unique([len(part) for part in parts])) == len(parts)
