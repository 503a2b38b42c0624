"""Choose the reader for an input: a URL table, a folder of pictures, or WebDataset tars.

input -> make_source() -> plan(): tasks with digests (client, cheap)
                       -> read(task): raw samples with their original bytes (worker)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from curate.core.errors import DataError
from curate.core.manifest import Task
from curate.core.remote_store import RemoteStore
from curate.core.store import Store, open_store
from curate.sources.config import IngestConfig
from curate.sources.files import place_of

TABLE_SUFFIXES = (".parquet", ".csv", ".tsv", ".jsonl")
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")


@dataclass(frozen=True, slots=True, kw_only=True)
class RawSample:
    """Hold one sample as found: bytes or the reason why there are none.

    Args:
        row: position in the source, for tracing back.
        source_key: what the source calls the sample (uid, __key__, id); "" where it does not.
        fields: the source's other fields, of JSON types; they survive in the tables.
        members: further members of a tar by extension ("cls", "seg.png"); they survive as they are.
        expected_sha256: what the source says of the bytes, 64 hex characters; "" says nothing.
        data: original bytes; None when status is not "ok".
    """

    key: str
    row: int
    url: str
    caption: str
    source: str
    license: str = ""
    source_key: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict[str, Any])
    members: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    expected_sha256: str = ""
    data: bytes | None = None
    status: str = "ok"
    error: str = ""


class Source(Protocol):
    """Plan and read one kind of input."""

    def plan(self) -> Sequence[Task]:
        """List tasks; each names the digest of its part of the input."""
        ...

    def read(self, task: Task, scratch: Path) -> Iterator[RawSample]:
        """Yield the task's samples in source order; failed ones too."""
        ...


def make_source(config: IngestConfig) -> Source:
    """Open the input that `input=` names.

    Raises:
        DataError: the path is missing, or holds nothing that can be read.
    """
    if not config.source:
        raise DataError(
            "input: must name a URL table, a folder or WebDataset tars, got nothing; set input=PATH"
        )
    store, name = _split(config.source)
    if not name:
        tars = store.names(".tar")
        if tars:
            from curate.sources.webdataset import WebDatasetSource

            return WebDatasetSource(store, tars)
        from curate.sources.folder import FolderSource

        return FolderSource(store, config.shard_size)
    suffix = PurePosixPath(name).suffix
    if suffix == ".tar":
        from curate.sources.webdataset import WebDatasetSource

        return WebDatasetSource(store, [name])
    if suffix in TABLE_SUFFIXES:
        from curate.sources.url_table import UrlTableSource

        return UrlTableSource(_table_path(store, name), config, place_of(store, name))
    raise DataError(
        f"input: must be a folder, a .tar or one of {', '.join(TABLE_SUFFIXES)}, got "
        f"{place_of(store, name)}; convert it"
    )


def _split(source: str) -> tuple[Store, str]:
    """Give an input folder, or the folder and the name of an input file.

    Raises:
        DataError: there is neither.
    """
    store = open_store(source)
    if store.is_local:
        path = Path(store.url)
        if path.exists():
            return (store, "") if path.is_dir() else (open_store(path.parent), path.name)
    else:
        folder, _, name = store.url.rpartition("/")
        above = None if folder.endswith("/") else open_store(folder)
        if above and above.exists(name):
            return above, name
        if not store.is_empty():
            return store, ""
    raise DataError(f"input: must exist, got {source}; set input=PATH")


def _table_path(store: Store, name: str) -> Path:
    # Every task reads its own rows of the table, so a worker fetches it once.
    if isinstance(store, RemoteStore):
        return store.local_path(name, keep=True)
    return store.local_path(name)
