"""Tables behind a URL give the rows of the same files on a disk: packed, in parts, by ranges."""

from __future__ import annotations

import gzip
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.core.remote_store import drop_copies
from curate.sources.config import IngestConfig
from curate.sources.table import make_source
from curate.sources.tables import table_files
from tests.core.faulty_proxy import FaultyProxy
from tests.core.s3_server import copy_tree

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
NUM_ROWS = 30


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """Write one table of every kind that lies remotely in another way."""
    folder = tmp_path / "inputs"
    rows = [{"url": f"ftp://a.test/{i % 25}", "caption": "x", "n": i} for i in range(NUM_ROWS)]
    for name in ("parts", "pictures"):
        (folder / name).mkdir(parents=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "t.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    cells = pa.array([{"bytes": b"%d" % i, "path": None} for i in range(NUM_ROWS)])
    pictures = pa.table({"image": cells, "text": ["x"] * NUM_ROWS})
    for name, first, last in (("a", 0, 11), ("b", 11, 12), ("c", 12, NUM_ROWS)):
        some = pa.Table.from_pylist(rows[first:last])
        pq.write_table(some, folder / "parts" / f"{name}.parquet", row_group_size=4)
        part = pictures.slice(first, last - first)
        pq.write_table(part, folder / "pictures" / f"{name}.parquet", row_group_size=4)
    return folder


def read_all(place: str, scratch: Path) -> list[dict[str, Any]]:
    config = IngestConfig(source=place, shard_size=7)
    rows: list[dict[str, Any]] = []
    for task in make_source(config).plan():
        rows += [asdict(sample) for sample in make_source(config).read(task, scratch)]
        drop_copies()
    return rows


@pytest.mark.parametrize(
    ("name", "copy_bytes"),
    [("t.jsonl.gz", 2**28), ("parts", 2**28), ("pictures", 0), ("parts/c.parquet", 0)],
)
def test_a_remote_table_gives_the_rows_of_the_local_one(
    name: str,
    copy_bytes: int,
    bucket: str,
    inputs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(table_files, "_COPY_BYTES", copy_bytes)
    copy_tree(inputs, bucket)
    local = read_all(str(inputs / name), tmp_path)
    assert len(local) == (NUM_ROWS if "/" not in name else 18)
    assert read_all(f"{bucket}/{name}", tmp_path) == local


def test_a_large_remote_parquet_is_not_fetched_whole(
    proxy: FaultyProxy, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_files, "_COPY_BYTES", 0)
    folder = tmp_path / "big"
    folder.mkdir()
    cells = [{"bytes": bytes([i]) * 2**20, "path": None} for i in range(8)]
    table = pa.table({"image": cells})
    pq.write_table(
        table, folder / "t.parquet", row_group_size=1, compression="none", use_dictionary=False
    )
    copy_tree(folder, bucket)
    source = make_source(IngestConfig(source=f"{bucket}/t.parquet", shard_size=2))
    tasks = source.plan()
    asked: list[tuple[int, int]] = []
    read_range = table_files.RemoteStore.read_range

    def watched(self: Any, name: str, start: int, stop: int) -> bytes:
        asked.append((start, stop))
        return read_range(self, name, start, stop)

    monkeypatch.setattr(table_files.RemoteStore, "read_range", watched)
    samples = list(source.read(tasks[2], tmp_path))
    assert [sample.data for sample in samples] == [bytes([4]) * 2**20, bytes([5]) * 2**20]
    assert sum(stop - start for start, stop in asked) < 4 * 2**20
