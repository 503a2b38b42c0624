"""Write tars entry by entry, and read them as an input."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from webdataset.writer import TarWriter

from curate.sources.config import IngestConfig
from curate.sources.source import RawSample
from curate.sources.table import make_source

Entry = tuple[str, bytes] | tarfile.TarInfo


def write_tar(path: Path) -> None:
    with TarWriter(str(path), mtime=0) as writer:
        writer.write({"__key__": "a/1", "jpg": b"one", "txt": b" a red circle \n"})
        writer.write({"__key__": "a/2", "png": b"two", "json": b'{"caption": "blue", "url": "u"}'})
        writer.write({"__key__": "a/3", "txt": b"no picture"})
        writer.write({"__key__": "a/4", "webp": b"four", "json": b"[broken"})


def pack(path: Path, entries: Sequence[Entry], format_: int = tarfile.PAX_FORMAT) -> Path:
    """Write names and bytes, or whole headers, as they come."""
    with tarfile.open(path, "w", format=format_) as tar:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                tar.addfile(entry)
                continue
            info = tarfile.TarInfo(entry[0])
            info.size = len(entry[1])
            tar.addfile(info, io.BytesIO(entry[1]))
    return path


def entry_of(name: str, type_: bytes, linkname: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = type_, linkname
    return info


def read_all(path: Path, **config: Any) -> list[RawSample]:
    source = make_source(IngestConfig(source=str(path), **config))
    return [sample for task in source.plan() for sample in source.read(task, path)]


def read_entries(tmp_path: Path, entries: Sequence[Entry], **config: Any) -> list[RawSample]:
    return read_all(pack(tmp_path / "a.tar", entries), **config)
