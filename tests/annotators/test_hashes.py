"""Exact and perceptual hashes as annotators; the rules of lm1 are tested in test_hash_spec.py."""

import io

import imagehash
import numpy as np
import pyarrow as pa
from PIL import Image, ImageDraw

from curate.annotators.annotator import HASH_SPECS, Batch
from curate.annotators.hashes import Hashes, hash_pixels
from curate.annotators.phash import HASHERS, PerceptualHash
from curate.core.image import decode_image
from curate.core.seed import make_rng


def make_picture(seed: int = 1, color: str = "red") -> Image.Image:
    noise = make_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize((160, 120), Image.Resampling.BICUBIC)
    ImageDraw.Draw(image).ellipse((60, 30, 110, 80), fill=color)
    return image


def through(image: Image.Image, **save: object) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, **save)  # type: ignore[arg-type]
    return decode_image(stream.getvalue())


def perceptual(*images: Image.Image, spec: str = "lm1") -> dict[str, list[object]]:
    batch = Batch(keys=[""] * len(images), images=images, captions=[""] * len(images), columns={})
    return {name: list(values) for name, values in PerceptualHash(spec)(batch).items()}


def bits_apart(first: object, second: object) -> int:
    assert isinstance(first, int) and isinstance(second, int)
    return (first ^ second).bit_count()


def test_lossless_copies_in_other_formats_hash_alike() -> None:
    image = make_picture()
    copies = [through(image, format="PNG"), through(image, format="WEBP", lossless=True)]
    assert {hash_pixels(copy) for copy in copies} == {hash_pixels(image)}


def test_one_changed_level_changes_the_hash() -> None:
    image = make_picture()
    other = image.copy()
    other.putpixel((0, 0), (1, 2, 3))
    assert hash_pixels(image) != hash_pixels(other)


def test_the_size_is_part_of_the_hash() -> None:
    assert hash_pixels(Image.new("RGB", (2, 8))) != hash_pixels(Image.new("RGB", (8, 2)))


def test_hashes_are_64_hex_characters() -> None:
    batch = Batch(keys=["a"], images=[make_picture()], captions=[""], columns={})
    (value,) = Hashes()(batch)["hashes.sha256_pixels"]
    assert len(bytes.fromhex(value)) == 32


def test_every_hash_spec_has_its_function() -> None:
    assert tuple(HASHERS) == HASH_SPECS


def test_compat_hashes_are_imagehashs_own_bit_by_bit() -> None:
    rng = make_rng(7, "sizes")
    for number in range(240):
        noise = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
        width, height = (int(side) for side in rng.integers(9, 300, 2))
        image = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
        if number % 3 == 0:  # sharp detail, as text and clip-art have
            ImageDraw.Draw(image).rectangle((2, 2, width // 2, height // 3), fill="white")
        found = perceptual(image, spec="imagehash")
        assert found["phash.phash"] == [int(str(imagehash.phash(image)), 16)]
        assert found["phash.dhash"] == [int(str(imagehash.dhash(image)), 16)]


def test_both_specs_give_the_same_thumbnail_and_near_hashes() -> None:
    images = [make_picture(seed) for seed in range(40)]
    own, other = perceptual(*images), perceptual(*images, spec="imagehash")
    assert own["phash.thumbnail"] == other["phash.thumbnail"]
    apart = [
        bits_apart(*pair) for pair in zip(own["phash.phash"], other["phash.phash"], strict=True)
    ]
    assert np.mean(apart) < 3 and max(apart) <= 8


def test_columns_hold_what_is_measured() -> None:
    for name, values in perceptual(make_picture()).items():
        assert len(pa.array(values, PerceptualHash().columns[name])) == 1


def test_a_resized_jpeg_is_near_and_another_picture_is_far() -> None:
    image = make_picture()
    small = through(image.resize((80, 60), Image.Resampling.LANCZOS), format="JPEG", quality=70)
    found = perceptual(image, small, make_picture(seed=2))["phash.phash"]
    assert bits_apart(found[0], found[1]) <= 4
    assert bits_apart(found[0], found[2]) > 8


def test_jpeg_noise_does_not_choose_the_bits_of_a_symmetric_picture() -> None:
    image = Image.new("RGB", (300, 300), "white")
    ImageDraw.Draw(image).ellipse((60, 60, 240, 240), fill="navy")
    found = perceptual(image, *(through(image, format="JPEG", quality=q) for q in (90, 60, 30)))
    assert max(bits_apart(found["phash.phash"][0], other) for other in found["phash.phash"]) <= 4


def test_the_thumbnail_sees_a_change_of_colour_that_hashes_do_not() -> None:
    red, green = make_picture(color="#ff0000"), make_picture(color="#008200")  # equal luminance
    found = perceptual(red, green)
    assert bits_apart(*found["phash.phash"]) <= 4
    first, second = (
        np.frombuffer(value, np.uint8).astype(int)  # type: ignore[call-overload]
        for value in found["phash.thumbnail"]
    )
    assert np.abs(first - second).max() > 100


def test_the_thumbnail_is_an_8_by_8_average() -> None:
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[0, :4] = 200  # half of the first cell, which is 2 x 4 pixels
    (value,) = perceptual(Image.fromarray(pixels))["phash.thumbnail"]
    grid = np.frombuffer(value, np.uint8).reshape(8, 8, 3)  # type: ignore[call-overload]
    assert grid[0, 0].tolist() == [100, 100, 100]
    assert grid.sum() == 300
