"""An input behind a URL gives the same samples as the same files on a disk, and as plain errors."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from s3fs import S3FileSystem
from webdataset.writer import TarWriter

from curate.core.errors import DataError, StoreError
from curate.core.remote_store import drop_copies
from curate.sources.config import IngestConfig
from curate.sources.table import make_source
from tests.core.faulty_proxy import FaultyProxy, each_once
from tests.core.s3_server import copy_tree

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """Write one input of every kind."""
    folder = tmp_path / "inputs"
    for name in ("pictures/sub", "pictures/.hidden", "shards"):
        (folder / name).mkdir(parents=True)
    for index in range(20):
        (folder / f"pictures/{index:02d}.jpg").write_bytes(b"%02d" % index)
    (folder / "pictures/sub/a.PNG").write_bytes(b"07")  # the bytes of 07.jpg
    (folder / "pictures/sub/a.txt").write_text(" a red circle \n")
    (folder / "pictures/.hidden/b.jpg").write_bytes(b"hidden")
    (folder / "pictures/readme.md").write_text("x")
    for tar in ("a.tar", "b.tar"):
        with TarWriter(str(folder / "shards" / tar), mtime=0) as writer:
            writer.write({"__key__": "a/1", "jpg": b"one", "txt": b"a red circle"})
            writer.write({"__key__": "a/2", "png": b"two", "json": b'{"caption": "blue"}'})
    rows = [{"url": f"ftp://a.test/{i}.jpg", "caption": f"picture {i}"} for i in range(5)]
    pq.write_table(pa.Table.from_pylist([*rows, rows[0]]), folder / "urls.parquet")
    return folder


def read_all(place: str, scratch: Path) -> list[dict[str, Any]]:
    """Read as a run does: the source is made anew for every task, copies are dropped after it."""
    config = IngestConfig(source=place, shard_size=2)
    rows: list[dict[str, Any]] = []
    for task in make_source(config).plan():
        samples = make_source(config).read(task, scratch)
        rows += [{"shard": task.shard, **asdict(sample)} for sample in samples]
        drop_copies()
    return rows


@pytest.mark.parametrize(
    ("name", "num_rows"),
    [("pictures", 21), ("pictures/", 21), ("shards", 4), ("shards/b.tar", 2), ("urls.parquet", 6)],
)
def test_a_remote_input_gives_the_rows_of_the_local_one(
    name: str, num_rows: int, proxy: FaultyProxy, bucket: str, inputs: Path, tmp_path: Path
) -> None:
    copy_tree(inputs, bucket)
    local = read_all(str(inputs / name), tmp_path)
    assert len(local) == num_rows
    assert read_all(f"{bucket}/{name}", tmp_path) == local
    proxy.restart(each_once("500"))
    assert read_all(f"{bucket}/{name}", tmp_path) == local


def test_the_tasks_of_a_table_do_not_depend_on_its_place(bucket: str, inputs: Path) -> None:
    copy_tree(inputs, bucket)
    plans = [
        make_source(IngestConfig(source=f"{place}/urls.parquet", shard_size=2)).plan()
        for place in (inputs, bucket)
    ]
    assert plans[0] == plans[1]


def test_a_table_is_fetched_once_for_all_tasks(
    proxy: FaultyProxy, bucket: str, inputs: Path, tmp_path: Path
) -> None:
    copy_tree(inputs, bucket)
    proxy.restart()
    read_all(f"{bucket}/urls.parquet", tmp_path)
    gets = [r for r in proxy.requests if r.startswith("GET") and "urls.parquet" in r]
    assert len([r for r in gets if "list-type" not in r]) == 1


@pytest.mark.parametrize("name", ["pictures", "shards"])
def test_one_changed_object_changes_one_digest(name: str, bucket: str, inputs: Path) -> None:
    copy_tree(inputs, bucket)
    config = IngestConfig(source=f"{bucket}/{name}", shard_size=20)
    before = [task.inputs for task in make_source(config).plan()]
    assert before == [task.inputs for task in make_source(config).plan()]
    last = {"pictures": "pictures/sub/a.txt", "shards": "shards/b.tar"}[name]
    S3FileSystem().pipe_file(f"{bucket}/{last}", b"changed")
    after = [task.inputs for task in make_source(config).plan()]
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, False]


@pytest.mark.parametrize("name", ["missing", "missing/", "missing.parquet", "pictures/readme.md"])
def test_an_input_that_cannot_be_read_is_a_data_error(name: str, bucket: str, inputs: Path) -> None:
    copy_tree(inputs, bucket)
    with pytest.raises(DataError, match=f"^input: must .*{bucket}/{name.rstrip('/')}") as caught:
        make_source(IngestConfig(source=f"{bucket}/{name}"))
    assert "\n" not in str(caught.value)


def test_a_missing_bucket_is_named(bucket: str) -> None:
    with pytest.raises(StoreError, match=f"^{bucket}-gone: bucket must exist"):
        make_source(IngestConfig(source=f"{bucket}-gone/pictures"))


def test_a_cut_remote_tar_is_named_by_its_url(bucket: str, inputs: Path, tmp_path: Path) -> None:
    whole = (inputs / "shards/a.tar").read_bytes()
    S3FileSystem().pipe_file(f"{bucket}/a.tar", whole[:2200])
    with pytest.raises(DataError, match=f"^{bucket}/a.tar: must be a whole WebDataset tar"):
        read_all(f"{bucket}/a.tar", tmp_path)
