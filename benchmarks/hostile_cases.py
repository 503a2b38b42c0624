"""List what hostile, broken and picky hosts do, with the answers that do it and what is right.

The plants of the design and what was measured in img2dataset (`shared/reference/curation.md`).
"""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from benchmarks.hostile_server import Answer, after_head, drip, redirect, reply, stream

HEAD = b"HTTP/1.1 200 OK\r\n"
MB = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Describe one row of the benchmark.

    Args:
        name: what the host does.
        url: asked for; `{port}` is the server's.
        right: statuses that a careful ingest may give.
        is_private: the fetcher must refuse the address, so private addresses stay forbidden.
        by_proxy: our side asks through the server as a proxy, the only way to a first hop that is
            not private itself; the other side asks it directly.
        forbidden: a path whose being asked for is a failure; "body" when reading the body is one.
    """

    name: str
    url: str
    right: tuple[str, ...]
    is_private: bool = False
    by_proxy: bool = False
    forbidden: str = ""


def cases() -> list[Case]:
    """Give all rows, the control first."""
    return [
        Case(name="control: a good JPEG", url="http://pics.test:{port}/good", right=("ok",)),
        *_address_cases(),
        *_transfer_cases(),
        *_consent_cases(),
        *_picture_cases(),
    ]


def _address_cases() -> Iterator[Case]:
    for name, host in (
        ("loopback", "127.0.0.1"), ("loopback, decimal", "2130706433"),
        ("loopback, octal", "0177.0.0.1"), ("loopback, hexadecimal", "0x7f.0.0.1"),
        ("loopback, short", "127.1"), ("loopback, IPv4-mapped", "[::ffff:127.0.0.1]"),
        ("localhost", "localhost"), ("a name that resolves to loopback", "pics.test"),
        ("a name rebound to loopback at the retry", "rebind.test"),
        ("full-width digits", "\uff11\uff12\uff17.0.0.1"),
    ):  # fmt: skip
        yield Case(
            name=name, url=f"http://{host}:{{port}}/secret", right=("private_address",),
            is_private=True, forbidden="/secret",
        )  # fmt: skip
    yield Case(
        name="link-local address, where metadata services are",
        url="http://169.254.99.99/latest/meta-data/",
        right=("private_address",), is_private=True,
    )  # fmt: skip
    yield Case(
        name="file:// in the table",
        url="file:///etc/hostname",
        right=("bad_url",),
        forbidden="body",
    )
    yield Case(
        name="data: in the table", url="data:image/gif;base64,R0lGODlhAQABAAAAACw=",
        right=("bad_url",), forbidden="body",
    )  # fmt: skip
    for name, path, status, forbidden in (
        ("redirect to loopback", "/to-loopback", "private_address", "/secret"),
        ("redirect to loopback, decimal", "/to-decimal", "private_address", "/secret"),
        ("redirect to a link-local address", "/to-link-local", "private_address", ""),
        ("redirect to file://", "/to-file", "bad_redirect", "body"),
    ):
        yield Case(
            name=name, url=f"http://pics.test:{{port}}{path}", right=(status,), is_private=True,
            by_proxy=True, forbidden=forbidden,
        )  # fmt: skip


def _transfer_cases() -> Iterator[Case]:
    for name, path, right in (
        ("redirect loop", "loop", ("redirect_loop",)),
        ("body drips a byte at a time", "drip", ("deadline",)),
        ("headers drip", "drip-head", ("deadline",)),
        ("100 Continue for ever", "drip-early", ("deadline",)),
        ("never answers", "silent", ("timeout",)),
        ("stops half way", "stuck", ("timeout",)),
        ("body of 300 MB, announced", "big", ("too_many_bytes",)),
        ("body of 300 MB, chunked", "big-chunked", ("too_many_bytes",)),
        ("gzip bomb, 300 MB", "gzip-bomb", ("too_many_bytes",)),
        ("short body", "short", ("short_body",)),
        ("100,000 headers", "flood", ("bad_response",)),
        ("header line of 50 MB", "long-line", ("bad_response",)),
        ("not HTTP at all", "junk", ("bad_response",)),
        ("429 with Retry-After", "busy", ("http_429",)),
    ):
        yield Case(name=name, url=f"http://pics.test:{{port}}/{path}", right=right)


def _consent_cases() -> Iterator[Case]:
    for name, path, status in (
        ("robots.txt disallows", "robots/a", "robots"),
        ("X-Robots-Tag: noai", "tag-noai", "opted_out"),
        ("X-Robots-Tag: none", "tag-none", "opted_out"),
        ("X-Robots-Tag: noml", "tag-noml", "opted_out"),
        ("X-Robots-Tag: otherbot: noindex, latentmill: noai", "tag-scoped", "opted_out"),
        ("X-Robots-Tag: unavailable_after: <colons>, noai", "tag-date", "opted_out"),
        ("tdm-reservation: 1", "tdm", "opted_out"),
    ):
        yield Case(
            name=name, url=f"http://pics.test:{{port}}/{path}", right=(status,), forbidden="body"
        )


def _picture_cases() -> Iterator[Case]:
    for name, path, right in (
        ("PNG bomb, 20,000 x 15,000 in 0.9 MB", "bomb", ("too_large",)),
        ("PNG bomb, 9,000 x 9,000 RGBA", "bomb-rgba", ("too_large",)),
        ("HTML as a JPEG", "html", ("not_image",)),
        ("truncated JPEG", "truncated", ("truncated",)),
    ):
        yield Case(name=name, url=f"http://pics.test:{{port}}/{path}", right=right)


def make_routes() -> dict[str, Answer]:
    """Make the answers of all rows."""
    good = jpeg()

    def tagged(*headers: tuple[str, str]) -> bytes:
        return reply(good, 200, *headers)

    return {
        "/robots.txt": reply(b"User-agent: *\nDisallow: /robots/\n"),
        "/good": reply(good),
        "/secret": reply(good),
        "/robots/a": reply(good),
        "/to-link-local": redirect("http://169.254.99.99/latest/meta-data/"),
        "/to-file": redirect("file:///etc/hostname"),
        "/loop": redirect("/loop"),
        "/drip": after_head(HEAD + b"Content-Length: 40\r\n\r\n", drip(b"x", 0.5, 40)),
        "/drip-head": after_head(HEAD, drip(b"X-A: b\r\n", 0.5, 40)),
        "/drip-early": drip(b"HTTP/1.1 100 Continue\r\n\r\n", 0.5, 40),
        "/silent": drip(b"", 40, 1),
        "/stuck": after_head(HEAD + b"Content-Length: 9\r\n\r\nabc", drip(b"", 40, 1)),
        "/big": stream(300 * MB, chunked=False),
        "/big-chunked": stream(300 * MB, chunked=True),
        "/gzip-bomb": reply(_gzip_bomb(300 * MB), 200, ("Content-Encoding", "gzip")),
        "/short": after_head(HEAD + b"Content-Length: 9999\r\n\r\n", good[:99]),
        "/flood": after_head(HEAD, b"".join(b"X-%d: a\r\n" % i for i in range(100_000)) + b"\r\n"),
        "/long-line": after_head(HEAD, b"X: " + b"a" * (50 * MB) + b"\r\n\r\n"),
        "/junk": after_head(b"SSH-2.0-OpenSSH_9.6\r\n\r\n", b""),
        "/busy": reply(b"", 429, ("Retry-After", "600")),
        "/tag-noai": tagged(("X-Robots-Tag", "noai")),
        "/tag-none": tagged(("X-Robots-Tag", "none")),
        "/tag-noml": tagged(("X-Robots-Tag", "noml")),
        "/tag-scoped": tagged(("X-Robots-Tag", "otherbot: noindex, latentmill: noai")),
        "/tag-date": tagged(("X-Robots-Tag", "unavailable_after: 25 Jun 2030 15:00:00 PST, noai")),
        "/tdm": tagged(("tdm-reservation", "1")),
        "/bomb": reply(_flat_png(20_000, 15_000, channels=3)),
        "/bomb-rgba": reply(_flat_png(9_000, 9_000, channels=4)),
        "/html": reply(b"<!doctype html><html><body>Sign in</body></html>"),
        "/truncated": reply(good[: len(good) // 2]),
    }


def make_redirects(port: int) -> dict[str, Answer]:
    """Make the redirects that lead back to the server itself."""
    return {
        "/to-loopback": redirect(f"http://127.0.0.1:{port}/secret"),
        "/to-decimal": redirect(f"http://2130706433:{port}/secret"),
    }


@cache
def jpeg() -> bytes:
    """Draw a picture of 640 x 480 with some texture."""
    import numpy as np
    from PIL import Image

    grid = np.indices((480, 640)).sum(0)
    pixels = np.stack([grid % 256, grid // 3 % 256, grid // 7 % 256], -1).astype(np.uint8)
    stream_ = io.BytesIO()
    Image.fromarray(pixels).save(stream_, "JPEG", quality=90)
    return stream_.getvalue()


def _gzip_bomb(num_bytes: int) -> bytes:
    stream_ = io.BytesIO()
    with gzip.GzipFile(fileobj=stream_, mode="wb", compresslevel=9) as file:
        for _ in range(num_bytes // MB):
            file.write(bytes(MB))
    return stream_.getvalue()


def _flat_png(width: int, height: int, channels: int) -> bytes:
    """Make a valid PNG of one colour, row by row, so that making it needs no memory."""
    packer = zlib.compressobj(9)
    row = bytes(1 + width * channels)
    packed = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    # Source: PNG specification (third edition), 11.2: IHDR, IDAT, IEND; colour types 2 and 6.
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if channels == 3 else 6, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", packed), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
