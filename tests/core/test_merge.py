"""A merge of sorted tables is the sorted whole, whatever the sizes and the fan-in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.core.merge import cut_by, merge_sorted, read_pieces
from curate.core.seed import make_rng

BY = ("bucket", "draw", "key")


def table(rows: list[tuple[str, int, str]]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    types = (pa.string(), pa.uint64(), pa.string())
    arrays = [pa.array(values, kind) for values, kind in zip(columns, types, strict=True)]
    return pa.table(dict(zip(BY, arrays, strict=True)))


def opener(rows: list[tuple[str, int, str]], size: int):
    def pieces() -> Iterator[pa.Table]:
        whole = table(sorted(rows))
        for start in range(0, len(whole), size):
            yield whole.slice(start, size)

    return pieces


def random_rows(seed: int, count: int) -> list[tuple[str, int, str]]:
    rng = make_rng(seed, "test_merge")
    draws = rng.integers(0, 50, count, dtype=np.uint64)  # many ties in the second column
    return [("ab"[n % 2], int(draws[n]) * 2**58, f"{seed:03d}{n:05d}") for n in range(count)]


@pytest.mark.parametrize("fan_in", [2, 3, 256])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_the_merge_is_the_sorted_whole(tmp_path: Path, fan_in: int, size: int) -> None:
    parts = [random_rows(seed, count) for seed, count in enumerate((40, 0, 1, 33, 100, 7, 0))]
    opened = [opener(rows, size) for rows in parts]
    pieces = list(merge_sorted(opened, BY, tmp_path, fan_in))
    found = [tuple(row[name] for name in BY) for piece in pieces for row in piece.to_pylist()]
    assert found == sorted(row for rows in parts for row in rows)


def test_nothing_merges_to_nothing(tmp_path: Path) -> None:
    assert list(merge_sorted([], BY, tmp_path)) == []
    assert list(merge_sorted([opener([], 1)], BY, tmp_path)) == []


def test_a_merge_holds_a_piece_of_each_table_and_no_more(tmp_path: Path) -> None:
    taken: list[int] = []

    def pieces(number: int) -> Iterator[pa.Table]:
        for start in range(100):
            taken.append(number)
            yield table([("a", start * 10 + number, f"{number}{start:03d}")])

    stream = merge_sorted([lambda n=n: pieces(n) for n in range(3)], BY, tmp_path)
    next(stream)
    assert len(taken) <= 2 * 3


@pytest.mark.parametrize("size", [1, 3, 10, 100])
def test_a_cut_stream_has_one_value_a_table_and_full_tables_but_the_last_of_each(size: int) -> None:
    rows = [
        (bucket, n, f"{bucket}{n:03d}")
        for bucket, num in (("a", 7), ("b", 9), ("c", 1))
        for n in range(num)
    ]
    whole = table(rows)
    pieces = (whole.slice(start, size) for start in range(0, len(whole), size))
    cuts = list(cut_by(pieces, "bucket", 3))
    assert [(cut["bucket"][0].as_py(), len(cut)) for cut in cuts] == [
        ("a", 3), ("a", 3), ("a", 1), ("b", 3), ("b", 3), ("b", 3), ("c", 1),
    ]  # fmt: skip
    assert pa.concat_tables(cuts).equals(whole)


def test_parquet_is_read_in_pieces_in_order(tmp_path: Path) -> None:
    whole = table(sorted(random_rows(0, 50)))
    pq.write_table(whole, tmp_path / "x.parquet")
    pieces = list(read_pieces(tmp_path / "x.parquet", rows=8))
    assert [len(piece) for piece in pieces] == [8, 8, 8, 8, 8, 8, 2]
    assert pa.concat_tables(pieces).equals(whole)
