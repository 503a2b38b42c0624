"""A folder becomes samples keyed by their bytes; repeats and bad files are rows, not losses."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from curate.core.errors import DataError
from curate.core.schema import make_key
from curate.sources.config import IngestConfig
from curate.sources.folder import FolderSource
from curate.sources.source import RawSample
from curate.sources.table import make_source


def read_all(folder: Path, shard_size: int = 10) -> list[RawSample]:
    source = FolderSource(folder, shard_size)
    return [sample for task in source.plan() for sample in source.read(task, folder)]


def test_captions_lie_beside_pictures(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/a.JPG").write_bytes(b"one")
    (tmp_path / "sub/a.txt").write_text(" a red circle \n")
    (tmp_path / "b.png").write_bytes(b"two")
    samples = read_all(tmp_path)
    assert [(s.source, s.caption, s.data) for s in samples] == [
        ("b.png", "", b"two"),
        ("sub/a.JPG", "a red circle", b"one"),
    ]
    assert samples[1].key == make_key(b"one")


def test_equal_files_become_one_sample_and_a_named_repeat(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (tmp_path / name).write_bytes(b"same" if name != "c.jpg" else b"else")
    samples = read_all(tmp_path, shard_size=1)
    assert [s.status for s in samples] == ["ok", "repeated_file", "ok"]
    assert len({s.key for s in samples}) == 3


def test_one_changed_file_changes_one_tasks_digest(tmp_path: Path) -> None:
    for index in range(4):
        (tmp_path / f"{index}.jpg").write_bytes(bytes([index]))
    before = [task.inputs for task in FolderSource(tmp_path, 2).plan()]
    os.utime(tmp_path / "3.jpg", ns=(1, 1))
    after = [task.inputs for task in FolderSource(tmp_path, 2).plan()]
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, False]


def test_links_that_lead_outside_and_hidden_files_are_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (folder / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    (folder / ".hidden.jpg").write_bytes(b"hidden")
    (folder / "a.jpg").write_bytes(b"a")
    assert [s.source for s in read_all(folder)] == ["a.jpg"]


@pytest.mark.parametrize("name", ["", "missing", "notes.docx"])
def test_an_input_that_cannot_be_read_is_a_data_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.docx").write_bytes(b"")
    source = str(tmp_path / name) if name else ""
    with pytest.raises(DataError, match="input"):
        make_source(IngestConfig(source=source)).plan()


def test_a_folder_without_pictures_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "readme.md").write_text("x")
    with pytest.raises(DataError, match="must hold pictures"):
        make_source(IngestConfig(source=str(tmp_path))).plan()
