"""One run owns an `out`; a dead owner's claim is taken over, and its stragglers commit nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from curate.core.errors import StoreError
from curate.core.lock import LEFT_BEHIND_S, LOCK, claim_out, describe_owner, is_owned, read_owner
from curate.core.store import LocalStore, open_store

HOLD = """
import sys
from curate.core.lock import claim_out
from curate.core.store import open_store
with claim_out(open_store(sys.argv[1])):
    print("mine", flush=True)
    sys.stdin.read()
"""


def start_owner(folder: Path) -> subprocess.Popen[str]:
    """Start a process that owns the folder until it is killed or its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "mine\n"
    return process


def test_a_second_run_is_refused_with_the_owner_and_what_to_do(tmp_path: Path) -> None:
    owner = start_owner(tmp_path)
    try:
        with pytest.raises(StoreError) as caught, claim_out(LocalStore(tmp_path)):
            pytest.fail("two runs own one folder")
        assert f"in use by pid {owner.pid} on " in str(caught.value)
        assert "wait for it, stop it, or set out=DIR" in str(caught.value)
        assert is_owned(LocalStore(tmp_path))
    finally:
        owner.communicate("")
    assert owner.returncode == 0
    assert not is_owned(LocalStore(tmp_path))
    with claim_out(LocalStore(tmp_path)):
        assert read_owner(LocalStore(tmp_path))["pid"] == os.getpid()


def test_the_lock_of_a_killed_run_is_taken_over_at_once(tmp_path: Path) -> None:
    owner = start_owner(tmp_path)
    owner.send_signal(signal.SIGKILL)
    owner.communicate()
    with claim_out(LocalStore(tmp_path)) as claim:
        assert read_owner(LocalStore(tmp_path))["token"] == claim.token


def test_a_straggler_of_an_earlier_run_may_not_commit(tmp_path: Path) -> None:
    with claim_out(LocalStore(tmp_path)) as earlier, earlier.committing():
        pass
    with claim_out(LocalStore(tmp_path)) as later:
        with (
            pytest.raises(StoreError, match="must still belong to the run"),
            earlier.committing(),
        ):
            pytest.fail("a run that lost its folder committed")
        with later.committing():
            pass


def test_a_new_owner_waits_for_a_commit_under_way(tmp_path: Path) -> None:
    with claim_out(LocalStore(tmp_path)) as earlier:
        pass
    order: list[str] = []
    inside, go_on = threading.Event(), threading.Event()

    def commit() -> None:
        with earlier.committing():
            inside.set()
            assert go_on.wait(20)
            order.append("committed")

    def own() -> None:
        with claim_out(LocalStore(tmp_path)):
            order.append("owned")

    straggler, owner = threading.Thread(target=commit), threading.Thread(target=own)
    straggler.start()
    assert inside.wait(20)
    owner.start()
    while read_owner(LocalStore(tmp_path)).get("token") == earlier.token:
        time.sleep(0.01)  # the new owner has written its name and waits at the fence
    go_on.set()
    straggler.join(20)
    owner.join(20)
    assert order == ["committed", "owned"]


def test_a_damaged_lock_file_names_nobody_and_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text("[")
    assert read_owner(LocalStore(tmp_path)) == {}
    assert describe_owner({}) == "without a name"
    with claim_out(LocalStore(tmp_path)):
        pass


def test_on_an_object_store_a_renewed_lock_refuses_and_an_old_one_is_taken_over() -> None:
    store = open_store("memory://test_lock/out")
    with claim_out(store) as claim:
        with pytest.raises(StoreError, match="one run at a time"), claim_out(store):
            pytest.fail("two runs own one folder")
        with claim.committing():
            pass
    assert not store.exists(LOCK)
    old = {"token": "x", "pid": 1, "host": "a", "renewed": time.time() - LEFT_BEHIND_S - 1}
    store.write(LOCK, json.dumps(old).encode())
    with claim_out(store) as claim:
        assert read_owner(store)["token"] == claim.token
        store.write(LOCK, json.dumps({**old, "renewed": time.time()}).encode())
        with pytest.raises(StoreError, match="must still belong"), claim.committing():
            pytest.fail("a run that lost its folder committed")


def test_a_store_that_fails_for_a_moment_does_not_end_the_renewal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from curate.core import lock

    monkeypatch.setattr(lock, "RENEW_S", 0.01)
    store = open_store("memory://test_lock/renewal")
    answers = iter([StoreError("silent"), StoreError("silent")])
    renewed = threading.Event()
    write = type(store).write

    def fail_twice(self: object, name: str, data: bytes) -> None:
        for error in answers:
            raise error
        write(self, name, data)  # type: ignore[arg-type]
        renewed.set()

    monkeypatch.setattr(type(store), "write", fail_twice)
    with claim_out(store):
        assert renewed.wait(20)


def test_hidden_files_leave_a_folder_empty_on_a_disk_and_behind_a_url(tmp_path: Path) -> None:
    for store in (LocalStore(tmp_path / "out"), open_store("memory://test_lock/empty")):
        assert store.is_empty()
        store.write(LOCK, b"{}")  # what a run that was killed at its start leaves
        assert store.is_empty()
        store.write("stranger", b"")
        assert not store.is_empty()
