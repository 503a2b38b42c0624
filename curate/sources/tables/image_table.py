"""Read tables whose cells hold the pictures: parquet, or a data set of the Hugging Face library.

A cell is binary, or a struct of bytes and path (the library's Image feature). The bytes pass
through untouched, a few rows at a time, and a task reads only the row groups its rows lie in.

Keys are over the bytes, the part's name and the row in it: unique without a look at every byte of
what may be terabytes, and the same for any shard size. Equal pictures in two rows are two samples,
as in tars; `dedup` finds them by sha256.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from curate.core.errors import DataError
from curate.core.manifest import Task
from curate.core.schema import make_key, shard_name
from curate.sources.config import IngestConfig
from curate.sources.source import RawSample
from curate.sources.tables.row_block import RowBlock, text_of
from curate.sources.tables.row_table import SizedReader, Span, Table
from curate.sources.tables.table_presets import NOT_CHECKED

_READ_ROWS = 16  # chosen by us: pictures in memory at once
_IMAGE_NAMES = (
    "image", "img", "picture", "photo", "jpg", "jpeg", "png", "webp", "image_bytes",
    "img_bytes", "image_data", "bytes",
)  # fmt: skip
_CAPTION_NAMES = (
    "caption", "text", "txt", "captions", "en_caption", "caption_en", "alt_text", "alt",
    "prompt", "description", "title",
)  # fmt: skip
_OWN_NAMES = ("__key__", "uid", "key", "id", "image_id")
_NOT_IN_EXTENSIONS = re.compile(r"[^a-z0-9_-]+")


def find_image_column(schema: pa.Schema, wanted: str, place: str) -> str:
    """Find the column that holds the pictures; "" where there is none.

    Args:
        schema: of the table.
        wanted: `ingest.image_column`, or "" to look for it.
        place: what messages call the table.

    Raises:
        DataError: the wanted column is missing or holds no bytes.
    """
    holders = [item.name for item in schema if _holds_bytes(item.type)]
    if wanted:
        if wanted not in holders:
            raise DataError(
                f"{place}: column {wanted!r} must hold bytes, got {', '.join(schema.names)}; "
                "set ingest.image_column=NAME"
            )
        return wanted
    structs = [name for name in holders if pa.types.is_struct(schema.field(name).type)]
    named = {name.lower(): name for name in reversed(holders)}
    known = [named[name] for name in _IMAGE_NAMES if name in named]
    return next(iter([*known, *structs]), "")


class ImageTableSource:
    """Plan shards over the rows of a table with a column of pictures.

    Args:
        table: of one or many parts.
        image_column: as `find_image_column` gives it.
        config: names of further columns, rows per shard.
        roots: folders whose files a cell may name instead of holding bytes.

    Raises:
        DataError: there is no column of the name `ingest.sha256_column`.
    """

    def __init__(
        self, table: Table, image_column: str, config: IngestConfig, roots: Sequence[Path] = ()
    ) -> None:
        self._table = Table(table.place, table.parts, _READ_ROWS)
        self._image = image_column
        self._config = config
        self._roots = [root.resolve() for root in roots]
        names, wanted = table.reader(0).names, config.sha256_column
        if wanted not in ("", NOT_CHECKED, *names):
            raise DataError(
                f"{table.place}: column {wanted!r} must exist, got {', '.join(names)}; "
                "set ingest.sha256_column=NAME"
            )

    def plan(self) -> Sequence[Task]:
        """List tasks; an input digest covers the row range and its part's size and time or ETag.

        Raises:
            DataError: the table has no rows, or a part has no column of pictures.
        """
        tasks: list[Task] = []
        start, size = 0, self._config.shard_size
        spans: list[Span] = []
        missing = size
        for part in range(len(self._table.parts)):
            first, num_rows = 0, self._num_rows(part)
            while first < num_rows:
                last = min(first + missing, num_rows)
                spans.append(Span(part=part, first=first, last=last))
                missing, first = missing - (last - first), last
                if missing == 0:
                    tasks.append(self._task(len(tasks), start, spans))
                    start, spans, missing = start + size, [], size
        if spans:
            tasks.append(self._task(len(tasks), start, spans))
        if not tasks:
            raise DataError(f"{self._table.place}: must have rows, got none; set input=PATH")
        return tasks

    def read(
        self, task: Task, scratch: Path, rows: Collection[int] | None = None
    ) -> Iterator[RawSample]:
        """Yield the task's pictures with their captions and other columns."""
        row = task.params["start"]
        for part, first, last in task.params["parts"]:
            for index in range(first, last, _READ_ROWS):
                span = Span(part=part, first=index, last=min(index + _READ_ROWS, last))
                samples = self._samples(span, self._table.read(span), row)
                yield from (s for s in samples if rows is None or s.row in rows)
                row += span.last - span.first

    def _num_rows(self, part: int) -> int:
        reader, place = self._table.reader(part), self._table.parts[part].place
        if not isinstance(reader, SizedReader) or self._image not in reader.names:
            raise DataError(
                f"{place}: column {self._image!r} must exist, got {', '.join(reader.names)}; "
                "move the file away"
            )
        return reader.num_rows

    def _task(self, index: int, start: int, spans: Sequence[Span]) -> Task:
        inputs: dict[str, str] = {}
        for span in spans:
            part = self._table.parts[span.part]
            facts = f"{part.name}:{part.version()}"
            name = f"{part.name}[{span.first}:{span.last}]"
            inputs[name] = hashlib.sha256(facts.encode()).hexdigest()
        params = {"start": start, "parts": [span.to_json() for span in spans]}
        return Task(shard=shard_name(index), inputs=inputs, params=params)

    def _samples(self, span: Span, block: RowBlock, start: int) -> Iterator[RawSample]:
        part = self._table.parts[span.part].name
        reader = self._table.reader(span.part)
        assert isinstance(reader, SizedReader), "the plan refused other readers"
        columns = _find_columns(reader.schema, self._image, self._config)
        captions = [_caption(value) for value in block.values(columns.caption)]
        texts = list(zip(*(block.texts(name) for name in columns.texts), strict=True))
        fields = block.fields({self._image, *columns.texts, *columns.members})
        members = {name: block.values(name) for name in columns.members}
        for index, cell in enumerate(block.values(self._image)):
            url, license_, source_key, sha256 = texts[index]
            data, place = _read_cell(cell, self._roots), str(span.first + index)
            if fields[index].get(columns.caption) == captions[index]:
                del fields[index][columns.caption]  # a list of captions stays beside its first
            yield RawSample(
                key=make_key(data or b"", part, place),
                row=start + index,
                url=url,
                caption=captions[index],
                source=f"{part}#{place}",
                license=license_,
                source_key=source_key,
                fields=fields[index],
                members=_members({name: cells[index] for name, cells in members.items()}),
                expected_sha256=sha256.strip().lower(),
                data=data,
                status="ok" if data is not None else "no_picture",
                error="" if data is not None else f"column {self._image} is empty",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Columns:
    """Say which columns of a part mean what; "" where there is none.

    Args:
        caption: texts, or lists of them.
        texts: URL, licence, the source's own key, sha256.
        members: further columns of bytes.
    """

    caption: str
    texts: tuple[str, str, str, str]
    members: tuple[str, ...]


def _find_columns(schema: pa.Schema, image: str, config: IngestConfig) -> _Columns:
    def first(*names: str) -> str:
        return next((name for name in names if name in schema.names and name != image), "")

    return _Columns(
        caption=first(config.caption_column, *_CAPTION_NAMES),
        texts=(
            first(config.url_column, "url", "URL"),
            first(config.license_column),
            first(*_OWN_NAMES),
            first(config.sha256_column),
        ),
        members=tuple(
            item.name for item in schema if item.name != image and _holds_bytes(item.type)
        ),
    )


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _holds_bytes(kind.field(index).type)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _caption(value: Any) -> str:
    """Give a cell's caption: of a list the first."""
    if isinstance(value, list):
        value = value[0] if value else ""
    return text_of(value).strip()


def _read_cell(cell: Any, roots: Sequence[Path]) -> bytes | None:
    """Give a cell's bytes, or those of the file that it names below one of the roots."""
    if not isinstance(cell, Mapping):
        return cell or None
    if cell["bytes"]:
        return cell["bytes"]
    name = cell.get("path") or ""
    if not roots or "\0" in name:
        return None
    path = Path(name).resolve()
    is_inside = any(path.is_relative_to(root) for root in roots)
    return path.read_bytes() if is_inside and path.is_file() else None


def _members(cells: Mapping[str, Any]) -> dict[str, bytes]:
    """Turn further cells of bytes into members: "mask" of "7.png" becomes "mask.png"."""
    members: dict[str, bytes] = {}
    for name, cell in cells.items():
        data = cell.get("bytes") if isinstance(cell, Mapping) else cell
        if data:
            path = (cell.get("path") if isinstance(cell, Mapping) else None) or ""
            suffix = PurePosixPath(path).suffix.lower() or ".bin"
            members[_NOT_IN_EXTENSIONS.sub("_", name.lower()) + suffix] = data
    return members
