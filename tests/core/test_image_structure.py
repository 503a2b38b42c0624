"""A cut file is told by its structure, and a whole one is never doubted without reason."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from curate.core.image_structure import ends_whole


def save(format: str, **options: object) -> bytes:  # noqa: A002
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format, **options)
    return stream.getvalue()


def with_thumbnail() -> bytes:
    exif = Image.Exif()
    exif[0x010E] = save("JPEG").decode("latin-1")  # an end marker inside the first segment
    return save("JPEG", exif=exif)


WHOLE = {
    "jpg": [
        save("JPEG"),
        save("JPEG", progressive=True),
        save("JPEG", restart_marker_rows=1),
        save("JPEG") + b"\n<!-- appended -->",
        with_thumbnail(),
    ],
    "png": [save("PNG"), save("PNG") + b"trailing"],
    "webp": [save("WEBP"), save("WEBP", lossless=True)],
}
CASES = [(ext, number) for ext, files in WHOLE.items() for number in range(len(files))]


@pytest.mark.parametrize(("ext", "number"), CASES)
def test_whole_files_end(ext: str, number: int) -> None:
    assert ends_whole(WHOLE[ext][number], ext)


@pytest.mark.parametrize(("ext", "number"), CASES)
def test_a_file_cut_anywhere_in_its_picture_does_not_end(ext: str, number: int) -> None:
    data = WHOLE[ext][number]
    end = {"jpg": data.rfind(b"\xff\xd9"), "png": data.rfind(b"IEND"), "webp": len(data) - 1}[ext]
    for size in np.linspace(0, end, 200).astype(int):
        assert not ends_whole(data[:size], ext), size


def test_other_formats_are_left_to_decoding() -> None:
    assert not ends_whole(save("BMP"), "bmp")
