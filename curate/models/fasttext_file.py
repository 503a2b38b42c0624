"""Check that a fastText model file is whole before fastText reads it.

fastText trusts its files: a cut or damaged one makes it crash, hang or answer nonsense. The file
says in its parts how long each is, so that a walk over the headers gives the length it must have.

    magic, version | 12 settings, 1 rate | dictionary | input matrix | output matrix
"""

from __future__ import annotations

import struct
from io import BufferedReader
from pathlib import Path
from typing import Any

from curate.core.errors import ModelError

# Source of all formats: fastText 0.9.2, src/: fasttext.cc (saveModel, signModel), args.cc (save),
# dictionary.cc (save), densematrix.cc, quantmatrix.cc, productquantizer.cc; little endian.
MAGIC = 793712314
VERSIONS = (11, 12)
SUPERVISED = 3  # args.h, model_name::sup
_CENTROIDS = 256  # productquantizer.h, ksub_
_MAX_WORD_BYTES = 1 << 16  # chosen by us: a word without an end is damage
_MAX_PART_BYTES = 1 << 40  # chosen by us: a matrix of a terabyte is damage


class _DamageError(Exception):
    """Say what is wrong with the file."""


def check_fasttext(path: Path) -> None:
    """Refuse a file that is missing, no fastText classifier, or cut.

    Raises:
        ModelError: says which.
    """
    if not path.is_file():
        raise ModelError(f"{path}: must exist, got no file; give the path of lid.176.bin or .ftz")
    size = path.stat().st_size
    try:
        with path.open("rb") as stream:
            wanted = _measure(stream)
    except _DamageError as error:
        raise ModelError(
            f"{path}: must be a fastText classifier, got {error}; give lid.176.bin or .ftz"
        ) from error
    if wanted != size:
        raise ModelError(
            f"{path}: must be {wanted} bytes by its own headers, got {size}; fetch it again"
        )


def _measure(stream: BufferedReader) -> int:
    """Walk over the headers and give the length in bytes that they promise."""
    magic, version = _read(stream, "ii")
    if magic != MAGIC or version not in VERSIONS:
        raise _DamageError(f"a file that starts with {magic:#x}, version {version}")
    model = _read(stream, "12id")[7]
    if model != SUPERVISED:
        raise _DamageError("word vectors without labels")
    _skip_dictionary(stream)
    is_quantized = _read(stream, "?")[0]
    _skip_matrix(stream, is_quantized=is_quantized)
    is_output_quantized = _read(stream, "?")[0]
    _skip_matrix(stream, is_quantized=is_quantized and is_output_quantized)
    return stream.tell()


def _skip_dictionary(stream: BufferedReader) -> None:
    num_entries, _, _, _, num_pruned = _read(stream, "3i2q")
    for _ in range(num_entries):
        _skip_word(stream)
        _skip(stream, 9)  # count (int64), type (int8)
    _skip(stream, 8 * max(num_pruned, 0))  # -1 in a model that was not pruned


def _skip_word(stream: BufferedReader) -> None:
    """Skip the bytes of one word and the zero at its end."""
    length = 0
    while length < _MAX_WORD_BYTES:
        ahead = stream.peek(1)
        if not ahead:
            break
        end = ahead.find(b"\0")
        stream.seek(len(ahead) if end < 0 else end + 1, 1)
        if end >= 0:
            return
        length += len(ahead)
    raise _DamageError("a dictionary that has no end")


def _skip_matrix(stream: BufferedReader, *, is_quantized: bool) -> None:
    if not is_quantized:
        rows, columns = _read(stream, "2q")
        _skip(stream, 4 * rows * columns)
        return
    has_norms, rows, _, num_codes = _read(stream, "?2qi")
    _skip(stream, num_codes)
    _skip_quantizer(stream)
    if has_norms:
        _skip(stream, rows)
        _skip_quantizer(stream)


def _skip_quantizer(stream: BufferedReader) -> None:
    dim = _read(stream, "4i")[0]
    _skip(stream, 4 * dim * _CENTROIDS)


def _skip(stream: BufferedReader, num_bytes: int) -> None:
    if not 0 <= num_bytes < _MAX_PART_BYTES:
        raise _DamageError(f"a part of {num_bytes} bytes")
    stream.seek(num_bytes, 1)


def _read(stream: BufferedReader, layout: str) -> tuple[Any, ...]:
    """Read packed little-endian values."""
    size = struct.calcsize("<" + layout)
    data = stream.read(size)
    if len(data) < size:
        raise _DamageError("a file that ends early")
    return struct.unpack("<" + layout, data)
