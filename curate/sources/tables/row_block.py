"""Hold consecutive rows of a table, by columns (Arrow) or by objects (JSON), behind one face.

Both give a column as texts, the other columns as JSON values, and feed everything to a digest.
A row that is no row of the table (a broken line) stays in its place with the reason.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pyarrow as pa


class Digest(Protocol):
    """Take bytes, as hashlib's objects do."""

    def update(self, data: Any, /) -> None:
        """Take some bytes."""
        ...


@dataclass(frozen=True, slots=True)
class ArrowBlock:
    """Hold rows by columns.

    Args:
        batch: its columns have different names.
        bad: index of a broken row -> what is wrong; its cells are null.
    """

    batch: pa.RecordBatch
    bad: Mapping[int, str] = field(default_factory=dict[int, str])

    def __len__(self) -> int:
        return self.batch.num_rows

    def slice(self, first: int, last: int) -> ArrowBlock:
        """Give the rows [first, last)."""
        return ArrowBlock(self.batch.slice(first, last - first), _shift(self.bad, first, last))

    def texts(self, name: str) -> list[str]:
        """Give a column as texts; "" where it is null, NaN or absent."""
        column = self._column(name)
        if column is None:
            return [""] * len(self)
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            column = column.fill_null("")
        return [value if type(value) is str else text_of(value) for value in _to_list(column)]

    def values(self, name: str) -> list[Any]:
        """Give a column as Python values; None where it is null or absent."""
        column = self._column(name)
        return [None] * len(self) if column is None else _to_list(column)

    def fields(self, leave_out: Collection[str]) -> list[dict[str, Any]]:
        """Give each row's columns but some as JSON values, without nulls."""
        rows: list[dict[str, Any]] = [{} for _ in range(len(self))]
        for name in self.batch.schema.names:
            if name in leave_out:
                continue
            for row, value in zip(rows, self.values(name), strict=True):
                plain = json_value(value)
                if plain is not None:
                    row[name] = plain
        return rows

    def hash_into(self, digest: Digest, leave_out: Collection[str]) -> None:
        """Feed all columns but some, and the broken rows, to a digest."""
        for name in self.batch.schema.names:
            if name not in leave_out:
                digest.update(f"\0{name}\0".encode())
                for part in _bytes_of(self.batch.column(name)):
                    digest.update(part)
        _hash_bad(digest, self.bad)

    def _column(self, name: str) -> pa.Array | None:
        index = self.batch.schema.get_field_index(name)
        return self.batch.column(index) if index >= 0 else None


@dataclass(frozen=True, slots=True)
class ObjectBlock:
    """Hold rows as the objects of JSON lines, each with keys of its own; broken ones are {}."""

    rows: Sequence[Mapping[str, Any]]
    bad: Mapping[int, str] = field(default_factory=dict[int, str])

    def __len__(self) -> int:
        return len(self.rows)

    def slice(self, first: int, last: int) -> ObjectBlock:
        """Give the rows [first, last)."""
        return ObjectBlock(self.rows[first:last], _shift(self.bad, first, last))

    def texts(self, name: str) -> list[str]:
        """Give a column as texts; "" where it is null, NaN or absent."""
        return [text_of(row.get(name)) for row in self.rows]

    def values(self, name: str) -> list[Any]:
        """Give a column as Python values; None where it is null or absent."""
        return [row.get(name) for row in self.rows]

    def fields(self, leave_out: Collection[str]) -> list[dict[str, Any]]:
        """Give each row's columns but some as JSON values, without nulls."""
        return [
            {
                name: json_value(v)
                for name, v in row.items()
                if name not in leave_out and v is not None
            }
            for row in self.rows
        ]

    def hash_into(self, digest: Digest, leave_out: Collection[str]) -> None:
        """Feed all columns but some, and the broken rows, to a digest."""
        rows = [
            {name: value for name, value in row.items() if name not in leave_out}
            for row in self.rows
        ]
        if any(rows):
            digest.update(json.dumps(rows, sort_keys=True).encode())
        _hash_bad(digest, self.bad)


RowBlock = ArrowBlock | ObjectBlock


def join_blocks(blocks: Sequence[RowBlock]) -> RowBlock:
    """Append the blocks of one part, which are all of one kind."""
    if len(blocks) == 1:
        return blocks[0]
    batches = [block.batch for block in blocks if isinstance(block, ArrowBlock)]
    if batches:
        return ArrowBlock(pa.concat_batches(batches), _join_bad(blocks))
    rows = [row for block in blocks if isinstance(block, ObjectBlock) for row in block.rows]
    return ObjectBlock(rows, _join_bad(blocks))


def text_of(value: Any) -> str:
    """Write a value as text: numbers and nested values as JSON, whole floats as integers."""
    match value:
        case str():
            return value
        case None:
            return ""
        case bytes():
            return value.decode(errors="replace")
        case float() if math.isnan(value):
            return ""
        case float() if value.is_integer() and abs(value) < 2**53:
            return str(int(value))
        case _:
            plain = json_value(value)
            return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def json_value(value: Any) -> Any:
    """Give a value as JSON has it: NaN is null, bytes are base64, dates and the like are texts."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return None if math.isnan(value) else value if math.isfinite(value) else str(value)
        case bytes():
            return base64.b64encode(value).decode()
        case dict():
            return {str(name): json_value(item) for name, item in value.items()}
        case list() | tuple():
            return [json_value(item) for item in value]
        case _:
            return str(value)


def _bytes_of(column: pa.Array) -> Iterator[Any]:
    """Give what determines a column's values, whatever its offsets, chunks and hidden bytes."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if column.null_count:
        yield column.is_valid().to_numpy(zero_copy_only=False).tobytes()
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        column = column.fill_null("" if pa.types.is_string(kind) else b"")
        _, offsets, data = column.buffers()
        size = len(column) + 1
        bounds = np.frombuffer(offsets, np.int32)[column.offset : column.offset + size]
        yield np.diff(bounds).tobytes()
        if data is not None:
            yield data.slice(int(bounds[0]), int(bounds[-1] - bounds[0]))
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
        yield column.fill_null(0).to_numpy(zero_copy_only=False).tobytes()
    else:
        yield json.dumps([json_value(value) for value in _to_list(column)]).encode()


def _to_list(column: pa.Array) -> list[Any]:
    try:
        return column.to_pylist()
    except UnicodeDecodeError:  # parquet lets anything be called a string
        return [None if v is None else v.decode(errors="replace") for v in _raw(column)]


def _raw(column: pa.Array) -> list[bytes | None]:
    large = pa.types.is_large_string(column.type)
    return column.cast(pa.large_binary() if large else pa.binary()).to_pylist()


def _hash_bad(digest: Digest, bad: Mapping[int, str]) -> None:
    if bad:
        digest.update(json.dumps(sorted(bad.items())).encode())


def _shift(bad: Mapping[int, str], first: int, last: int) -> dict[int, str]:
    return {index - first: why for index, why in bad.items() if first <= index < last}


def _join_bad(blocks: Sequence[RowBlock]) -> dict[int, str]:
    bad: dict[int, str] = {}
    start = 0
    for block in blocks:
        bad |= {start + index: why for index, why in block.bad.items()}
        start += len(block)
    return bad
