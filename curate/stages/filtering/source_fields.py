"""Read what a source's table said of its samples: one entry of ingest's JSON column `fields`.

    JSON objects -> struct of two readings: text and number -> who asks picks one

A source's column has no type that holds for all shards: one has only nulls, the next one "n/a". So
both readings are kept, and the condition or the rule that asks decides.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

import pyarrow as pa
import pyarrow.compute

pc: Any = pyarrow.compute  # its functions are made at import, unseen by type checkers

SAID = pa.struct([("text", pa.string()), ("number", pa.float64())])

# Numbers stay as they were written: a text column of CSV and a number of Parquet read alike, and
# Python would refuse whole numbers of 4300 digits and more.
_JSON = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str)
# Source: JSON's grammar (RFC 8259, section 6), and with it a leading + or point, leading zeros and
# surrounding blanks, as CSV tables have them. Not nan, inf and 1_000, which Python's float reads.
_NUMBER = re.compile(r"\s*[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\s*")


def read_source_field(texts: pa.ChunkedArray, name: str) -> pa.Array:
    """Take one entry out of JSON objects.

    Returns:
        [N] of SAID. text: of texts, numbers and truths, as JSON writes them. number: of numbers,
        texts that spell one, and truths (1 and 0); null for what is none or not finite. Lists and
        objects are neither.
    """
    values = [_JSON.decode(text).get(name) if text else None for text in texts.to_pylist()]
    return pa.StructArray.from_arrays(
        [
            pa.array([_text(value) for value in values], pa.string()),
            pa.array([_number(value) for value in values], pa.float64()),
        ],
        fields=list(SAID),
    )


def said_texts(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Give the texts of a column of SAID."""
    return pc.struct_field(column, "text")


def said_numbers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Give the numbers of a column of SAID."""
    return pc.struct_field(column, "number")


def _text(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else None


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return float(value)
    if not isinstance(value, str) or not _NUMBER.fullmatch(value):
        return None
    number = float(value)
    return number if math.isfinite(number) else None
