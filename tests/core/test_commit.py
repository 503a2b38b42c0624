"""A commit is whole or absent, wherever it is cut, and a full or read-only disk says so."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from curate.core.commit import Output, commit
from curate.core.errors import StageError, StoreError
from curate.core.manifest import Identity, find_marker, parse_marker
from curate.core.shard import ShardSet
from curate.core.store import LocalStore


class Cut(BaseException):
    """Stand for SIGKILL: nothing after it runs."""


class CutStore(LocalStore):
    """A store whose process dies before its n-th change of the folder."""

    def __init__(self, folder: Path, changes: int) -> None:
        super().__init__(folder)
        self.left = changes

    def _change(self) -> None:
        if self.left == 0:
            raise Cut
        self.left -= 1

    def put(self, path: Path, name: str) -> None:
        self._change()
        super().put(path, name)

    def write(self, name: str, data: bytes) -> None:
        self._change()
        super().write(name, data)

    def delete(self, name: str) -> None:
        self._change()
        super().delete(name)


def identity(text: str) -> Identity:
    return Identity(
        stage="test", version=1, seed=0, config={"text": text}, models={}, inputs={}, params={}
    )


def write_files(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "00000.tar").write_text(text * 3)
    (folder / "00000.parquet").write_text(text)
    return folder


def is_whole(folder: Path) -> bool:
    """Tell whether the shard's marker is there; if so, its files must be what it says."""
    marker = find_marker(LocalStore(folder), "00000")
    if marker is None:
        return False
    for name, file in marker.files.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == file.sha256
    return True


@pytest.mark.parametrize("old", ["", "old"])
def test_cut_anywhere_the_shard_is_whole_or_absent_and_the_next_try_mends_it(
    tmp_path: Path, old: str
) -> None:
    outcomes: list[bool] = []
    for changes in range(20):
        folder, work = tmp_path / str(changes), tmp_path / f"work{changes}"
        folder.mkdir()
        if old:
            out = write_files(work, old)
            commit(out, Output(store=LocalStore(folder)), "00000", identity(old), {})
        out = write_files(work, "new")
        try:
            commit(out, Output(store=CutStore(folder, changes)), "00000", identity("new"), {})
        except Cut:
            found = find_marker(LocalStore(folder), "00000")
            assert not is_whole(folder) or (found and found.identity.config == {"text": old})
            outcomes.append(False)
        else:
            outcomes.append(True)
        out = write_files(work, "new")
        commit(out, Output(store=LocalStore(folder)), "00000", identity("new"), {})
        assert is_whole(folder)
        assert ShardSet(folder).digests("00000").keys() == {
            f"{folder.name}/00000.parquet",
            f"{folder.name}/00000.tar",
        }
    assert outcomes.index(True) == (4 if old else 3)  # two files, the marker, the old marker


def test_files_of_the_old_shard_that_the_new_one_lacks_are_removed(tmp_path: Path) -> None:
    folder = tmp_path / "stage"
    output = Output(store=LocalStore(folder))
    commit(write_files(tmp_path / "work", "old"), output, "00000", identity("old"), {})
    out = tmp_path / "other"
    out.mkdir()
    (out / "00000.parquet").write_text("new")
    commit(out, output, "00000", identity("new"), {})
    assert sorted(path.name for path in folder.iterdir()) == ["00000.done.json", "00000.parquet"]


def test_a_task_that_wrote_nothing_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    with pytest.raises(StageError, match="must write files"):
        commit(tmp_path / "work", Output(store=LocalStore(tmp_path)), "00000", identity(""), {})


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../../b"])
def test_a_marker_cannot_name_files_outside_its_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "stage"
    commit(
        write_files(tmp_path / "work", "x"),
        Output(store=LocalStore(folder)),
        "00000",
        identity("x"),
        {},
    )
    text = (folder / "00000.done.json").read_text().replace("00000.tar", name)
    with pytest.raises(ValueError, match="outside its folder"):
        parse_marker(text.encode())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 64 KB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"mounting needs root: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path, free_bytes: int) -> Path:
    """Leave that much space."""
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    (folder / "filler").write_bytes(b"x" * (free - free_bytes))
    return folder / "filler"


def test_a_full_disk_is_one_line_and_costs_nothing_that_was_done(small_disk: Path) -> None:
    folder = small_disk / "stage"
    work = write_files(small_disk / "work", "x")
    filler = fill(small_disk, 0)
    with pytest.raises(StoreError, match="has no space left"):
        commit(work, Output(store=LocalStore(folder)), "00000", identity("x"), {})
    assert not is_whole(folder)
    filler.unlink()
    work = write_files(small_disk / "work", "x")
    commit(work, Output(store=LocalStore(folder)), "00000", identity("x"), {})
    assert is_whole(folder)


def test_a_read_only_disk_is_one_line(small_disk: Path) -> None:
    work = write_files(small_disk / "work", "x")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StoreError, match="is read-only"):
        commit(work, Output(store=LocalStore(small_disk / "s")), "00000", identity("x"), {})
