"""Choose the reader for an input: a URL table, a folder of pictures, or WebDataset tars.

input -> make_source() -> plan(): tasks with digests (client, cheap)
                       -> read(task): raw samples with their original bytes (worker)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from curate.core.errors import DataError
from curate.core.manifest import Task
from curate.sources.config import IngestConfig

TABLE_SUFFIXES = (".parquet", ".csv", ".tsv", ".jsonl")
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif")


@dataclass(frozen=True, slots=True, kw_only=True)
class RawSample:
    """Hold one sample as found: bytes or the reason why there are none.

    Args:
        row: position in the source, for tracing back.
        data: original bytes; None when status is not "ok".
    """

    key: str
    row: int
    url: str
    caption: str
    source: str
    license: str = ""
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
    path = Path(config.source)
    if not path.exists():
        raise DataError(f"input: must exist, got {path}; set input=PATH")
    if path.is_dir():
        if any(path.glob("*.tar")):
            from curate.sources.webdataset import WebDatasetSource

            return WebDatasetSource(sorted(path.glob("*.tar")))
        from curate.sources.folder import FolderSource

        return FolderSource(path, config.shard_size)
    if path.suffix == ".tar":
        from curate.sources.webdataset import WebDatasetSource

        return WebDatasetSource([path])
    if path.suffix in TABLE_SUFFIXES:
        from curate.sources.url_table import UrlTableSource

        return UrlTableSource(path, config)
    raise DataError(
        f"input: must be a folder, a .tar or one of {', '.join(TABLE_SUFFIXES)}, got {path}; "
        "convert it"
    )
