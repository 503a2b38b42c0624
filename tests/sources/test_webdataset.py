"""Existing WebDataset tars keep their bytes and captions; odd samples become rows with a status."""

from __future__ import annotations

from pathlib import Path

import pytest
from webdataset.writer import TarWriter

from curate.core.errors import DataError
from curate.sources.config import IngestConfig
from curate.sources.table import RawSample, make_source

# webdataset leaves closing the file to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def write_tar(path: Path) -> None:
    with TarWriter(str(path), mtime=0) as writer:
        writer.write({"__key__": "a/1", "jpg": b"one", "txt": b" a red circle \n"})
        writer.write({"__key__": "a/2", "png": b"two", "json": b'{"caption": "blue", "url": "u"}'})
        writer.write({"__key__": "a/3", "txt": b"no picture"})
        writer.write({"__key__": "a/4", "webp": b"four", "json": b"[broken"})


def read_all(path: Path) -> list[RawSample]:
    source = make_source(IngestConfig(source=str(path)))
    return [sample for task in source.plan() for sample in source.read(task, path)]


def test_original_bytes_and_captions_pass_through(tmp_path: Path) -> None:
    write_tar(tmp_path / "00000.tar")
    samples = read_all(tmp_path)
    assert [(s.source, s.data, s.caption) for s in samples] == [
        ("00000.tar/a/1", b"one", "a red circle"),
        ("00000.tar/a/2", b"two", "blue"),
        ("00000.tar/a/3", None, "no picture"),
        ("00000.tar/a/4", b"four", ""),
    ]
    assert [s.status for s in samples] == ["ok", "ok", "no_picture", "ok"]
    assert samples[1].url == "u"
    assert len({s.key for s in samples}) == 4


def test_one_tar_becomes_one_task(tmp_path: Path) -> None:
    for name in ("a.tar", "b.tar"):
        write_tar(tmp_path / name)
    tasks = make_source(IngestConfig(source=str(tmp_path))).plan()
    assert [(task.shard, task.params["tar"]) for task in tasks] == [
        ("00000", "a.tar"),
        ("00001", "b.tar"),
    ]


def test_a_cut_tar_is_a_data_error(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar")
    whole = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(whole[:2200])
    with pytest.raises(DataError, match="whole WebDataset tar"):
        read_all(tmp_path / "a.tar")
