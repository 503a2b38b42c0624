"""Streams give what one would pick from the whole, in bounded memory."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from eval.row_stream import read_columns, read_parts, sample_rows, take_rows


def test_missing_columns_are_left_out(make_shards: Any, toy: Any):
    shards = make_shards("annotate", [{"key": toy.key("a")}])
    table = read_columns(shards, ["key", "clip.similarity"])
    assert table is not None and table.column_names == ["key"]
    assert read_columns(None, ["key"]) is None
    assert list(read_parts(None, ["key"])) == []


def test_a_sample_is_the_same_for_every_sharding(toy: Any):
    rows = pa.table({"key": [toy.key(str(i)) for i in range(50)], "n": list(range(50))})
    whole = sample_rows([rows], 7)
    parts = sample_rows([rows.slice(30), rows.slice(0, 30)], 7)
    assert whole is not None and parts is not None
    assert whole.to_pydict() == parts.to_pydict()
    assert whole["key"].to_pylist() == sorted(rows["key"].to_pylist())[:7]


def test_a_sample_of_few_is_all_of_them(toy: Any):
    rows = pa.table({"key": [toy.key("a"), toy.key("b")]})
    found = sample_rows([rows], 10)
    assert found is not None and found.num_rows == 2
    assert sample_rows([], 3) is None


def test_only_the_rows_of_the_keys_are_taken(make_shards: Any, toy: Any):
    rows = [{"key": toy.key(name), "caption": name} for name in "abc"]
    shards = make_shards("ingest", rows, [("caption", pa.string())])
    wanted = {toy.key("b"), toy.key("unknown")}
    assert [row["caption"] for row in take_rows(shards, wanted, ["caption", "absent"])] == ["b"]
    assert list(take_rows(shards, set(), ["caption"])) == []
