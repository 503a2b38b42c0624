"""One picture hashes alike in whatever form it comes: palette, CMYK, EXIF, 16 bits, alpha."""

import io
from collections.abc import Callable, Mapping

import numpy as np
import pytest
from PIL import Image, ImageDraw

from curate.annotators.hash_spec import hash_picture
from curate.annotators.pdq_hash import measure_spectrum, pack_hash
from curate.core.image import decode_image, to_array
from curate.core.seed import make_rng

WIDTH, HEIGHT = 640, 440


def make_scene(noise: float) -> Image.Image:
    """Draw something like a photograph: a sky, hills, a bright disc, grain."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(float)
    sky = np.stack([90 + y / 4, 140 + y / 6, 230 - y / 8], axis=-1)
    hills = 260 + 60 * np.sin(x / 70) + 25 * np.sin(x / 23)
    ground = np.stack([60 + x / 9, 110 + 30 * np.sin(x / 11) * np.cos(y / 7), 40 + y / 9], axis=-1)
    pixels = np.where((y > hills)[..., None], ground, sky)
    pixels += make_rng(1, "grain").normal(0, noise, pixels.shape)
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    ImageDraw.Draw(image).ellipse((420, 40, 520, 140), fill=(250, 240, 180))
    return image


def save(image: Image.Image, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, **options)  # type: ignore[arg-type]
    return stream.getvalue()


def exif_rotated(image: Image.Image) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    turned = image.transpose(Image.Transpose.ROTATE_90)
    return save(turned, format="JPEG", quality=92, exif=exif)


def with_alpha(image: Image.Image) -> bytes:
    """Hide other colours behind full transparency where the picture is white."""
    pixels = to_array(image)
    white = (pixels > 240).all(axis=-1)
    rgba = np.dstack([np.where(white[..., None], 0, pixels), np.where(white, 0, 255)])
    return save(Image.fromarray(rgba.astype(np.uint8)), format="PNG")


VARIANTS: Mapping[str, Callable[[Image.Image], bytes]] = {
    "webp": lambda image: save(image, format="WEBP", lossless=True),
    "bmp": lambda image: save(image, format="BMP"),
    "alpha": with_alpha,
    "jpeg": lambda image: save(image, format="JPEG", quality=85),
    "progressive": lambda image: save(image, format="JPEG", quality=85, progressive=True),
    "cmyk": lambda image: save(image.convert("CMYK"), format="JPEG", quality=92),
    "exif": exif_rotated,
    "palette": lambda image: save(image.quantize(256), format="PNG"),
    "web_palette": lambda image: save(image.convert("P"), format="PNG"),
    "gif": lambda image: save(image, format="GIF"),
}


def apart(first: Image.Image, second: Image.Image) -> tuple[int, int]:
    """Give the bits between two pictures: (of PDQ's 256, of pHash's 64)."""
    pdq = [
        np.frombuffer(pack_hash(measure_spectrum(to_array(image)).frequencies), np.uint8)
        for image in (first, second)
    ]
    phash = [hash_picture(to_array(image)).phash for image in (first, second)]
    return int(np.bitwise_count(pdq[0] ^ pdq[1]).sum()), (phash[0] ^ phash[1]).bit_count()


@pytest.mark.parametrize("variant", list(VARIANTS))
@pytest.mark.parametrize("noise", [0.0, 20.0])
def test_variants_of_one_picture_hash_alike(variant: str, noise: float) -> None:
    image = make_scene(noise)
    pdq, phash = apart(image, decode_image(VARIANTS[variant](image)))
    assert pdq <= 10
    assert phash <= 3


@pytest.mark.parametrize("noise", [0.0, 20.0])
def test_sixteen_bit_grey_hashes_like_eight_bit_grey(noise: float) -> None:
    grey = make_scene(noise).convert("L")
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    pdq, phash = apart(
        decode_image(save(grey, format="PNG")), decode_image(save(deep, format="PNG"))
    )
    assert (pdq, phash) == (0, 0)


@pytest.mark.parametrize("factor", [0.3, 0.5, 0.77, 1.6])
def test_sizes_of_one_picture_hash_alike(factor: float) -> None:
    image = make_scene(10.0)
    size = (round(WIDTH * factor), round(HEIGHT * factor))
    pdq, phash = apart(image, image.resize(size, Image.Resampling.LANCZOS))
    assert pdq <= 31  # Source: ThreatExchange's match
    assert phash <= 3
