"""The rules of lm1, against the definition in rational numbers and against stored values."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.fft import dct

from curate.annotators import hash_spec
from curate.annotators.hash_spec import (
    PerceptualHashes,
    hash_differences,
    hash_frequencies,
    hash_picture,
    pack_bits,
)
from curate.core.resample import average_area
from curate.core.seed import make_rng


def make_scene(height: int, width: int) -> NDArray[np.uint8]:
    """Draw by whole numbers only, so that no library can change the picture."""
    y, x = np.mgrid[:height, :width]
    red = (x * 255 // width + 40 * ((x * 7 // width + y * 5 // height) % 3)) % 256
    green = (y * y * 255 // (height * height)) % 256
    blue = ((x * 3 + y * 2) * 9 // (height + width)) * 24 % 256
    return np.stack([red, green, blue], axis=-1).astype(np.uint8)


GOLDEN = {
    (480, 640): (
        0x830A9B2AD47AEB55,
        0xE9F9F2F4E4C9DA9A,
        "0f01169201a137012c57305ca530d1c1307127a8a18aa82c80a8b7",
    ),
    (37, 23): (
        0x930AAA2A9D7AC355,
        0xE9E9D8F2F6C9B95A,
        "0b000d8f00682100c6512e709c2ecede2e2a1fa3d587a33172a38d",
    ),
    (3, 1000): (
        0x8204AA0055800000,
        0xE9E9E9D8D8E9E9E9,
        "0f001d91005537008c371c1d861c53b11c8b0f711e917153377189",
    ),
}


@pytest.mark.parametrize("size", list(GOLDEN))
def test_the_spec_never_moves(size: tuple[int, int]) -> None:
    found = hash_picture(make_scene(*size))
    assert (found.phash, found.dhash, digest(found)) == GOLDEN[size]


def digest(found: PerceptualHashes) -> str:
    return found.thumbnail[::3, ::3].tobytes().hex()


def test_the_dct_is_the_unscaled_dct_ii() -> None:
    luma = make_rng(1, "luma").integers(0, 256, (32, 32))
    own = hash_spec._DCT @ luma @ hash_spec._DCT.T / 2**40
    reference = dct(dct(luma.astype(float), axis=0), axis=1)[:8, :8] / 4  # scipy's has a factor 2
    assert own == pytest.approx(reference, abs=0.5)


def test_no_entry_of_the_dct_lies_near_a_half() -> None:
    exact = [2**20 * math.cos(math.pi * k * (2 * n + 1) / 64) for k in range(8) for n in range(32)]
    assert min(abs(value - math.floor(value) - 0.5) for value in exact) > 1e-4


def test_opposite_entries_of_the_dct_cancel_exactly() -> None:
    assert hash_spec._DCT[1:].sum(axis=1).tolist() == [0] * 7


def test_only_frequencies_clearly_above_the_median_are_set() -> None:
    rng = make_rng(2, "luma")
    luma = rng.integers(0, 256, (32, 32), dtype=np.uint8)
    low = dct(dct(luma.astype(float), axis=0), axis=1)[:8, :8] / 4
    bits = low > np.sort(low, axis=None)[31] + 16
    assert hash_frequencies(luma) == pack_bits(bits)


def test_rows_are_vertical_frequencies() -> None:
    wave = np.cos(np.pi * (2 * np.arange(32) + 1) / 64)  # one half period over the side
    down = np.repeat((128 + 100 * wave)[:, None], 32, axis=1).round().astype(np.uint8)
    vertical, horizontal = 1 << 55, 1 << 62
    assert hash_frequencies(down) & (vertical | horizontal) == vertical
    assert hash_frequencies(down.T.copy()) & (vertical | horizontal) == horizontal


def test_flat_pictures_share_one_hash() -> None:
    grey, green = np.full((50, 70, 3), 90, np.uint8), np.zeros((9, 9, 3), np.uint8)
    green[..., 1] = 200
    assert hash_picture(grey).phash == hash_picture(green).phash == 1 << 63
    assert hash_picture(np.zeros((5, 5, 3), np.uint8)).phash == 0


def test_differences_look_to_the_right() -> None:
    rising = np.tile(np.arange(9, dtype=np.uint8), (8, 1))
    assert hash_differences(rising) == 2**64 - 1
    assert hash_differences(rising[:, ::-1].copy()) == 0
    step = np.zeros((8, 9), np.uint8)
    step[0, 1:] = 5
    assert hash_differences(step) == 1 << 63


def test_luminance_is_bt601_of_the_exact_average() -> None:
    pixels = make_rng(3, "pixels").integers(0, 256, (64, 72, 3), dtype=np.uint8)
    cells = pixels.reshape(8, 8, 9, 8, 3).mean(axis=(1, 3)) @ np.array([0.299, 0.587, 0.114])
    luma = np.floor(cells + 0.5).astype(np.uint8)
    assert hash_picture(pixels).dhash == hash_differences(luma)


def test_the_thumbnail_is_the_area_average() -> None:
    pixels = make_scene(123, 77)
    assert (hash_picture(pixels).thumbnail == average_area(pixels, 8, 8)).all()


def test_the_first_bit_is_the_highest() -> None:
    bits = np.zeros((8, 8), bool)
    bits[0, 0] = True
    assert pack_bits(bits) == 1 << 63
    assert pack_bits(np.ones((8, 8), bool)) == 2**64 - 1


@pytest.mark.parametrize("size", [(1, 1), (1, 2000), (2000, 1), (31, 33)])
def test_the_smallest_and_thinnest_pictures_are_hashed(size: tuple[int, int]) -> None:
    found = hash_picture(make_scene(*size))
    assert 0 <= found.phash < 2**64 and found.thumbnail.shape == (8, 8, 3)
