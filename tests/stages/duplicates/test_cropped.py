"""Windows of a picture hash as the cropped picture, and lie over it with little change."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import data as photographs

from curate.annotators.hash_spec import hash_picture
from curate.stages.duplicates.cropped import STRANGERS, measure_crop
from curate.stages.duplicates.turned import measure_turned
from curate.stages.duplicates.windows import WINDOWS, hash_windows, sample_span

Pixels = NDArray[np.uint8]


def photograph() -> Pixels:
    return np.ascontiguousarray(photographs.astronaut()[:400, :500])


def miniature(pixels: Pixels) -> Pixels:
    return hash_picture(np.ascontiguousarray(pixels)).miniature[None]


def cut(pixels: Pixels, form: int) -> Pixels:
    """Cut a window out of a picture."""
    height, width = pixels.shape[:2]
    (top, bottom), (left, right) = WINDOWS[form]
    rows = slice(round(top * height), round(bottom * height))
    return pixels[rows, round(left * width) : round(right * width)]


def test_the_first_window_is_the_whole_and_hashes_as_phash_does() -> None:
    found = int(hash_windows(miniature(photograph()))[0, 0])
    assert (found ^ hash_picture(photograph()).phash).bit_count() <= 2  # of rounded cells


@pytest.mark.parametrize("form", range(1, len(WINDOWS)))
def test_a_window_hashes_as_the_picture_that_was_cut_out(form: int) -> None:
    windows = hash_windows(miniature(photograph()))[0]
    bits = [
        int(
            window ^ np.uint64(hash_picture(np.ascontiguousarray(cut(photograph(), form))).phash)
        ).bit_count()
        for window in windows
    ]
    assert bits[form] == min(bits) <= 6
    assert bits[0] > bits[form]


@pytest.mark.parametrize("form", range(len(WINDOWS)))
def test_a_cut_picture_lies_over_its_window(form: int) -> None:
    whole, part = photograph(), cut(photograph(), form)
    assert measure_crop(miniature(part), miniature(whole), form)[0] < 0.12
    other = np.ascontiguousarray(photographs.coffee()[:400, :500])
    assert measure_crop(miniature(other), miniature(whole), form)[0] == STRANGERS


def test_a_window_between_those_that_are_hashed_is_found_by_moving() -> None:
    whole = photograph()
    part = whole[9:-21, 12:-30]  # 7.5 % and 8.4 % off, at uneven sides
    moved = measure_crop(miniature(part), miniature(whole), 5)[0]
    assert moved < 0.2
    assert measure_crop(miniature(whole[:, ::-1]), miniature(whole), 5)[0] > 0.5


def test_pairs_are_measured_apart_and_alike_in_any_number() -> None:
    whole = np.concatenate([miniature(photograph())] * 300)
    part = np.concatenate([miniature(cut(photograph(), form % 5)) for form in range(300)])
    together = measure_crop(part, whole, 3)
    alone = [measure_crop(part[n : n + 1], whole[n : n + 1], 3)[0] for n in (0, 1, 2, 3, 299)]
    assert together[[0, 1, 2, 3, 299]].tolist() == [float(one) for one in alone]


def test_noise_chooses_no_bit_of_a_flat_picture() -> None:
    flat = np.full((1, 32, 32, 3), 128, np.uint8)
    flat[0, ::5, ::7] += 1
    assert (hash_windows(flat) == np.uint64(1 << 63)).all()  # only the mean is above the median


def test_of_whole_pictures_either_may_be_the_part() -> None:
    whole = photograph()
    one, other = miniature(whole), miniature(whole[14:-2, 3:-17])
    changes = [float(measure_crop(*pair, 0)[0]) for pair in ((one, other), (other, one))]
    assert changes[0] == changes[1] < 0.15


def test_no_pairs_have_no_changes() -> None:
    none = np.empty((0, 32, 32, 3), np.uint8)
    assert len(measure_crop(none, none, 0)) == len(measure_turned(none, none, 3)) == 0
    assert hash_windows(none).shape == (0, len(WINDOWS))


def test_a_span_is_sampled_by_areas() -> None:
    assert sample_span((0.0, 1.0)).tolist() == np.eye(32).tolist()
    half = sample_span((0.25, 0.75))
    assert half.sum(axis=1) == pytest.approx(1)
    assert (half @ np.arange(32.0))[[0, 1, 31]] == pytest.approx([8, 8, 23])


TURNS = [
    lambda p: p, np.rot90, lambda p: np.rot90(p, 2), lambda p: np.rot90(p, 3), np.flipud,
    np.fliplr, lambda p: p.swapaxes(0, 1), lambda p: np.rot90(p, 2).swapaxes(0, 1),
]  # fmt: skip


def test_turns_are_undone_in_pdqs_order() -> None:
    whole = photograph()
    for form, turn in enumerate(TURNS):
        plain = miniature(turn(whole))
        changes = [float(measure_turned(plain, miniature(whole), n)[0]) for n in range(8)]
        assert changes[form] < 0.01
        assert sorted(changes)[1] > 0.3
