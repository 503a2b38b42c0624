"""Read, write and search lists of uids as DataComp passes them on: sorted `u8,u8` in one npy file.

A uid is 128 bits, written as 32 hexadecimal digits; its two halves are the two fields, the high one
first. Source: DataComp, baselines/apply_filter.py (`np.dtype("u8,u8")`, sorted) and resharder.py.
A list is never held: a search reads the pages that it needs, 16 bytes a uid lie on the disk.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from curate.core.errors import DataError

pc: Any = pyarrow.compute  # its functions are made at import, unseen by type checkers

UID_TYPE = np.dtype("u8,u8")
_UID_PATTERN = "^[0-9a-fA-F]{32}$"
_CHECKED_AT_ONCE = 1 << 22  # uids; chosen by us: 64 MB


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Uids:
    """Hold the uids of some samples.

    Args:
        high, low: [N] uint64, the halves; 0 where there is no uid.
        known: [N], whether there is one.
    """

    high: NDArray[np.uint64]
    low: NDArray[np.uint64]
    known: NDArray[np.bool_]


def parse_uids(texts: pa.ChunkedArray) -> Uids:
    """Read uids; what is not 32 hexadecimal digits is none."""
    known = pc.fill_null(pc.match_substring_regex(texts, _UID_PATTERN), False)
    digits = "".join(texts.filter(known).to_pylist())
    halves = np.frombuffer(bytes.fromhex(digits), ">u8").reshape(-1, 2)
    where = known.to_numpy()
    high, low = np.zeros(len(where), np.uint64), np.zeros(len(where), np.uint64)
    high[where], low[where] = halves[:, 0], halves[:, 1]
    return Uids(high=high, low=low, known=where)


def sort_uids(high: NDArray[np.uint64], low: NDArray[np.uint64]) -> NDArray[np.void]:
    """Give uids in the form of a list: [N] of UID_TYPE, sorted."""
    order = np.lexsort((low, high))
    sorted_uids = np.empty(len(order), UID_TYPE)
    sorted_uids["f0"], sorted_uids["f1"] = high[order], low[order]
    return sorted_uids


def open_uid_list(path: Path) -> NDArray[np.void]:
    """Map a list into memory.

    Raises:
        DataError: it is not there, or no npy file of the type `u8,u8`.
    """
    try:
        listed = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            f"filter.uids: must be a npy file of u8,u8, got {path} ({error}); fix the path"
        ) from error
    if not isinstance(listed, np.ndarray) or listed.dtype != UID_TYPE or listed.ndim != 1:
        raise DataError(
            f"filter.uids: must be a npy file of u8,u8 in one dimension, got {path} of "
            f"{getattr(listed, 'dtype', type(listed).__name__)}; write it with `curate uids`"
        )
    return listed


def check_sorted(listed: NDArray[np.void], path: Path) -> None:
    """Refuse a list that a sorted search would misread.

    Raises:
        DataError: a uid is smaller than the one before it.
    """
    for start in range(0, len(listed), _CHECKED_AT_ONCE):
        part = np.array(listed[start : start + _CHECKED_AT_ONCE + 1])  # one uid more: the seam
        high, low = part["f0"], part["f1"]
        falls = (high[1:] < high[:-1]) | ((high[1:] == high[:-1]) & (low[1:] < low[:-1]))
        if falls.any():
            raise DataError(
                f"filter.uids: must be sorted, got {path} with a smaller uid at "
                f"{start + int(falls.argmax()) + 1}; sort it with numpy.sort"
            )


def find_listed(uids: Uids, listed: NDArray[np.void]) -> NDArray[np.bool_]:
    """Tell which uids a sorted list has, by halving its range for all of them at once: [N]."""
    first = np.zeros(len(uids.high), np.int64)
    last = np.full(len(uids.high), len(listed), np.int64)
    while (open_ := first < last).any():
        middle = (first + last) // 2
        item = np.asarray(listed[np.minimum(middle, len(listed) - 1)])
        below = (item["f0"] < uids.high) | ((item["f0"] == uids.high) & (item["f1"] < uids.low))
        first = np.where(open_ & below, middle + 1, first)
        last = np.where(open_ & ~below, middle, last)
    if not len(listed):
        return np.zeros(len(uids.high), bool)
    item = np.asarray(listed[np.minimum(first, len(listed) - 1)])
    return uids.known & (item["f0"] == uids.high) & (item["f1"] == uids.low)
