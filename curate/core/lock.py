"""Let one run at a time own an `out`, and keep stragglers of an earlier run from committing.

    claim_out(store) -> Claim(url, token): the lock file names the owner, who renews or holds it
    claim.committing(): a worker asks before it moves files; a lost claim is a StoreError

On a disk the kernel holds the lock (flock) and drops it when its owner dies, however that happens;
a worker of the dead run that is still busy finds another token in the lock file and may not commit.
The next owner waits for commits under way, so none can land after its first look at the folder.
On an object store there is no kernel: the owner renews the lock every few seconds, a lock that was
not renewed for a minute counts as left behind, and a commit asks for the token once, before it
starts.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from curate.core.disk_errors import naming_hopeless
from curate.core.errors import StoreError
from curate.core.store import LocalStore, Store, open_store

logger = logging.getLogger(__name__)

LOCK, FENCE = ".lock", ".fence"
RENEW_S = 10.0  # chosen by us: two small requests a minute and a half-minute of grace
LEFT_BEHIND_S = 60.0  # chosen by us: six missed renewals
GRACE_S = 1.0  # chosen by us: a look at the lock takes microseconds
SETTLE_S = 2.0  # chosen by us: longer than one small write to an object store takes


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Prove to a worker that its run still owns `out`; small, travels with every task."""

    url: str
    token: str

    @contextlib.contextmanager
    def committing(self) -> Generator[None]:
        """Hold the folder while files move.

        Raises:
            StoreError: another run has taken `out` over since this task began.
        """
        store = open_store(self.url)
        if not isinstance(store, LocalStore):
            self._check(store)
            yield
            return
        with (store.folder / FENCE).open("ab") as fence:
            fcntl.flock(fence, fcntl.LOCK_SH)
            self._check(store)
            yield

    def _check(self, store: Store) -> None:
        owner = read_owner(store)
        if owner.get("token") != self.token:
            raise StoreError(
                f"{self.url}: must still belong to the run that started this task, got a run "
                f"{describe_owner(owner)}; nothing of the task was kept"
            )


@contextlib.contextmanager
def claim_out(store: Store) -> Generator[Claim]:
    """Own `out` until the block ends.

    Raises:
        StoreError: another run that is alive owns it.
    """
    claim = Claim(url=store.url, token=secrets.token_hex(16))
    holding = (
        _hold_local(store, claim) if isinstance(store, LocalStore) else _hold_remote(store, claim)
    )
    with holding:
        yield claim


def read_owner(store: Store) -> dict[str, Any]:
    """Read who owns or last owned `out`: token, host, pid, started, command; empty when unknown."""
    try:
        owner = json.loads(store.read(LOCK))
    except (FileNotFoundError, ValueError):
        return {}
    return owner if isinstance(owner, dict) else {}


def describe_owner(owner: dict[str, Any]) -> str:
    """Say who it is: `pid 12 on host a since 2026-11-22 10:00:00 (curate run ...)`."""
    if not owner:
        return "without a name"
    return "pid {pid} on {host} since {started} ({command})".format_map(
        {"pid": "?", "host": "?", "started": "?", "command": "?", **owner}
    )


def is_owned(store: Store) -> bool:
    """Tell whether a live run owns `out`; looks only."""
    if not isinstance(store, LocalStore):
        return _renewed_s_ago(read_owner(store)) < LEFT_BEHIND_S
    try:
        with (store.folder / LOCK).open("rb") as stream:
            return not _try_flock(stream)
    except OSError:  # no lock file, or one that is not ours to read
        return False


@contextlib.contextmanager
def _hold_local(store: LocalStore, claim: Claim) -> Generator[None]:
    with naming_hopeless(store.url, writing=True):
        store.folder.mkdir(parents=True, exist_ok=True)
        stream = (store.folder / LOCK).open("a+b")
    with stream:
        tries = int(GRACE_S / 0.05)
        while not _try_flock(stream):  # `curate status` may be looking, for a moment
            tries -= 1
            if tries < 0:
                _refuse(store)
            time.sleep(0.05)
        with naming_hopeless(store.url, writing=True):
            stream.truncate(0)
            stream.write(_owner_text(claim))
            stream.flush()
        with (store.folder / FENCE).open("ab") as fence:  # waits for commits under way
            fcntl.flock(fence, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _hold_remote(store: Store, claim: Claim) -> Generator[None]:
    if not store.create(LOCK, _owner_text(claim)):
        if _renewed_s_ago(read_owner(store)) < LEFT_BEHIND_S:
            _refuse(store)
        store.write(LOCK, _owner_text(claim))
        time.sleep(SETTLE_S)  # two runs may take over at once: the later write wins
        if read_owner(store).get("token") != claim.token:
            _refuse(store)
    stop = threading.Event()
    thread = threading.Thread(target=_renew, args=(store, claim, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        if read_owner(store).get("token") == claim.token:
            store.delete(LOCK)


def _renew(store: Store, claim: Claim, stop: threading.Event) -> None:
    while not stop.wait(RENEW_S):
        try:
            if read_owner(store).get("token") != claim.token:
                return  # taken over; the next commit will say so
            store.write(LOCK, _owner_text(claim))
        except StoreError as error:  # the store may answer again before the lock is too old
            logger.warning("%s: could not renew the lock: %s", store.url, error)


def _refuse(store: Store) -> None:
    raise StoreError(
        f"out: must be used by one run at a time, got {store.url} in use by "
        f"{describe_owner(read_owner(store))}; wait for it, stop it, or set out=DIR"
    )


def _try_flock(stream: BinaryIO | Any) -> bool:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:  # a network disk that was mounted without locks
        raise StoreError(
            f"{stream.name}: must lie on a disk that can lock files, got {error}; "
            "mount it with locks, or set out=DIR to another disk"
        ) from error
    return True


def _owner_text(claim: Claim) -> bytes:
    owner = {
        "token": claim.token,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": time.strftime("%Y-%m-%d %H:%M:%S"),
        "renewed": time.time(),
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:300],
    }
    return (json.dumps(owner, sort_keys=True) + "\n").encode()


def _renewed_s_ago(owner: dict[str, Any]) -> float:
    renewed = owner.get("renewed")
    return time.time() - renewed if isinstance(renewed, int | float) else float("inf")
