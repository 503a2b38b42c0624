"""URL tables are planned by row ranges; bad tables are one-line errors, bad rows are rows."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from curate.core.errors import DataError
from curate.sources.config import IngestConfig
from curate.sources.url_table import UrlTableSource

ROWS = [
    {"url": "http://a.test/1.jpg", "caption": "one"},
    {"url": "http://a.test/2.jpg", "caption": "two"},
    {"url": "http://a.test/1.jpg", "caption": "one"},
    {"url": "file:///etc/hostname", "caption": "a local file"},
    {"url": None, "caption": None},
]


def write_table(path: Path, rows: list[dict[str, str | None]] = ROWS) -> Path:
    table = pa.Table.from_pylist(rows)
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        options = pyarrow.csv.WriteOptions(delimiter="\t" if path.suffix == ".tsv" else ",")
        pyarrow.csv.write_csv(table, path, options)
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".tsv", ".jsonl"])
def test_every_format_gives_the_same_plan(tmp_path: Path, suffix: str) -> None:
    config = IngestConfig(shard_size=2)
    plan = UrlTableSource(write_table(tmp_path / f"urls{suffix}"), config).plan()
    reference = UrlTableSource(write_table(tmp_path / "reference.parquet"), config).plan()
    assert plan == reference
    assert [(t.params["start"], t.params["stop"]) for t in plan] == [(0, 2), (2, 4), (4, 5)]
    assert [t.params["repeats"] for t in plan] == [[], [2], []]


def test_a_changed_row_changes_one_digest(tmp_path: Path) -> None:
    config = IngestConfig(shard_size=2)
    before = UrlTableSource(write_table(tmp_path / "a.parquet"), config).plan()
    rows = [dict(row) for row in ROWS]
    rows[3]["caption"] = "changed"
    after = UrlTableSource(write_table(tmp_path / "b.parquet", rows), config).plan()
    assert [a.inputs == b.inputs for a, b in zip(before, after, strict=True)] == [True, False, True]


def test_rows_that_cannot_be_fetched_keep_a_row_with_the_reason(tmp_path: Path) -> None:
    rows = ROWS[3:]
    source = UrlTableSource(write_table(tmp_path / "urls.parquet", rows), IngestConfig())
    samples = [s for task in source.plan() for s in source.read(task, tmp_path)]
    assert [s.status for s in samples] == ["bad_url", "bad_url"]
    assert "scheme must be http or https, got file" in samples[0].error


def test_a_missing_column_is_named_with_what_there_is(tmp_path: Path) -> None:
    path = write_table(tmp_path / "urls.parquet", [{"link": "http://a.test/1.jpg", "caption": "x"}])
    with pytest.raises(DataError, match="column 'url' must exist, got link, caption"):
        UrlTableSource(path, IngestConfig())


@pytest.mark.parametrize("content", [b"", b"PAR1 not parquet", b"PAR1" + bytes(100)])
def test_an_unreadable_parquet_is_a_one_line_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "urls.parquet"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        UrlTableSource(path, IngestConfig())
    assert "\n" not in str(caught.value)
    assert "must be a readable parquet table" in str(caught.value)


def test_a_table_without_rows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "urls.csv"
    path.write_text("url,caption\n")
    with pytest.raises(DataError, match="must have rows"):
        UrlTableSource(path, IngestConfig()).plan()
