"""Uids are read, written and found as DataComp's sorted pairs of 64 bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from curate.core.errors import DataError
from curate.stages.filtering.uid_lists import (
    UID_TYPE,
    check_sorted,
    find_listed,
    open_uid_list,
    parse_uids,
    sort_uids,
)


def texts(*values: str | None) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(values, pa.string())])


def test_a_uid_is_split_as_datacomp_splits_it() -> None:
    uid = "f" * 16 + "00000000000000ab"
    found = parse_uids(texts(uid, uid.upper(), None, "abc", uid + "0", "g" * 32, ""))
    assert found.known.tolist() == [True, True, False, False, False, False, False]
    assert int(found.high[0]) == int(uid[:16], 16) == 2**64 - 1
    assert int(found.low[1]) == int(uid[16:32], 16) == 0xAB


def test_sorting_equals_numpys_sort_of_pairs() -> None:
    rng = np.random.default_rng(0)
    high = rng.integers(0, 5, 300).astype(np.uint64) * np.uint64(2**61)
    low = rng.integers(0, 2**63, 300).astype(np.uint64)
    pairs = np.array(list(zip(high, low, strict=True)), UID_TYPE)
    pairs.sort()
    assert np.array_equal(sort_uids(high, low), pairs)


@pytest.mark.parametrize("size", [0, 1, 2, 1000])
def test_a_search_finds_exactly_what_is_listed(size: int) -> None:
    rng = np.random.default_rng(size)
    names = [f"{high:016x}{low:016x}" for high, low in rng.integers(0, 4, (size, 2)).tolist()]
    uids = parse_uids(texts(*names))
    listed = sort_uids(uids.high, uids.low)
    wanted = [f"{high:016x}{low:016x}" for high in range(5) for low in range(5)]
    found = find_listed(parse_uids(texts(*wanted, "no uid")), listed)
    assert found.tolist() == [*(name in names for name in wanted), False]


def test_no_uid_is_not_taken_for_the_uid_of_zeros() -> None:
    zeros = parse_uids(texts("0" * 32))
    listed = sort_uids(zeros.high, zeros.low)
    assert find_listed(parse_uids(texts("0" * 32, None)), listed).tolist() == [True, False]


def test_files_that_are_no_list_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "uids.npy"
    with pytest.raises(DataError, match="must be a npy file of u8,u8"):
        open_uid_list(path)
    path.write_bytes(b"not npy")
    with pytest.raises(DataError, match="must be a npy file of u8,u8"):
        open_uid_list(path)
    np.save(path, np.arange(3))
    with pytest.raises(DataError, match="of int64; write it with `curate uids`"):
        open_uid_list(path)
    np.save(path, np.array([object()]), allow_pickle=True)
    with pytest.raises(DataError, match="must be a npy file of u8,u8"):
        open_uid_list(path)


def test_a_list_that_is_not_sorted_is_refused_with_the_place(tmp_path: Path) -> None:
    path = tmp_path / "uids.npy"
    np.save(path, np.array([(1, 5), (2, 3), (2, 2)], UID_TYPE))
    with pytest.raises(DataError, match="with a smaller uid at 2"):
        check_sorted(open_uid_list(path), path)
    np.save(path, np.array([(1, 5), (2, 2), (2, 2), (2**64 - 1, 0)], UID_TYPE))
    check_sorted(open_uid_list(path), path)
