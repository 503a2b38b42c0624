"""Load a list of hashes into sorted arrays of distinct hashes, one for each kind.

    files -> entries (`list_formats.py`) -> minus those taken back later -> uint8 [M, bytes] a kind

An entry costs its bytes and eight more for its owner while it loads: a million PDQ hashes are 40 MB
then and 32 MB after.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from curate.core.errors import DataError
from curate.stages.matching.blocklist_config import ListConfig
from curate.stages.matching.list_formats import read_entries
from curate.stages.matching.list_kinds import KINDS, Entry

Digests = NDArray[np.uint8]
"""[M, bytes of a hash]."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HashList:
    """Hold a list that was read.

    Args:
        digests: kind -> its distinct hashes, sorted; kinds without one are left out.
        unmatchable: what cannot be compared with a picture -> how many entries.
        num_withdrawn: hashes that a later entry took back.
        sha256: of what was read.
    """

    name: str
    config: ListConfig
    digests: Mapping[str, Digests]
    unmatchable: Mapping[str, int]
    num_withdrawn: int
    sha256: str

    def describe(self) -> str:
        """Say in a line what it holds, and what of it cannot be matched."""
        counts = [f"{len(own):,} {kind}" for kind, own in self.digests.items()]
        text = f"list {self.name}: {', '.join(counts) or 'no hash'}"
        if self.num_withdrawn:
            text += f"; {self.num_withdrawn:,} withdrawn"
        if self.unmatchable:
            words = ", ".join(f"{num:,} {name}" for name, num in sorted(self.unmatchable.items()))
            text += f"; cannot be matched: {words}"
        return text


def load_list(name: str, config: ListConfig) -> HashList:
    """Read a list.

    Raises:
        DataError: it is missing, changes meanwhile, a line of it is no entry, or it holds no usable
            hash and may not.
    """
    sha256, collected = digest_list(config), _Collected()
    for path in _files_of(config):
        for entry in read_entries(path, config.format, config.kind):
            collected.add(entry)
    found = HashList(
        name=name,
        config=config,
        digests=collected.finish(),
        unmatchable=dict(collected.unmatchable),
        num_withdrawn=collected.num_withdrawn,
        sha256=sha256,
    )
    if digest_list(config) != sha256:
        raise DataError(
            f"{config.path}: must not change while it is read, got other bytes than before; "
            "run the same line again"
        )
    if not found.digests and not config.allow_empty:
        raise DataError(
            f"{config.path}: must hold a hash that can be matched, got none ({found.describe()}); "
            f"check it, or set blocklist.lists.{name}.allow_empty=true"
        )
    return found


def digest_list(config: ListConfig) -> str:
    """Give the sha256 of a list's file; of a folder, that over its files' names and digests.

    Raises:
        DataError: it is missing.
    """
    files = _files_of(config)
    digests = [_digest(path) for path in files]
    if not Path(config.path).is_dir():
        return digests[0]
    text = "\n".join(f"{path.name} {own}" for path, own in zip(files, digests, strict=True))
    return hashlib.sha256(text.encode()).hexdigest()


class _Collected:
    """Collect entries in the order read, and what later ones take back of them."""

    def __init__(self) -> None:
        self.unmatchable: Counter[str] = Counter()
        self.num_withdrawn = 0
        self._bytes = {kind: bytearray() for kind in KINDS}
        self._owners = {kind: array("Q") for kind in KINDS}
        self._gone: dict[tuple[str, bytes], int] = {}  # -> hashes of the kind that came before
        self._gone_owners: dict[int, dict[str, int]] = {}

    def add(self, entry: Entry) -> None:
        owner = xxhash.xxh3_64_intdigest(entry.owner.encode()) if entry.owner else 0
        if entry.withdrawn:
            if entry.digest:
                self._gone[entry.kind, entry.digest] = len(self._owners[entry.kind])
            if entry.owner:
                self._gone_owners[owner] = {kind: len(own) for kind, own in self._owners.items()}
        elif entry.digest:
            self._bytes[entry.kind] += entry.digest
            self._owners[entry.kind].append(owner)
        else:
            self.unmatchable[entry.kind] += 1

    def finish(self) -> dict[str, Digests]:
        found: dict[str, Digests] = {}
        for kind, size in KINDS.items():
            rows = np.frombuffer(bytes(self._bytes[kind]), np.uint8).reshape(-1, size)
            kept = self._find_kept(kind, rows)
            self.num_withdrawn += len(rows) - int(kept.sum())
            if kept.any():
                found[kind] = np.unique(rows[kept], axis=0)
        return found

    def _find_kept(self, kind: str, rows: Digests) -> NDArray[np.bool_]:
        """Tell which hashes no later entry took back: [M]."""
        places = np.arange(len(rows))
        kept = np.ones(len(rows), bool)
        if self._gone:
            last = [self._gone.get((kind, row.tobytes()), 0) for row in rows]
            kept &= places >= np.array(last, np.int64)
        if self._gone_owners:
            none: Mapping[str, int] = {}
            last = [self._gone_owners.get(own, none).get(kind, 0) for own in self._owners[kind]]
            kept &= places >= np.array(last, np.int64)
        return kept


def _files_of(config: ListConfig) -> Sequence[Path]:
    """List the files of a list.

    Raises:
        DataError: there are none, or a folder holds anything else: it would be left out.
    """
    path = Path(config.path)
    found = sorted(_visible(path)) if path.is_dir() else [path]
    if not any(own.is_file() for own in found):
        raise DataError(
            f"{path}: must be a file, or a folder with files, got none there; fix the list's path"
        )
    for own in found:
        if not own.is_file():
            raise DataError(
                f"{own}: must be a file, as all in the folder of a list, got "
                f"{'a folder' if own.is_dir() else 'none'}; name it as a list of its own"
            )
    return found


def _visible(folder: Path) -> Iterator[Path]:
    return (own for own in folder.iterdir() if not own.name.startswith("."))


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: must be readable, got {error.strerror}; fix the path") from error
