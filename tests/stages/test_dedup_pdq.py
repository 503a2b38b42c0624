"""PDQ hashes of good quality join copies within the radius, turned ones too if asked."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from benchmarks.dedup_inputs import Samples, cut_shards, draw_samples, write_inputs
from curate.core.errors import StageError
from curate.core.seed import make_rng
from tests.stages.dedup_run import dedup


def crowd(num: int, *names: str | int) -> tuple[Samples, NDArray[np.uint8], NDArray[np.int32]]:
    """Draw samples with PDQ hashes of which some are up to 40 bits apart, and their quality."""
    rng = make_rng(2, "pdq", *names)
    samples = draw_samples(num, "pdq", *names)
    samples.widths[:] = np.arange(num) + 100
    hashes = rng.integers(0, 256, (num, 32), np.uint8)
    for n in range(0, num - 1, 2):
        flips = np.zeros(256, np.uint8)
        flips[rng.choice(256, size=n % 41, replace=False)] = 1
        hashes[n + 1] = hashes[n] ^ np.packbits(flips)
    quality = rng.integers(0, 101, num).astype(np.int32)
    samples.more = {
        "pdq.hash": pa.array([value.tobytes() for value in hashes], pa.binary(32)),
        "pdq.quality": pa.array(quality),
    }
    return samples, hashes, quality


@pytest.mark.parametrize("bin_entries", [20_000_000, 60])
def test_pairs_are_those_of_comparing_all_with_all(tmp_path: Path, bin_entries: int) -> None:
    samples, hashes, quality = crowd(120)
    write_inputs(tmp_path, samples, cut_shards(120, 3))
    found = dedup(tmp_path, pdq_radius=31, phash_radius=-1, bin_entries=bin_entries)
    names = samples.names()
    expected: dict[str, tuple[str | None, str | None, float | None]] = dict.fromkeys(
        names, (None, None, None)
    )
    for a, b in combinations(np.flatnonzero(quality >= 50).tolist(), 2):
        bits = int(np.bitwise_count(hashes[a] ^ hashes[b]).sum())
        if bits <= 31:  # the later sample is the larger one
            expected[names[a]] = (names[b], "pdq" if bits else "near", bits)
            expected[names[b]] = (names[b], None, None)
    assert found == expected
    assert sum(edge == "pdq" for _, edge, _ in found.values()) >= 10


def test_added_shards_end_as_if_all_had_come_at_once(tmp_path: Path) -> None:
    samples, _, _ = crowd(90)
    rows = make_rng(5, "pdq").permutation(90)
    shards = {f"{n:05d}": part for n, part in enumerate(np.array_split(rows, 4))}
    for name in ("00002", "00000", "00003", "00001"):
        write_inputs(tmp_path / "grown", samples, {name: shards[name]})
        grown = dedup(tmp_path / "grown", pdq_radius=31)
    write_inputs(tmp_path / "whole", samples, shards)
    assert grown == dedup(tmp_path / "whole", pdq_radius=31)


def turned(hashes: NDArray[np.uint8]) -> pa.Array:
    """Give eight hashes of each picture, itself first, as the annotator does."""
    rng = make_rng(6, "forms")
    forms = rng.integers(0, 256, (len(hashes), 8, 32), np.uint8)
    forms[:, 0] = hashes
    return forms


@pytest.mark.parametrize("bin_entries", [20_000_000, 60])
@pytest.mark.parametrize(("is_asked", "edge"), [(True, "pdq"), (False, None)])
def test_a_turned_copy_is_found_only_if_asked(
    tmp_path: Path, is_asked: bool, edge: str | None, bin_entries: int
) -> None:
    samples, hashes, _ = crowd(12, "turned")
    hashes[:] = make_rng(7, "turned").integers(0, 256, (12, 32), np.uint8)
    forms = turned(hashes)
    hashes[5] = forms[2, 3]  # the third form of 2, but for 2 bits
    hashes[5, 0] ^= 0b11
    forms[:, 0] = hashes
    forms[7, 4] = forms[7, 0]  # a picture that looks like its own mirror image
    lists = [[form.tobytes() for form in some] for some in forms]
    samples.more = {
        "pdq.hash": pa.array([value.tobytes() for value in hashes], pa.binary(32)),
        "pdq.quality": pa.array(np.full(12, 100, np.int32)),
        "pdq.dihedral": pa.array(lists, pa.list_(pa.binary(32))),
    }
    write_inputs(tmp_path, samples, cut_shards(12, 2))
    config = {"pdq_radius": 31, "pdq_dihedral": is_asked, "bin_entries": bin_entries}
    found = dedup(tmp_path, **config)
    names = samples.names()
    assert found[names[2]] == (names[5] if edge else None, edge, 2 if edge else None)
    assert found[names[7]] == (None, None, None)


def test_turned_hashes_that_were_not_measured_are_refused(tmp_path: Path) -> None:
    samples, _, _ = crowd(4)
    write_inputs(tmp_path, samples, cut_shards(4, 1))
    with pytest.raises(StageError, match=r"pdq\.dihedral.*set annotate\.pdq_dihedral=true"):
        dedup(tmp_path, pdq_radius=31, pdq_dihedral=True)
