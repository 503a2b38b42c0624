"""PDQ against the library, against its definition and against turned pictures."""

import numpy as np
import pdqhash
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from PIL import Image

from curate.annotators.annotator import Batch
from curate.annotators.pdq import Pdq
from curate.annotators.pdq_hash import (
    measure_quality,
    measure_spectrum,
    measure_turns,
    pack_hash,
    sample_luminance,
)
from curate.core.seed import make_rng


def make_scene(height: int, width: int, seed: int = 1) -> NDArray[np.uint8]:
    rng = make_rng(seed, "scene")
    coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(float)
    return np.clip(smooth + rng.normal(0, 8, smooth.shape), 0, 255).astype(np.uint8)


def own_bits(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.unpackbits(np.frombuffer(pack_hash(measure_spectrum(pixels).frequencies), np.uint8))


@pytest.mark.parametrize(
    "size",
    [(5, 5), (5, 900), (63, 129), (64, 64), (64, 65), (128, 128), (129, 127), (480, 641),
     (1031, 769)],
)  # fmt: skip
def test_hash_and_quality_are_the_librarys_on_the_full_picture(size: tuple[int, int]) -> None:
    for seed in range(3):
        pixels = make_scene(*size, seed=seed)
        bits, quality = pdqhash.compute(pixels)
        assert np.count_nonzero(own_bits(pixels) != bits) == 0
        assert measure_spectrum(pixels).quality == quality


def test_quality_is_the_librarys_from_plain_to_busy() -> None:
    for contrast in (0.0, 0.05, 0.2, 0.5, 1.0):
        pixels = (make_scene(200, 300) * contrast).astype(np.uint8)
        assert measure_spectrum(pixels).quality == pdqhash.compute(pixels)[1]


def test_quality_counts_whole_hundredths_of_the_range() -> None:
    points = np.zeros((64, 64))
    points[:, 32:] = 255  # 64 steps of 100
    assert measure_quality(points) == 64 * 100 // 90
    points[:, 32:] = 2.5  # 0.98 of a hundredth: insignificant
    assert measure_quality(points) == 0


def test_pictures_below_five_pixels_have_no_hash() -> None:
    for size in ((1, 1), (4, 500), (500, 4)):
        spectrum = measure_spectrum(make_scene(*size))
        assert (pack_hash(spectrum.frequencies), spectrum.quality) == (bytes(32), 0)


def test_hex_begins_with_the_highest_frequency_as_in_threatexchange() -> None:
    """Source: pdq/cpp: `setBit(i * 16 + j)`, and `Hash256::format` writes word 15 first."""
    frequencies = np.full((16, 16), -1.0)
    frequencies[0, 0] = 1.0  # bit 0: vertical and horizontal frequency 1
    assert pack_hash(frequencies).hex() == "0" * 63 + "1"
    frequencies[15, 15] = 1.0  # bit 255
    assert pack_hash(frequencies).hex() == "8" + "0" * 62 + "1"


def test_rows_of_the_hash_are_vertical_frequencies() -> None:
    wave = np.cos(np.pi * 3 * (2 * np.arange(64) + 1) / 128)  # frequency 3
    down = np.repeat((128 + 100 * wave)[:, None], 64, axis=1)
    across = np.cos(np.pi * (2 * np.arange(64) + 1) / 128)  # frequency 1: PDQ drops the mean
    pixels = np.repeat((down + 20 * wave[:, None] * across)[..., None], 3, axis=2)
    frequencies = measure_spectrum(pixels.clip(0, 255).astype(np.uint8)).frequencies
    assert np.unravel_index(np.abs(frequencies).argmax(), (16, 16)) == (2, 0)


def test_the_median_of_256_is_the_lower_one() -> None:
    frequencies = np.arange(256.0).reshape(16, 16)
    assert sum(byte.bit_count() for byte in pack_hash(frequencies)) == 128


def test_symmetric_pictures_hash_alike_whatever_the_noise_of_floating_point() -> None:
    half = make_scene(256, 128)
    pixels = np.concatenate([half, half[:, ::-1]], axis=1)
    spectrum = measure_spectrum(pixels)
    noise = make_rng(4, "noise").normal(0, 1e-12, (16, 16))
    assert pack_hash(np.round(spectrum.frequencies + noise, 6)) == pack_hash(spectrum.frequencies)


def test_filter_and_sampling_are_two_box_passes_and_a_choice_of_points() -> None:
    pixels = make_scene(300, 64)  # rows: a box of 3; columns: a box of 1, which changes nothing
    luma = pixels @ np.array([0.299, 0.587, 0.114])
    for _ in range(2):
        padded = np.pad(luma, ((1, 1), (0, 0)), constant_values=np.nan)
        luma = np.nanmean([padded[:-2], padded[1:-1], padded[2:]], axis=0)
    rows = (np.arange(64) + 0.5) * 300 / 64
    assert sample_luminance(pixels) == pytest.approx(luma[rows.astype(int)], abs=1e-9)


@pytest.mark.parametrize("size", [(180, 240), (333, 512), (1024, 1024), (64, 64), (40, 7), (4, 9)])
def test_each_form_is_the_hash_of_the_turned_or_flipped_picture(size: tuple[int, int]) -> None:
    pixels = make_scene(*size)
    turned = [
        pixels, np.rot90(pixels), np.rot90(pixels, 2), np.rot90(pixels, 3), pixels[::-1],
        pixels[:, ::-1], pixels.transpose(1, 0, 2), np.rot90(pixels, 2).transpose(1, 0, 2),
    ]  # fmt: skip
    for form, picture in zip(measure_turns(pixels), turned, strict=True):
        bits = np.unpackbits(np.frombuffer(pack_hash(form), np.uint8))
        assert (bits == own_bits(np.ascontiguousarray(picture))).all()


def test_the_order_of_the_eight_forms_is_the_librarys() -> None:
    pixels = make_scene(333, 512)
    ours = [np.frombuffer(pack_hash(form), np.uint8) for form in measure_turns(pixels)]
    reference, _ = pdqhash.compute_dihedral(pixels)
    apart = np.unpackbits(np.stack(ours), axis=1)[:, None] != np.stack(reference)
    assert apart.sum(axis=2).argmin(axis=1).tolist() == list(range(8))


def test_the_annotator_gives_every_column_in_its_type() -> None:
    images = [Image.fromarray(make_scene(40, 60, seed)) for seed in range(3)]
    batch = Batch(keys=["a", "b", "c"], images=images, captions=["", "", ""], columns={})
    for annotator in (Pdq(), Pdq(dihedral=True)):
        found = annotator(batch)
        assert set(found) == set(annotator.columns)
        for name, values in found.items():
            assert pa.array(list(values), annotator.columns[name]).to_pylist() == list(values)
    assert [forms[0] for forms in found["pdq.dihedral"]] == found["pdq.hash"]
