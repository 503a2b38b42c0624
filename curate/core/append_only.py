"""Keep files of JSON lines that only ever grow: what was logged stays logged, whatever is killed.

On a disk a line is appended (O_APPEND), synced, and only its owner may read it. A line that a crash
cut short stays as it is, ends at the next write and counts as never written. An object store cannot
append: the object is replaced whole, which its owner alone may do.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from curate.core.store import LocalStore, Store


def append_lines(store: Store, name: str, lines: Sequence[Mapping[str, Any]]) -> None:
    """Append objects, one a line; they are on the disk when this returns.

    Args:
        store: the folder; the caller owns it.
        name: of the file, made when it is absent.
        lines: what to append; none touches nothing.
    """
    data = "".join(json.dumps(line, sort_keys=True) + "\n" for line in lines).encode()
    if not data:
        return
    if isinstance(store, LocalStore):
        _append(store, name, data)
    else:
        store.write(name, (_read(store, name) or b"") + data)


def read_lines(store: Store, name: str) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file, oldest first; none when it is absent."""
    for line in (_read(store, name) or b"").split(b"\n"):
        try:
            value = json.loads(line)
        except ValueError:  # cut short by a crash, or the empty end
            continue
        if isinstance(value, dict):
            yield value


def _append(store: LocalStore, name: str, data: bytes) -> None:
    store.folder.mkdir(parents=True, exist_ok=True)
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT
    descriptor = os.open(store.folder / name, flags, 0o600)
    with os.fdopen(descriptor, "r+b", buffering=0) as stream:
        size = os.fstat(descriptor).st_size
        is_cut = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        rest = memoryview(b"\n" + data if is_cut else data)
        while rest:
            rest = rest[stream.write(rest) or 0 :]
        os.fsync(descriptor)
    store.sync()


def _read(store: Store, name: str) -> bytes | None:
    try:
        return store.read(name)
    except FileNotFoundError:
        return None
