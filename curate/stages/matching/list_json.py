"""Read lists in JSON: arrays of records, answers of exchanges' APIs, one record a line.

The array of records may stand alone or under a name: `data` (ThreatExchange), `hashRecords`
(StopNCII), `images` and `videos` (NCMEC's entries), `entries`, `hashes`. It is walked record by
record, so that a broken one is named by its line and only one is an object at a time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from curate.stages.matching.list_fields import read_record
from curate.stages.matching.list_kinds import Entry, parse_entry
from curate.stages.matching.list_lines import LineError

_ARRAYS = ("data", "hashrecords", "images", "videos", "entries", "hashes", "indicators")
_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()
_JSON = "a value of JSON"
_QUOTED = 60  # characters of the text that an error may quote


def read_json_lines(path: Path, kind: str) -> Iterator[Entry]:
    """Yield the entries of a file with one record a line; empty lines hold none."""
    with path.open(encoding="utf-8-sig") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            try:
                yield from _read_value(_DECODER.decode(line), kind)
            except (ValueError, RecursionError) as error:
                raise LineError.at(number, _rule_of(error), line) from error


def read_json(path: Path, kind: str) -> Iterator[Entry]:
    """Yield the entries of a file with an array of records, or an object that holds arrays."""
    text = path.read_text(encoding="utf-8-sig")
    start = _skip(text, 0)
    if text.startswith("[", start):
        end = yield from _read_array(text, start, kind)
    elif text.startswith("{", start):
        end = yield from _read_object(text, start, kind)
    else:
        raise _error(text, start, "an array or object of JSON")
    end = _skip(text, end)
    if end < len(text):
        raise _error(text, end, "the end of the JSON")


def _read_object(text: str, start: int, kind: str) -> Generator[Entry, None, int]:
    """Walk the names of an object; arrays of records yield entries, all else is passed over."""
    place, num_arrays = _skip(text, start + 1), 0
    while not text.startswith("}", place):
        name, place = _decode(text, place)
        place = _expect(text, place, ":")
        if str(name).lower() in _ARRAYS and text.startswith("[", place):
            place = yield from _read_array(text, place, kind)
            num_arrays += 1
        else:
            _, place = _decode(text, place)
        place = _skip(text, place)
        if not text.startswith("}", place):
            place = _expect(text, place, ",")
    if not num_arrays:
        raise _error(text, start, f"an object with an array ({', '.join(_ARRAYS)})")
    return place + 1


def _read_array(text: str, start: int, kind: str) -> Generator[Entry, None, int]:
    """Yield the entries of an array's records; return where it ends."""
    place = _skip(text, start + 1)
    while not text.startswith("]", place):
        value, end = _decode(text, place)
        try:
            yield from _read_value(value, kind)
        except ValueError as error:
            raise _error(text, place, str(error)) from error
        place = _skip(text, end)
        if not text.startswith("]", place):
            place = _expect(text, place, ",")
    return place + 1


def _read_value(value: Any, kind: str) -> Iterator[Entry]:
    """Read a record, or a hash that stands for itself.

    Raises:
        ValueError: says what it must be.
    """
    if isinstance(value, str):
        yield parse_entry("", value, kind)
    elif isinstance(value, dict):
        yield from read_record({str(name).lower(): own for name, own in value.items()}, kind)
    else:
        raise ValueError("a record or a hash")


def _decode(text: str, place: int) -> tuple[Any, int]:
    try:
        return _DECODER.raw_decode(text, place)
    except (ValueError, RecursionError) as error:
        raise _error(text, place, _JSON) from error


def _expect(text: str, place: int, mark: str) -> int:
    """Step over a mark and the white space around it."""
    place = _skip(text, place)
    if not text.startswith(mark, place):
        raise _error(text, place, f"JSON with {mark!r} here")
    return _skip(text, place + 1)


def _skip(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    assert found is not None, "white space may be empty"
    return found.end()


def _rule_of(error: Exception) -> str:
    is_json = isinstance(error, json.JSONDecodeError | RecursionError)
    return _JSON if is_json else str(error)


def _error(text: str, place: int, rule: str) -> LineError:
    """Point at a place of the text; only then its lines are counted."""
    return LineError.at(text.count("\n", 0, place) + 1, rule, text[place : place + _QUOTED])
