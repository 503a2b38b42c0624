"""Read and write the files of one folder, on a disk or behind a URL that fsspec knows.

Everything that becomes part of an output goes through a `Store`, so that a local path, `s3://`,
`gs://` and `memory://` behave alike: a file is either whole or absent, a listing tells what is
there. On a disk a file is made whole by fsync and rename, on an object store by one upload.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, Protocol

PARTIAL = ".partial"  # ends the name of a file that is being written; a kill may leave it behind


class Store(Protocol):
    """Hold the files of one folder; names may have slashes (`page/index.html`)."""

    url: str
    is_local: bool

    @property
    def name(self) -> str:
        """Give the folder's own name, the last part of the URL."""
        ...

    def child(self, name: str) -> Store:
        """Give the store of a folder below."""
        ...

    def names(self, suffix: str = "") -> list[str]:
        """List the files directly in the folder whose name ends so, sorted; none if absent."""
        ...

    def exists(self, name: str) -> bool:
        """Tell whether the file is there."""
        ...

    def is_empty(self) -> bool:
        """Tell whether the folder is absent or holds nothing but hidden files."""
        ...

    def read(self, name: str) -> bytes:
        """Read a small file whole; FileNotFoundError when it is absent."""
        ...

    def read_many(self, names: Sequence[str]) -> dict[str, bytes]:
        """Read small files, many at a time where that is faster; absent ones are left out."""
        ...

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading, seekable; FileNotFoundError when it is absent."""
        ...

    def local_path(self, name: str) -> Path:
        """Give a path where the file can be read: its own, or that of a copy fetched now."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Write a small file: after a crash it is the old one or the new one, never a part."""
        ...

    def create(self, name: str, data: bytes) -> bool:
        """Write a small file unless it exists; of many callers exactly one is told True."""
        ...

    def put(self, path: Path, name: str) -> None:
        """Take over a local file that is whole and synced; the path may be gone afterwards."""
        ...

    def delete(self, name: str) -> None:
        """Remove a file; one that is absent stays absent."""
        ...

    def sync(self, names: Iterable[str] = ()) -> None:
        """Make the folder's entries, and those of the names' own folders, survive a power cut."""
        ...


class LocalStore:
    """Keep the files in a folder of this machine, or of a network disk that it mounts."""

    is_local = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = str(folder)

    def __repr__(self) -> str:
        return f"LocalStore({self.url!r})"

    @property
    def name(self) -> str:
        """Give the folder's own name."""
        return self.folder.name

    def child(self, name: str) -> LocalStore:
        """Give the store of a folder below."""
        return LocalStore(self.folder / name)

    def names(self, suffix: str = "") -> list[str]:
        """List the files directly in the folder whose name ends so, sorted."""
        try:
            with os.scandir(self.folder) as entries:
                return sorted(e.name for e in entries if e.name.endswith(suffix) and e.is_file())
        except FileNotFoundError:
            return []

    def exists(self, name: str) -> bool:
        """Tell whether the file is there."""
        return (self.folder / name).is_file()

    def is_empty(self) -> bool:
        """Tell whether the folder is absent or holds nothing but hidden files."""
        if not self.folder.exists():
            return True
        return all(path.name.startswith(".") for path in self.folder.iterdir())

    def read(self, name: str) -> bytes:
        """Read a small file whole."""
        return (self.folder / name).read_bytes()

    def read_many(self, names: Sequence[str]) -> dict[str, bytes]:
        """Read small files, one after the other."""
        found: dict[str, bytes] = {}
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                found[name] = self.read(name)
        return found

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading."""
        return (self.folder / name).open("rb")

    def local_path(self, name: str) -> Path:
        """Give the file's own path."""
        return self.folder / name

    def write(self, name: str, data: bytes) -> None:
        """Write by temporary name, fsync and rename."""
        target = self.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{os.getpid()}{PARTIAL}")
        try:
            with temporary.open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(target)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(target.parent)

    def create(self, name: str, data: bytes) -> bool:
        """Write with O_EXCL and fsync; a crash in between leaves a file that is cut short."""
        target = self.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with target.open("xb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
        except FileExistsError:
            return False
        _sync_folder(target.parent)
        return True

    def put(self, path: Path, name: str) -> None:
        """Rename the file into the folder; it must lie on the same file system."""
        target = self.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)

    def delete(self, name: str) -> None:
        """Remove a file."""
        (self.folder / name).unlink(missing_ok=True)

    def sync(self, names: Iterable[str] = ()) -> None:
        """Sync the folder and the folders that the names lie in."""
        for folder in {self.folder, *((self.folder / name).parent for name in names)}:
            _sync_folder(folder)


def open_store(place: str | Path) -> Store:
    """Open a folder by path or URL; nothing is made or fetched yet.

    Raises:
        StoreError: the URL's scheme is unknown, or its library is not installed.
    """
    text = str(place)
    if isinstance(place, Path) or "://" not in text:
        return LocalStore(Path(text))
    if text.startswith("file://"):
        return LocalStore(Path(text.removeprefix("file://")))
    from curate.core.remote_store import RemoteStore

    return RemoteStore(text)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, descriptor)
        os.fsync(descriptor)
