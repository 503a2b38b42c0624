"""Copies that were cropped, framed, turned or given a strip are found; strangers are not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from PIL import Image

from benchmarks.dedup_inputs import Samples, cut_shards, draw_samples, write_inputs
from curate.annotators.hash_spec import hash_picture
from curate.annotators.pdq_hash import measure_turns, pack_hash
from curate.core.errors import ConfigError, StageError
from curate.core.seed import make_rng
from curate.stages.dedup import DedupConfig
from tests.stages.dedup_run import dedup

Pixels = NDArray[np.uint8]

CHANGES: dict[str, Callable[[Pixels], Pixels]] = {
    "cropped by 9 %": lambda pixels: pixels[:-16, 22:],
    "cropped at one corner": lambda pixels: pixels[12:, 16:],
    "framed": lambda pixels: np.pad(pixels, ((8, 8), (8, 8), (0, 0))),
    "strip below": lambda pixels: np.pad(pixels, ((0, 20), (0, 0), (0, 0)), constant_values=255),
    "strip above": lambda pixels: np.pad(pixels, ((20, 0), (0, 0), (0, 0))),
}


def draw(name: str, number: int) -> Pixels:
    """Draw soft blobs of colour: [180, 240, 3]."""
    coarse = make_rng(4, name, number).integers(0, 256, (6, 8, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((240, 180), Image.Resampling.BICUBIC))


def measure(pictures: list[Pixels], *, with_pdq: bool = False) -> Samples:
    """Measure pictures as annotate does; a later one is larger."""
    samples = draw_samples(len(pictures), "cropped")
    samples.widths[:] = np.arange(len(pictures)) + 100
    hashes = [hash_picture(pixels) for pixels in pictures]
    samples.phashes[:] = [found.phash for found in hashes]
    samples.more = {
        "phash.miniature": pa.array([h.miniature.tobytes() for h in hashes], pa.binary(3072))
    }
    if with_pdq:
        turns = [measure_turns(pixels) for pixels in pictures]
        forms = [[pack_hash(turn) for turn in some] for some in turns]
        samples.more |= {
            "pdq.hash": pa.array([some[0] for some in forms], pa.binary(32)),
            "pdq.quality": pa.array(np.full(len(pictures), 100, np.int32)),
            "pdq.dihedral": pa.array(forms, pa.list_(pa.binary(32))),
        }
    return samples


@pytest.mark.parametrize("bin_entries", [20_000_000, 90])
@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found_among_strangers(
    tmp_path: Path, change: str, bin_entries: int
) -> None:
    pictures = [draw("scene", number) for number in range(12)]
    pictures.append(CHANGES[change](pictures[4]))
    samples = measure(pictures)
    write_inputs(tmp_path, samples, cut_shards(13, 3))
    found = dedup(tmp_path, phash_radius=-1, crop_radius=8, bin_entries=bin_entries)
    names = samples.names()
    keeper, edge, bits = found[names[4]]
    assert (keeper, edge) == (names[12], "cropped")
    assert bits is not None and 0 <= bits <= 8
    assert found[names[12]] == (names[12], None, None)
    assert all(found[name] == (None, None, None) for name in set(names) - {names[4], names[12]})


def test_a_window_in_other_colours_is_a_stranger(tmp_path: Path) -> None:
    picture = draw("scene", 0)
    grey = picture @ np.array([0.299, 0.587, 0.114])
    other = np.clip(np.rint(picture * 0.2 + grey[..., None] * 0.8), 0, 255).astype(np.uint8)
    samples = measure([picture, other[8:-7, 9:-10]])
    write_inputs(tmp_path, samples, cut_shards(2, 1))
    assert set(dedup(tmp_path, phash_radius=-1, crop_radius=8).values()) == {(None, None, None)}
    same = measure([picture, picture[8:-7, 9:-10]])
    write_inputs(tmp_path / "same", same, cut_shards(2, 1))
    assert "cropped" in [edge for _, edge, _ in dedup(tmp_path / "same", crop_radius=8).values()]


def test_a_copy_of_the_whole_picture_is_near_not_cropped(tmp_path: Path) -> None:
    picture = draw("scene", 1)
    small = Image.fromarray(picture).resize((131, 98), Image.Resampling.LANCZOS)
    samples = measure([picture, np.asarray(small)])
    write_inputs(tmp_path, samples, cut_shards(2, 1))
    found = dedup(tmp_path, phash_radius=-1, crop_radius=8)
    assert found[samples.names()[0]][:2] == (samples.names()[1], "near")


def test_equal_miniatures_are_one_look(tmp_path: Path) -> None:
    samples = measure([draw("scene", 3)] * 5)
    write_inputs(tmp_path, samples, cut_shards(5, 2))
    found = dedup(tmp_path, phash_radius=-1, crop_radius=8)
    last = samples.names()[-1]
    assert {value for key, value in found.items() if key != last} == {(last, "near", 0.0)}


def test_added_shards_end_as_if_all_had_come_at_once(tmp_path: Path) -> None:
    pictures = [draw("scene", number) for number in range(10)]
    pictures += [change(pictures[n]) for n, change in enumerate(CHANGES.values())]
    samples = measure(pictures, with_pdq=True)
    config = {"crop_radius": 8, "pdq_radius": 31, "pdq_change": 0.3}
    rows = make_rng(5, "cropped").permutation(15)
    shards = {f"{n:05d}": part for n, part in enumerate(np.array_split(rows, 4))}
    for name in ("00002", "00000", "00003", "00001"):
        write_inputs(tmp_path / "grown", samples, {name: shards[name]})
        grown = dedup(tmp_path / "grown", **config)
    write_inputs(tmp_path / "whole", samples, shards)
    assert grown == dedup(tmp_path / "whole", **config)
    assert sum(edge == "cropped" for _, edge, _ in grown.values()) == 5


@pytest.mark.parametrize(
    "turn", [np.fliplr, np.flipud, np.rot90, lambda p: np.rot90(p, 3), lambda p: p.swapaxes(0, 1),
             lambda p: np.rot90(p, 2), lambda p: np.rot90(p, 2).swapaxes(0, 1)]
)  # fmt: skip
def test_turned_copies_pass_by_their_miniatures(
    tmp_path: Path, turn: Callable[[Pixels], Pixels]
) -> None:
    pictures = [draw("scene", number) for number in range(6)]
    pictures.append(np.ascontiguousarray(turn(pictures[2])))
    samples = measure(pictures, with_pdq=True)
    write_inputs(tmp_path, samples, cut_shards(7, 2))
    found = dedup(tmp_path, phash_radius=-1, pdq_radius=31, pdq_dihedral=True, pdq_change=0.1)
    names = samples.names()
    assert found[names[2]][:2] == (names[6], "pdq")
    assert all(found[name] == (None, None, None) for name in set(names) - {names[2], names[6]})


def test_pdq_pairs_in_other_colours_go_by_their_miniatures(tmp_path: Path) -> None:
    picture = draw("scene", 0)
    other = np.repeat(picture @ np.array([0.299, 0.587, 0.114]), 3).reshape(picture.shape)
    samples = measure([picture, np.rint(other).astype(np.uint8)], with_pdq=True)
    write_inputs(tmp_path, samples, cut_shards(2, 1))
    first = samples.names()[0]
    assert dedup(tmp_path, phash_radius=-1, pdq_radius=31)[first][1] == "pdq"
    verified = dedup(tmp_path, phash_radius=-1, pdq_radius=31, pdq_change=0.3)
    assert verified[first] == (None, None, None)


def test_miniatures_that_were_not_measured_are_refused(tmp_path: Path) -> None:
    samples = draw_samples(4, "cropped")
    write_inputs(tmp_path, samples, cut_shards(4, 1))
    with pytest.raises(StageError, match=r"phash\.miniature.*set annotate\.miniatures=true"):
        dedup(tmp_path, crop_radius=8)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"crop_radius": 0}, r"dedup\.crop_radius: must be -1 or in \[1, 8\], got 0"),
        ({"crop_radius": 9}, r"dedup\.crop_radius: must be in \[-1, 8\], got 9"),
        ({"crop_change": 0.6}, r"dedup\.crop_change: must be in \[0, 0\.5\], got 0\.6"),
        ({"pdq_change": 0.3}, r"dedup\.pdq_change: needs dedup\.pdq_radius, got -1"),
    ],
)
def test_settings_out_of_range_are_refused(config: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DedupConfig(**config)
