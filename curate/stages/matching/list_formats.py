"""Read the entries of a list's file, line by line, whatever its format.

    plain   one hash a line, `# comment`; its type may stand before it (`md5 HASH`, `pdq: HASH`)
    csv     columns with a header: comma, semicolon or tab (`list_fields.py`)
    json    an array of records or an object that holds one; jsonl: one record a line
    xml     NCMEC's hash sharing (`list_xml.py`)

Memory does not grow with the file but for JSON, whose text is held. A line that cannot be read is
an error with its number, and so is a type that nobody knows: no entry is left out in silence.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from curate.core.errors import DataError
from curate.stages.matching.list_fields import has_known_field, read_record
from curate.stages.matching.list_json import read_json, read_json_lines
from curate.stages.matching.list_kinds import Entry, parse_entry
from curate.stages.matching.list_lines import LineError, find_bad_byte
from curate.stages.matching.list_xml import read_xml

_BY_SUFFIX: Mapping[str, str] = {
    ".txt": "plain", ".lst": "plain", ".list": "plain", ".hash": "plain", ".hashes": "plain",
    ".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl",
    ".xml": "xml",
}  # fmt: skip
_DELIMITERS = ("\t", ";", ",")  # the first that the header has


def read_entries(path: Path, format_name: str, kind: str) -> Iterator[Entry]:
    """Yield the entries of one file, in its order.

    Args:
        path: the file.
        format_name: of FORMATS; "" goes by the file's ending.
        kind: of entries that do not say it; "" goes by length.

    Raises:
        DataError: the file cannot be read, or a line of it is no entry; it names the line.
    """
    read = _READERS[format_name or _format_of(path)]
    try:
        yield from read(path, kind)
    except LineError as error:
        raise DataError(
            f"{path}: line {error.line} must be {error.rule}, got {error.value}; fix or remove it"
        ) from error
    except UnicodeDecodeError as error:
        line, byte = find_bad_byte(path)
        raise DataError(
            f"{path}: line {line} must be UTF-8 text, got byte {byte:#04x}; unpack or convert it"
        ) from error
    except OSError as error:
        raise DataError(f"{path}: must be readable, got {error.strerror}; fix the path") from error


def _format_of(path: Path) -> str:
    if path.suffix.lower() not in _BY_SUFFIX:
        raise DataError(
            f"{path}: must end in one of {', '.join(_BY_SUFFIX)}, got {path.suffix!r}; "
            "rename it or set the list's format"
        )
    return _BY_SUFFIX[path.suffix.lower()]


def _read_plain(path: Path, kind: str) -> Iterator[Entry]:
    with _open(path) as stream:
        for number, line in enumerate(stream, start=1):
            text = line.partition("#")[0].strip()
            if not text:
                continue
            said, value = _split_type(text)
            try:
                yield parse_entry(said, value, kind)
            except ValueError as error:
                raise LineError.at(number, error, text) from error


def _split_type(text: str) -> tuple[str, str]:
    """Split `md5 HASH`, `md5: HASH` and `HASH` into type and hash."""
    said, space, value = text.replace(":", " ", 1).partition(" ")
    return (said, value.strip()) if space else ("", text)


def _read_csv(path: Path, kind: str) -> Iterator[Entry]:
    with _open(path, newline="") as stream:
        first = stream.readline()
        delimiter = next((mark for mark in _DELIMITERS if mark in first), ",")
        names = [
            name.strip().lower() for name in next(csv.reader([first], delimiter=delimiter), [])
        ]
        if not has_known_field(names):
            raise LineError.at(
                1, "a header with a column indicator, hash, md5, sha1, sha256 or pdq", first
            )
        rows = csv.reader(stream, delimiter=delimiter, strict=True)
        try:
            for row in rows:
                if any(cell.strip() for cell in row):
                    yield from _read_row(names, row, rows.line_num + 1, kind)
        except csv.Error as error:
            raise LineError(rows.line_num + 1, "a row of CSV", str(error)) from error


def _read_row(names: list[str], row: list[str], line: int, kind: str) -> Iterator[Entry]:
    if len(row) != len(names):
        raise LineError(line, f"{len(names)} cells, as the header has", f"{len(row)}")
    record = dict(zip(names, map(str.strip, row), strict=True))
    try:
        yield from read_record(record, kind)
    except ValueError as error:
        raise LineError.at(line, error, ",".join(row)) from error


@contextmanager
def _open(path: Path, newline: str | None = None) -> Generator[TextIO]:
    """Open a text file; a byte order mark is no part of it."""
    with path.open(encoding="utf-8-sig", newline=newline) as stream:
        yield stream


_READERS: Mapping[str, Callable[[Path, str], Iterator[Entry]]] = {
    "plain": _read_plain,
    "csv": _read_csv,
    "json": read_json,
    "jsonl": read_json_lines,
    "xml": read_xml,
}
