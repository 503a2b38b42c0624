"""Choose the reader for an input: a URL table, pictures, WebDataset tars, or a web crawl.

input -> make_source() -> plan(): tasks with digests (client, cheap)
                       -> read(task): raw samples with their original bytes (worker)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from curate.core.errors import DataError
from curate.core.shard import ShardSet
from curate.core.store import Store, open_store
from curate.sources.config import IngestConfig
from curate.sources.files import picture_files, place_of
from curate.sources.source import Source
from curate.sources.tables.huggingface import (
    dataset_roots,
    is_dataset,
    is_saved_dataset,
    open_dataset,
)
from curate.sources.tables.row_table import SizedReader, Table
from curate.sources.tables.table_files import TABLE_SUFFIXES, open_table, table_kind, table_parts

WARC_SUFFIXES = (".warc.gz", ".warc", ".wat.gz", ".wat")


def make_source(config: IngestConfig, own: ShardSet | None = None) -> Source:
    """Open the input that `input=` names.

    Args:
        config: names it and says how it is read.
        own: the stage's shard set, for sources that write helper shards.

    Raises:
        DataError: the path is missing, or holds nothing that can be read.
    """
    if not config.source:
        raise DataError(
            "input: must name a URL table, a folder or WebDataset tars, got nothing; set input=PATH"
        )
    if is_dataset(config.source):
        return _dataset_source(config)
    store, name = _split(config.source)
    if not name:
        tars = store.names(".tar")
        if tars:
            from curate.sources.webdataset import WebDatasetSource

            return WebDatasetSource(store, tars, config.tar_keys)
        if crawl := [name for name in store.names() if name.endswith(WARC_SUFFIXES)]:
            return _warc_source(store, crawl, config, own)
        if store.is_local and is_saved_dataset(Path(store.url)):
            return _dataset_source(config)
        if parts := _folder_parts(store):
            return _table_source(open_table(store, parts, config), config)
        from curate.sources.folder import FolderSource

        return FolderSource(store, config.shard_size)
    if name.endswith(WARC_SUFFIXES):
        return _warc_source(store, [name], config, own)
    if PurePosixPath(name).suffix == ".tar":
        from curate.sources.webdataset import WebDatasetSource

        return WebDatasetSource(store, [name], config.tar_keys)
    if table_kind(name):
        return _table_source(open_table(store, [name], config), config)
    raise DataError(
        "input: must be a folder, a .tar or one of "
        f"{', '.join([*TABLE_SUFFIXES, *WARC_SUFFIXES])}, got {place_of(store, name)}; convert it"
    )


def _warc_source(
    store: Store, files: Sequence[str], config: IngestConfig, own: ShardSet | None
) -> Source:
    from curate.sources.crawls.warc import WarcSource

    return WarcSource(store, files, config, own)


def _table_source(table: Table, config: IngestConfig, roots: Sequence[Path] = ()) -> Source:
    """Read the pictures in a table's cells, or else fetch its URLs."""
    reader = table.reader(0)
    if isinstance(reader, SizedReader):
        from curate.sources.tables.image_table import ImageTableSource, find_image_column

        image = find_image_column(reader.schema, config.image_column, table.place)
        if image:
            return ImageTableSource(table, image, config, roots)
    from curate.sources.tables.url_table import UrlTableSource

    return UrlTableSource(table, config)


def _dataset_source(config: IngestConfig) -> Source:
    table = open_dataset(config.source, config.revision)
    return _table_source(table, config, dataset_roots(config.source))


def _folder_parts(store: Store) -> list[str]:
    """Find the parts of a table; a folder that holds pictures, too, is one of pictures."""
    names = store.names()
    if not any(map(table_kind, names)) or picture_files(store):
        return []
    return table_parts(names, store.url)


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
