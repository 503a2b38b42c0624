"""What was logged stays, byte for byte, on disks and behind URLs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from curate.core.append_only import append_lines, read_lines
from curate.core.store import LocalStore, Store, open_store


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "local":
        return open_store(tmp_path / "audit")
    return open_store(f"memory://{tmp_path.name}/audit")


def test_lines_come_back_in_order_and_earlier_bytes_never_change(store: Store) -> None:
    assert list(read_lines(store, "log.jsonl")) == []
    lines = [{"key": f"{number:020x}", "list": "known"} for number in range(5)]
    append_lines(store, "log.jsonl", lines[:2])
    before = store.read("log.jsonl")
    append_lines(store, "log.jsonl", [])
    append_lines(store, "log.jsonl", lines[2:])
    assert store.read("log.jsonl").startswith(before)
    assert list(read_lines(store, "log.jsonl")) == lines


def test_a_line_that_was_cut_counts_as_never_written_and_spoils_no_other(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    append_lines(store, "log.jsonl", [{"a": 1}])
    with (tmp_path / "log.jsonl").open("ab") as file:
        file.write(b'{"a": 2')
    assert list(read_lines(store, "log.jsonl")) == [{"a": 1}]
    append_lines(store, "log.jsonl", [{"a": 3}])
    assert list(read_lines(store, "log.jsonl")) == [{"a": 1}, {"a": 3}]
    assert (tmp_path / "log.jsonl").read_bytes() == b'{"a": 1}\n{"a": 2\n{"a": 3}\n'


def test_only_its_owner_may_read_the_log(tmp_path: Path) -> None:
    append_lines(LocalStore(tmp_path), "log.jsonl", [{"a": 1}])
    assert (tmp_path / "log.jsonl").stat().st_mode & 0o777 == 0o600


def test_two_processes_lose_no_line_of_each_other(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from curate.core.append_only import append_lines\n"
        "from curate.core.store import LocalStore\n"
        "store, name = LocalStore(Path(sys.argv[1])), sys.argv[2]\n"
        "for n in range(200):\n"
        "    append_lines(store, 'log.jsonl', [{'by': name, 'n': n}])\n"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), name]) for name in ("a", "b")
    ]
    assert [process.wait(60) for process in running] == [0, 0]
    lines = list(read_lines(LocalStore(tmp_path), "log.jsonl"))
    for name in ("a", "b"):
        assert [line["n"] for line in lines if line["by"] == name] == list(range(200))
