"""Tell from a file's structure whether a picture's data comes to its end; no pixel is decoded.

Microseconds instead of milliseconds: what a cut download lacks is seen, damage in the middle is
not; whoever decodes the picture finds that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

# Source: ITU T.81 (JPEG), table B.1.
_JPEG_START_OF_SCAN, _JPEG_END = 0xDA, b"\xff\xd9"
_JPEG_WITHOUT_LENGTH = frozenset((0x01, *range(0xD0, 0xD9)))  # TEM, RST0..7, SOI
_PNG_HEAD_BYTES = 8


def ends_whole(data: bytes, format: str) -> bool:  # noqa: A002
    """Tell whether a picture surely has its end; False means that only decoding can tell.

    Args:
        data: the file.
        format: extension as `core.image.FORMATS` gives it.
    """
    check = _CHECKS.get(format)
    return check is not None and check(data)


def _jpeg_ends(data: bytes) -> bool:
    """Walk the segments to the first scan and look for the end marker behind it.

    Inside entropy-coded data a byte 0xFF is always followed by 0x00 or a restart marker, so the end
    marker cannot come by chance; thumbnails lie inside segments before the scan.
    """
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == _JPEG_START_OF_SCAN:
            return data.rfind(_JPEG_END) > position  # from the end, where it nearly always is
        if marker == 0xFF:  # fill byte
            position += 1
        elif marker in _JPEG_WITHOUT_LENGTH:
            position += 2
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return False


def _png_ends(data: bytes) -> bool:
    """Walk the chunks (length, type, data, checksum) to the last one. Source: PNG, 5.3."""
    position = _PNG_HEAD_BYTES
    while position + 12 <= len(data):
        size = int.from_bytes(data[position : position + 4], "big")
        if data[position + 4 : position + 8] == b"IEND":
            return True
        position += 12 + size
    return False


def _webp_ends(data: bytes) -> bool:
    """Compare with the size that the RIFF header states. Source: RFC 9649, 2.3."""
    return len(data) >= 8 + int.from_bytes(data[4:8], "little")


_CHECKS: Mapping[str, Callable[[bytes], bool]] = {
    "jpg": _jpeg_ends,
    "png": _png_ends,
    "webp": _webp_ends,
}
