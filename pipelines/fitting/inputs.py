"""Open an input that holds pictures, and say which captions its samples have.

our shards (finished ones), other WebDataset tars, a folder, tables of pictures -> raw samples
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from curate.core.errors import DataError
from curate.core.schema import is_key
from curate.core.shard import ShardSet
from curate.core.store import open_store
from curate.sources.config import IngestConfig
from curate.sources.folder import FolderSource
from curate.sources.source import RawSample, Source
from curate.sources.table import make_source
from curate.sources.tables.image_table import ImageTableSource
from curate.sources.webdataset import WebDatasetSource

ALT = "alt"  # source of the caption that came with a picture


def open_input(path: str, scratch: Path) -> Iterator[RawSample]:
    """Yield the samples of an input that holds pictures.

    Raises:
        DataError: it holds none, or URLs of pictures.
    """
    source = _open_source(path)
    for task in source.plan():
        yield from source.read(task, scratch)


def captions_of(raw: RawSample) -> dict[str, str]:
    """Give source -> text: what bucket's .json lists, or else the one caption as alt text.

    Bucket's .txt is one of its captions, not the alt text.
    """
    told: Any = raw.fields.get("captions")
    if isinstance(told, dict):  # source: text, as others write it
        told = [{"source": source, "text": text} for source, text in told.items()]
    entries: list[Any] = told if isinstance(told, list) else [{"source": ALT, "text": raw.caption}]
    return {
        str(entry.get("source")): entry["text"]
        for entry in entries
        if isinstance(entry, dict) and isinstance(entry.get("text"), str) and entry["text"].strip()
    }


def key_of(raw: RawSample) -> str:
    """Give the key of our shards, or else the one made of tar and name."""
    return raw.source_key if is_key(raw.source_key) else raw.key


def _open_source(path: str) -> Source:
    """Open the input; of our own shards only those that are finished."""
    store = open_store(path)
    if not store.is_local or Path(store.url).is_dir():
        shards = ShardSet(store)
        tars = [f"{shard}.tar" for shard in shards.shards() if shards.has_tar(shard)]
        if tars:
            return WebDatasetSource(store, tars)
    source = make_source(IngestConfig(source=path))
    if not isinstance(source, (WebDatasetSource, FolderSource, ImageTableSource)):
        raise DataError(
            f"input: must hold pictures, got {path}; run `curate run stage=ingest` on it and give "
            "the folder of its shards"
        )
    return source
