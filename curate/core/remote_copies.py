"""Keep whole copies of remote files in a folder of this process, while libraries want a path.

    <temporary folder>/latentmill-<uid>/<host>-<pid>/task/<digest>/<file name>

The digest is of all that the store says of the object, so a copy is never stale. `kept` instead of
`task` holds what several tasks read. The folder goes with the process; those of killed processes
are swept by the next one on the same host.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import os
import shutil
import socket
import tempfile
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

from curate.core.errors import StoreError

_PART_BYTES = 8 << 20  # chosen by us: at most eight are in memory
_FETCHERS = 8  # chosen by us: one connection to S3 gives some 80 MB/s


def info_of(system: Any, path: str) -> dict[str, Any]:
    """Ask the store for an object's size, type and whatever tells its versions apart."""
    system.invalidate_cache()  # some classes (hf) keep listings whatever they are told
    return dict(system.info(path))


def fetch_copy(system: Any, path: str, read: Callable[[int, int], bytes], keep: bool) -> Path:
    """Fetch under a temporary name into a folder named after all that the store says of it.

    Args:
        system: fsspec's file system.
        path: of the object.
        read: (start, stop) -> those bytes; by parts, so that a fault costs one part.
        keep: leave it when `drop_copies` is called.
    """
    before = info_of(system, path)
    if before["type"] != "file":
        raise FileNotFoundError(path)
    digest = hashlib.sha256(repr(sorted(before.items())).encode()).hexdigest()
    folder = _copies_folder(os.getpid()) / ("kept" if keep else "task")
    target = folder / digest[:20] / path.rpartition("/")[2]
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{uuid.uuid4().hex}.partial")
    try:
        _fetch_parts(temporary, before["size"], read)
        if info_of(system, path) != before:
            raise OSError(errno.EIO, "an object that changed while it was copied")
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return target


def private_folder() -> Path:
    """Give this user's own folder for temporary files; nobody else can put files there.

    Raises:
        StoreError: somebody else owns it.
    """
    base = Path(tempfile.gettempdir()) / f"latentmill-{os.getuid()}"
    base.mkdir(mode=0o700, exist_ok=True)
    if base.is_symlink() or base.stat().st_uid != os.getuid():
        raise StoreError(f"{base}: must be your own folder, got another's; set TMPDIR")
    return base


def drop_copies() -> None:
    """Remove this process's copies but the kept ones; those of its other threads go, too."""
    shutil.rmtree(_copies_folder(os.getpid()) / "task", ignore_errors=True)


def _drop_all() -> None:
    shutil.rmtree(_copies_folder(os.getpid()), ignore_errors=True)


def _fetch_parts(target: Path, size: int, read: Callable[[int, int], bytes]) -> None:
    with target.open("wb") as stream, ThreadPoolExecutor(_FETCHERS) as pool:

        def fetch(start: int) -> None:
            data = read(start, min(start + _PART_BYTES, size))
            os.pwrite(stream.fileno(), data, start)

        for future in [pool.submit(fetch, start) for start in range(0, size, _PART_BYTES)]:
            future.result()


@functools.cache
def _copies_folder(process: int) -> Path:
    """Name the process's folder; sweep those of dead processes and remove this one at exit."""
    base = private_folder()
    host = socket.gethostname()  # the temporary folder may be shared by machines
    for folder in base.glob(f"{host}-*"):
        pid = folder.name.removeprefix(f"{host}-")
        if pid.isdigit() and not _is_alive(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)
    Finalize(None, _drop_all, exitpriority=0)  # unlike atexit it runs in forked workers, too
    return base / f"{host}-{process}"


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
