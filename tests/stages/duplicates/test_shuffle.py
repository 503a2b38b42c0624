"""Bins are nested, hold all values once, and are read from files of fewer bins as well."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from curate.core.errors import ShardError
from curate.core.seed import make_rng
from curate.core.shard import ShardSet
from curate.stages.duplicates.shuffle import (
    Bin,
    BinWriter,
    Part,
    bins_of,
    count_bins,
    fixed_bytes,
    fixed_column,
    read_part,
)

SCHEMA = pa.schema([("value", pa.uint64())])


@pytest.mark.parametrize(
    ("num_entries", "expected"),
    [(0, 1), (1, 1), (100, 1), (101, 2), (200, 2), (201, 4), (400, 4), (401, 8), (100_000, 1024)],
)
def test_bins_are_as_few_as_keep_each_within_the_bound(num_entries: int, expected: int) -> None:
    assert count_bins(num_entries, 100) == expected


def test_a_bin_of_few_is_the_union_of_two_of_twice_as_many() -> None:
    values = np.r_[
        np.arange(500, dtype=np.uint64), make_rng(0, "bins").integers(0, 2**64, 500, np.uint64)
    ]
    for count in (1, 2, 4, 64):
        bins = bins_of(values, count)
        assert sorted(set(bins.tolist())) == list(range(count))
        assert (bins_of(values, 2 * count) // 2 == bins).all()
        assert np.bincount(bins).max() < 2.5 * len(values) / count


@pytest.mark.parametrize("count", [1, 3, 8])
@pytest.mark.parametrize("band", [0, 5])
def test_every_value_of_a_band_lies_in_one_bin_of_about_equal_size(count: int, band: int) -> None:
    values = np.arange(3000, dtype=np.uint64) << np.uint64(20)
    held = np.stack([Bin(number=n, count=count).holds(values, band) for n in range(count)])
    assert (held.sum(axis=0) == 1).all()
    assert held.sum(axis=1).min() > 0.8 * 3000 / count


@pytest.mark.parametrize("num_bands", [1, 3])
@pytest.mark.parametrize(("written", "read"), [(1, 1), (1, 8), (2, 2), (2, 8), (8, 8)])
def test_a_bin_finds_its_values_in_files_of_as_many_bins_or_fewer(
    tmp_path: Path, num_bands: int, written: int, read: int
) -> None:
    values = make_rng(1, "parts").integers(0, 2**64, (num_bands, 200), np.uint64)
    with BinWriter(tmp_path / "x.arrow", SCHEMA) as writer:
        for band in values:
            entries = pa.record_batch([pa.array(band)], schema=SCHEMA)
            writer.write(entries, bins_of(band, written), written)
    for number, band in enumerate(values):
        found: list[int] = []
        for one in range(read):
            part = Part(bin=one, num_bins=read, band=number, num_bands=num_bands)
            some = read_part(ShardSet(tmp_path), "x.arrow", part)["value"].to_numpy()
            found += some[bins_of(some, read) == one].tolist()
        if num_bands == 1 or written > 1:  # one batch holds no bands
            assert sorted(found) == sorted(band.tolist())


def test_a_file_that_is_cut_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.arrow").write_bytes(b"ARROW1")
    with pytest.raises(ShardError, match=r"x\.arrow: must be a readable Arrow file"):
        read_part(ShardSet(tmp_path), "x.arrow", Part(bin=0, num_bins=1))


def test_fixed_bytes_are_those_of_a_slice() -> None:
    values = make_rng(2, "bytes").integers(0, 256, (20, 6), np.uint8)
    column = fixed_column(values)
    assert column.to_pylist() == [row.tobytes() for row in values]
    assert fixed_bytes(column.slice(5, 9)).tolist() == values[5:14].tolist()
    assert fixed_bytes(column.slice(20)).shape == (0, 6)
