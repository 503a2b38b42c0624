"""Records of cut, damaged and odd WARC files cost themselves alone, and every loss is said."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from pathlib import Path

import pytest

from curate.sources.crawls.page import Page, PageImage
from curate.sources.crawls.warc_blocks import Block, Loss, read_blocks
from curate.sources.crawls.warc_pages import MAX_PAGE_BYTES
from tests.sources.crawls.crawl_files import (
    BODY,
    URLS,
    html,
    kinds,
    links_of,
    make_warc,
    numbered,
    other,
    page_of,
    pages_of,
    wat,
)


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (gzip.compress(BODY, mtime=0), [("Content-Encoding", "gzip")]),
        (gzip.compress(BODY, mtime=0), [("Content-Encoding", "x-gzip")]),
        (zlib.compress(BODY), [("Content-Encoding", "deflate")]),
        (zlib.compress(BODY)[2:-4], [("Content-Encoding", "deflate")]),
        (b"5\r\n<html\r\n20\r\n> <img src=a.jpg alt=text></html\r\n1\r\n>\r\n0\r\n\r\n",
         [("Transfer-Encoding", "Chunked")]),
        (BODY, [("Content-Encoding", "gzip")]),  # undone by the archive, as its header forgets
        (BODY, [("Content-Encoding", "utf-8")]),  # no encoding, as browsers see it
    ],
)  # fmt: skip
def test_encoded_bodies_are_undone(body: bytes, headers: list[tuple[str, str]]) -> None:
    page = page_of(html("http://a.test/", body, headers))
    assert page.images == [PageImage(src="a.jpg", alt="text")]


@pytest.mark.parametrize(
    ("body", "encoding", "detail"),
    [
        (b"\x0b\x02\x80", "br", "Content-Encoding br cannot be undone"),
        (b"\x1f\x8b\x08 damaged", "gzip", "damaged Content-Encoding gzip"),
    ],
)
def test_bodies_that_cannot_be_undone_are_losses(body: bytes, encoding: str, detail: str) -> None:
    (loss,) = pages_of(make_warc([html("http://a.test/", body, [("Content-Encoding", encoding)])]))
    assert isinstance(loss, Loss)
    assert (loss.status, loss.detail) == ("bad_record", f"{detail} (http://a.test/)")


def test_only_pages_that_succeeded_are_read() -> None:
    records = [
        other("warcinfo"),
        other("request", b"GET / HTTP/1.1\r\n\r\n"),
        html("http://a.test/1", BODY, type_="image/jpeg"),
        html("http://a.test/2", BODY, status="404 Not Found"),
        html("http://a.test/3", BODY, status="301 Moved"),
        other("metadata", b"IMG@/src but no JSON"),
        html("http://a.test/4", BODY, type_="application/xhtml+xml"),
        html("http://a.test/5", BODY, type_=""),
        {"uri": "http://a.test/6", "record_type": "resource", "payload": BODY,
         "content_type": "text/html"},
    ]  # fmt: skip
    pages = pages_of(make_warc(records))
    assert [page.url for page in pages if isinstance(page, Page)] == [
        "http://a.test/4", "http://a.test/5", "http://a.test/6",
    ]  # fmt: skip
    assert len(pages) == 3


@pytest.mark.parametrize("is_gzip", [True, False])
def test_a_file_cut_anywhere_keeps_what_came_before_and_says_so(is_gzip: bool) -> None:
    data = make_warc(numbered(9), is_gzip=is_gzip)
    starts = [item.offset for item in read_blocks(io.BytesIO(data))]
    ends = [*starts[1:], len(data)]
    assert kinds(data) == URLS
    for stop in [*range(1, len(data), 7), *(end - back for end in ends for back in range(9))]:
        num_whole = sum(end <= stop for end in ends)
        *found, last = kinds(data[:stop])
        # Line breaks behind a plain record, or the checksum of a gzip member, may be missing.
        is_clean = stop in ends or (not is_gzip and any(0 < end - stop <= 4 for end in ends))
        if is_clean:
            found.append(last)
        else:
            assert last == "cut_file", stop
        assert found in (URLS[:num_whole], URLS[: num_whole + 1]), stop


def test_a_cut_is_told_with_its_place() -> None:
    data = make_warc(numbered(3), is_gzip=False)
    *_, loss = read_blocks(io.BytesIO(data[:-200]))
    assert isinstance(loss, Loss)
    blocks = [item for item in read_blocks(io.BytesIO(data)) if isinstance(item, Block)]
    assert (loss.status, loss.offset) == ("cut_file", blocks[-1].offset)
    assert "bytes" in loss.detail


@pytest.mark.parametrize("is_gzip", [True, False])
def test_a_file_compressed_as_a_whole_is_read_and_cut_too(is_gzip: bool) -> None:
    data = gzip.compress(make_warc(numbered(9, 30_000), is_gzip=False))
    assert kinds(data) == URLS
    found = kinds(data[: len(data) // 2])
    assert 0 < len(found) - 1 < 9
    assert found == [*URLS[: len(found) - 1], "cut_file"]


def test_a_damaged_gzip_member_costs_its_own_record() -> None:
    data = bytearray(make_warc(numbered(9)))
    starts = [item.offset for item in read_blocks(io.BytesIO(bytes(data)))]
    for at in (starts[4] + 60, starts[4] + 3, starts[5] - 6):
        damaged = bytearray(data)
        damaged[at] ^= 0xFF
        assert kinds(bytes(damaged)) == [*URLS[:4], "bad_record", *URLS[5:]], at
    garbage = bytes(data[: starts[4]]) + b"garbage" * 20 + bytes(data[starts[4] :])
    assert kinds(garbage) == [*URLS[:4], "bad_record", *URLS[4:]]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (rb"\nContent-Length: \d", rb"\nContent-Length: 9"),
        (rb"\nContent-Length: \d", rb"\nContent-Length: "),
        (rb"\nContent-Length: \d", rb"\nContent-Length: x"),
        (rb"\nContent-Length: \d", rb"\nContent-Length: 99999999"),
        (rb"\nContent-Length", rb"\nContent-Width"),
        (rb"WARC/1.0", rb"WARP/1.0"),
        (rb"WARC-Type", rb"WARC-Tape"),
        (rb"\r\n\r\n$", rb""),
    ],
)
def test_a_malformed_record_costs_itself_alone(old: bytes, new: bytes) -> None:
    records = [make_warc([record], is_gzip=False) for record in numbered(9)]
    records[4], num_changes = re.subn(old, new, records[4], count=1)
    assert num_changes == 1
    found = kinds(b"".join(records))
    own = [URLS[4]] if new == b"" else ["bad_record"]  # line breaks that lack cost nothing
    assert found == [*URLS[:4], *own, *URLS[5:]]


def test_records_that_cannot_be_read_are_counted_one_by_one(tmp_path: Path) -> None:
    broken = {**wat("http://a.test/", []), "payload": b'{"Links": "IMG@/src"'}
    deep = {**broken, "payload": b'{"IMG@/src":' + b"[" * 100_000}
    nothing = {**broken, "payload": b'["IMG@/src"]'}
    nameless = make_warc([html("http://a.test/", BODY)], is_gzip=False)
    nameless = nameless.replace(b"WARC-Target-URI: http://a.test/\r\n", b"")
    data = make_warc([broken, deep, nothing], is_gzip=False) + nameless
    rows, _ = links_of(data, tmp_path)
    assert [row["status"] for row in rows] == ["bad_record"] * 3
    assert rows[0]["error"].startswith("f.warc.gz, byte 0: its JSON cannot be read")
    assert "nested too deeply" in rows[1]["error"]
    assert "without WARC-Target-URI" in rows[2]["error"]
    assert len({row["key"] for row in rows}) == 3


def test_a_file_of_something_else_is_one_bad_record() -> None:
    assert kinds(b"\x00\x01 not a crawl \n" * 100_000) == ["bad_record"]
    assert kinds(b"") == []


def test_a_page_too_long_is_read_in_part_and_said() -> None:
    body = b"<img src=a.jpg alt=first>" + b" " * MAX_PAGE_BYTES + b"<img src=b.jpg alt=last>"
    bomb = gzip.compress(body, mtime=0)
    for record in (html("http://a.test/", body),
                   html("http://a.test/", bomb, [("Content-Encoding", "gzip")])):  # fmt: skip
        loss, page = pages_of(make_warc([record, *numbered(1)]))[:2]
        assert isinstance(loss, Loss) and isinstance(page, Page)
        assert loss.status == "large_page"
        assert [image.alt for image in page.images] == ["first"]


def test_a_record_too_long_to_hold_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curate.sources.crawls.warc_blocks.MAX_RECORD_BYTES", 2000)
    video = html("http://a.test/v", bytes(1_000_000), type_="video/mp4")
    long = html("http://a.test/long", BODY + b"x" * 5000)
    found = kinds(make_warc([video, *numbered(2), long, *numbered(1)], is_gzip=False))
    assert found == [*URLS[:2], "large_page", "http://a.test/long", URLS[0]]
