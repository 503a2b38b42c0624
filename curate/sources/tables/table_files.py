"""Open table files by their endings: one file or a folder of parts, on a disk or behind a URL."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from curate.core.errors import DataError
from curate.core.remote_store import RemoteStore
from curate.core.store import Store
from curate.sources.config import IngestConfig
from curate.sources.files import facts_of, place_of
from curate.sources.tables.delimited import CSV, LIST, PLAIN_TSV, TSV, DelimitedReader
from curate.sources.tables.json_lines import JsonLinesReader
from curate.sources.tables.parquet_rows import ParquetReader
from curate.sources.tables.row_table import PartReader, Table, TablePart
from curate.sources.tables.table_presets import find_preset
from curate.sources.tables.text_lines import COMPRESSIONS

_TEXTS = (".csv", ".tsv", ".jsonl", ".json", ".txt")
TABLE_SUFFIXES = (".parquet", *_TEXTS)
_PART_SUFFIXES = (".parquet", ".csv", ".tsv", ".jsonl", ".txt")  # .json beside data is often facts
_COPY_BYTES = 2**28  # chosen by us: a larger remote parquet file is read by ranges, not fetched


def table_kind(name: str) -> str:
    """Give the ending that says how a file is read, e.g. ".csv" of "a.csv.gz"; "" for no table."""
    path = PurePosixPath(name.lower())
    if path.suffix in COMPRESSIONS:
        path = path.with_suffix("")
        return path.suffix if path.suffix in _TEXTS else ""
    return path.suffix if path.suffix in TABLE_SUFFIXES else ""


def table_parts(names: Sequence[str], place: str) -> list[str]:
    """Find the parts of a table among the files of a folder, in order of name; none if none are.

    Args:
        names: of the folder's files.
        place: what messages call the folder.

    Raises:
        DataError: there are tables of several kinds.
    """
    shown = [name for name in names if not name.startswith((".", "_"))]
    parts = [name for name in shown if table_kind(name) in _PART_SUFFIXES]
    kinds = sorted({table_kind(name) for name in parts})
    if len(kinds) > 1 and ".txt" in kinds:  # a README.txt beside the parts
        kinds.remove(".txt")
        parts = [name for name in parts if table_kind(name) != ".txt"]
    if len(kinds) > 1:
        raise DataError(
            f"{place}: must hold tables of one kind, got {', '.join(kinds)}; "
            "name one file or move the others away"
        )
    return sorted(parts)


def open_table(store: Store, names: Sequence[str], config: IngestConfig) -> Table:
    """Give the table that some files of a folder make; nothing is read yet.

    Args:
        store: the folder.
        names: the parts, in order.
        config: `table`, for files without a header.
    """
    place = place_of(store, names[0]) if len(names) == 1 else store.url
    return Table(place, [_part(store, name, config) for name in names])


def open_path(path: Path, config: IngestConfig, place: str = "") -> Table:
    """Give the table of one local file, under a name that messages call it."""
    name = place or str(path)
    part = TablePart(
        name=path.name,
        place=name,
        open=lambda: _reader(path, name, config),
        version=lambda: str(path.stat().st_mtime_ns),
    )
    return Table(name, [part])


def _part(store: Store, name: str, config: IngestConfig) -> TablePart:
    place = place_of(store, name)
    return TablePart(
        name=name,
        place=place,
        open=lambda: _open(store, name, place, config),
        version=lambda: ":".join(map(str, facts_of(store, name))),
    )


def _open(store: Store, name: str, place: str, config: IngestConfig) -> PartReader:
    if not isinstance(store, RemoteStore):
        return _reader(store.local_path(name), place, config)
    if table_kind(name) == ".parquet" and store.facts(name)[0] > _COPY_BYTES:
        return ParquetReader(store.open(name), place)
    # Every task reads its own rows of the table, so a worker fetches it once.
    return _reader(store.local_path(name, keep=True), place, config)


def _reader(path: Path, place: str, config: IngestConfig) -> PartReader:
    preset = find_preset(config.table)
    names = tuple(preset.columns) if preset and not preset.has_header else None
    kind = table_kind(path.name)
    match kind:
        case ".parquet":
            return ParquetReader(path, place)
        case ".csv":
            return DelimitedReader(path, CSV, place, names)
        case ".tsv":
            return DelimitedReader(path, PLAIN_TSV if names else TSV, place, names)
        case ".txt":
            return DelimitedReader(path, LIST, place, ("url",))
        case _:
            return JsonLinesReader(path, place, may_be_array=kind == ".json")
