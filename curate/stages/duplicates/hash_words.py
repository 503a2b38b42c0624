"""Lay hashes out as 64-bit words and check what is asked of them.

A hash of 64 bits is one word (uint64 [N]), one of 256 bits four words (uint64 [N, 4]). Hamming
distance does not mind the order of bits, so bytes become words as they lie in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.core.errors import ConfigError, DataError

WORD_BITS = 64
PDQ_BYTES = 32

Words = tuple[NDArray[np.uint64], ...]
"""The words of N hashes, each uint64 [N]."""


def split_words(hashes: NDArray[np.uint64]) -> Words:
    """View hashes word by word.

    Args:
        hashes: uint64 [N] or [N, W].

    Raises:
        DataError: another type or shape.
    """
    if hashes.dtype != np.uint64 or hashes.ndim not in (1, 2) or hashes.shape[1:] == (0,):
        raise DataError(
            f"hashes: must be uint64 [N] or [N, words], got {hashes.dtype} {list(hashes.shape)}; "
            "turn bytes into words with pdq_words"
        )
    return (hashes,) if hashes.ndim == 1 else tuple(hashes.T)


def pdq_words(column: pa.Array | pa.ChunkedArray | Sequence[bytes | None]) -> NDArray[np.uint64]:
    """Turn PDQ hashes of 32 bytes into words: uint64 [N, 4].

    Args:
        column: hashes, none missing.

    Raises:
        DataError: a hash that is missing or has not 32 bytes; it is named by its row.
    """
    arrow = isinstance(column, (pa.Array, pa.ChunkedArray))
    hashes: list[bytes | None] = cast(Any, column).to_pylist() if arrow else list(column)
    for row, value in enumerate(hashes):
        if value is None or len(value) != PDQ_BYTES:
            got = "nothing" if value is None else f"{len(value)} bytes"
            raise DataError(
                f"row {row}: a PDQ hash must have {PDQ_BYTES} bytes, got {got}; "
                "leave out pictures without one"
            )
    joined = b"".join(value for value in hashes if value is not None)
    return np.frombuffer(joined, "<u8").astype(np.uint64).reshape(-1, PDQ_BYTES * 8 // WORD_BITS)


def check_radius(radius: int, num_bits: int) -> None:
    """Refuse a radius that the hash does not allow: more than a quarter of its bits.

    Source: chosen by us: unrelated pictures differ in half of the bits on average; the widest
    radii in use are 10 of 64 (imagededup) and 52 of 256 (ThreatExchange's flat index).

    Raises:
        ConfigError: the radius is negative or too large.
    """
    if not 0 <= radius <= num_bits // 4:
        raise ConfigError(
            f"radius: must be 0..{num_bits // 4} for hashes of {num_bits} bits, got {radius}; "
            "unrelated pictures would match beyond it"
        )
