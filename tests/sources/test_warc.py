"""WARC and WAT files give the pictures of their pages, and say what of them could not be read."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import re
import threading
import time
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image
from selectolax.lexbor import LexborHTMLParser
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from curate.core.commit import Output
from curate.core.engine import Patience, StageReport, run_stage, run_with_tries
from curate.core.errors import DataError
from curate.core.remote_store import drop_copies
from curate.core.shard import ShardSet
from curate.core.store import open_store
from curate.sources.charset import decode_page
from curate.sources.config import IngestConfig
from curate.sources.html_page import largest_candidate
from curate.sources.html_tags import flatten_page
from curate.sources.page import Page, PageImage, join_url
from curate.sources.table import make_source
from curate.sources.warc_blocks import Block, Loss, read_blocks
from curate.sources.warc_pages import MAX_PAGE_BYTES, read_pages
from curate.sources.web_links import write_links
from curate.stages.ingest import IngestStage
from tests.core.s3_server import copy_tree, serve_s3, use_s3

CONFIG = IngestConfig()
DATE = "2026-05-01T12:00:00Z"


class Silent:
    def start(self, stage: str, *, todo: int, done: int) -> None: ...

    def advance(self, outcome: object) -> None: ...

    def finish(self) -> None: ...


class Inline:
    def run(self, stage: Any, jobs: Any, output: Any) -> Iterator[Any]:
        stage.setup()
        for job in jobs:
            yield run_with_tries(stage, job, output, Patience(tries=1))


def html(
    url: str,
    body: bytes | str,
    headers: Sequence[tuple[str, str]] = (),
    type_: str = "text/html; charset=utf-8",
    status: str = "200 OK",
) -> dict[str, Any]:
    """Describe the record of an answer."""
    data = body.encode() if isinstance(body, str) else body
    return {
        "uri": url,
        "record_type": "response",
        "payload": data,
        "http": StatusAndHeaders(status, [("Content-Type", type_), *headers], "HTTP/1.1"),
    }


def wat(url: str, links: Any, head: Any = None, headers: Any = None) -> dict[str, Any]:
    """Describe a WAT record as Common Crawl writes it."""
    page = {"Head": head or {}, "Links": links}
    answer = {
        "Response-Message": {"Status": "200", "Version": "HTTP/1.1", "Reason": "OK"},
        "Headers": headers or {"Content-Type": "text/html"},
        "HTML-Metadata": page,
    }
    envelope = {
        "Format": "WARC",
        "WARC-Header-Metadata": {
            "WARC-Type": "response", "WARC-Target-URI": url, "WARC-Date": DATE,
        },
        "Payload-Metadata": {
            "Actual-Content-Type": "application/http; msgtype=response",
            "HTTP-Response-Metadata": answer,
        },
    }  # fmt: skip
    data = {"Container": {"Filename": "CC-MAIN-1.warc.gz", "Compressed": True},
            "Envelope": envelope}  # fmt: skip
    return {
        "uri": url,
        "record_type": "metadata",
        "payload": json.dumps(data).replace("IMG@/", "IMG@\\/").encode(),
        "content_type": "application/json",
    }


def other(kind: str, payload: bytes = b"x: y\r\n") -> dict[str, Any]:
    """Describe a record that is no page."""
    return {
        "uri": "http://a.test/", "record_type": kind, "payload": payload,
        "content_type": "application/warc-fields",
    }  # fmt: skip


def make_warc(records: Sequence[Mapping[str, Any]], *, is_gzip: bool = True) -> bytes:
    """Write records with warcio."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # its temporary files are left open
        return _write_warc(records, is_gzip)


def _write_warc(records: Sequence[Mapping[str, Any]], is_gzip: bool) -> bytes:
    out = io.BytesIO()
    writer = WARCWriter(out, gzip=is_gzip)
    for record in records:
        made = writer.create_warc_record(
            record["uri"],
            record["record_type"],
            payload=io.BytesIO(record["payload"]),
            http_headers=record.get("http"),
            warc_content_type=record.get("content_type", ""),
            warc_headers_dict={"WARC-Date": DATE},
        )
        writer.write_record(made)
    return out.getvalue()


def pages_of(data: bytes, config: IngestConfig = CONFIG) -> list[Page | Loss]:
    return list(read_pages(io.BytesIO(data), config))


def page_of(record: Mapping[str, Any], config: IngestConfig = CONFIG) -> Page:
    (page,) = pages_of(make_warc([record]), config)
    assert isinstance(page, Page), page
    return page


def links_of(
    data: bytes, tmp_path: Path, config: IngestConfig = CONFIG
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Give the links of a file in the order of the file, and the counts."""
    tmp_path.mkdir(exist_ok=True)
    pages = read_pages(io.BytesIO(data), config)
    counts = write_links(pages, "f.warc.gz", tmp_path / "links.parquet", tmp_path, config)
    rows = pq.read_table(tmp_path / "links.parquet").to_pylist()
    assert [row["key"] for row in rows] == sorted(row["key"] for row in rows)
    return sorted(rows, key=lambda row: row["position"]), dict(counts)


def pairs_of(data: bytes, tmp_path: Path) -> list[tuple[str, str]]:
    return [(row["url"], row["caption"]) for row in links_of(data, tmp_path)[0]]


PAGE = """<!doctype html><html><head><base href="/shop/"><base href="/second/">
<link rel="license" href="https://creativecommons.org/licenses/by/4.0/"></head><body>
<img src="cats/1.jpg" alt="a cat &amp; a dog &mdash; &quot;friends&quot;">
<p><IMG SRC='//cdn.test/2.png' ALT='  two
   lines  '></p>
<img src="../3.jpg?a=b c&amp;d=\u00fc#part" alt="three">
<img src="https://b\u00fccher.test/\u00e9t\u00e9 1.jpg" alt="four">
<img src="cats/1.jpg" alt="a cat &amp; a dog &mdash; &quot;friends&quot;">
<img src="no-alt.jpg"><img src="empty.jpg" alt=""><img src="space.jpg" alt=" &nbsp; ">
<img src="data:image/gif;base64,R0lGODlh" alt="inline"><img alt="no address">
<img src="javascript:void(0)" alt="script"><img src="ftp://a.test/x.jpg" alt="ftp">
<img src="data:image/gif;base64,R0" data-src="lazy.jpg" alt="lazy">
<noscript><img src="lazy.jpg" alt="lazy"></noscript>
<picture><source srcset="big.avif 2x"><img srcset="s.jpg 320w, l.jpg 1280w, m.jpg 640w"
 alt="set"></picture>
<template><img src="template.jpg" alt="template"></template>
<img src="back\\slash\\..\\6.jpg" alt="six"><!-- <img src="c.jpg" alt="comment"> -->
</body></html>"""


def test_links_are_resolved_encoded_and_filtered(tmp_path: Path) -> None:
    rows, counts = links_of(make_warc([html("http://a.test/dir/page.html", PAGE)]), tmp_path)
    assert [(row["url"], row["caption"]) for row in rows] == [
        ("http://a.test/shop/cats/1.jpg", 'a cat & a dog \u2014 "friends"'),
        ("http://cdn.test/2.png", "two lines"),
        ("http://a.test/3.jpg?a=b%20c&d=%C3%BC", "three"),
        ("https://xn--bcher-kva.test/%C3%A9t%C3%A9%201.jpg", "four"),
        ("http://a.test/shop/lazy.jpg", "lazy"),
        ("http://a.test/shop/l.jpg", "set"),
        ("http://a.test/shop/back/6.jpg", "six"),
    ]
    assert {row["page_url"] for row in rows} == {"http://a.test/dir/page.html"}
    assert {row["license"] for row in rows} == {"https://creativecommons.org/licenses/by/4.0/"}
    assert {row["status"] for row in rows} == {"ok"}
    assert counts == {
        "pages": 1, "in": 2, "dropped.repeated_link": 2, "images.no_alt": 3, "images.no_url": 1,
    }  # fmt: skip


def test_the_same_page_as_wat_gives_the_same_links(tmp_path: Path) -> None:
    links = [
        {"path": "A@/href", "url": "x.jpg", "alt": "a link", "text": "t"},
        {"path": "IMG@/src", "url": "cats/1.jpg", "alt": "a cat"},
        {"path": "IMG@/src", "url": "//cdn.test/2.png", "alt": "  two\n lines "},
        {"path": "IMG@/src", "url": "cats/1.jpg"},
        {"path": "IMG@/longdesc", "url": "long.html", "alt": "long"},
        {"path": "IMG@/src", "url": 5, "alt": ["x"]},
        {"path": "IMG@/src", "url": "s.jpg", "alt": "half \ud83d pair"},
        "no object",
    ]
    head = {"Base": "/shop/", "Link": [{"path": "LINK@/href", "url": "/cc", "rel": "License"}]}
    rows, counts = links_of(make_warc([wat("http://a.test/dir/", links, head)]), tmp_path)
    assert [(row["url"], row["caption"], row["license"]) for row in rows] == [
        ("http://a.test/shop/cats/1.jpg", "a cat", "http://a.test/cc"),
        ("http://cdn.test/2.png", "two lines", "http://a.test/cc"),
        ("http://a.test/shop/s.jpg", "half ? pair", "http://a.test/cc"),
    ]
    assert counts["images.no_alt"] == 1


@pytest.mark.parametrize("base", ["", "/shop/", "sub/", "https://b.test/x/y", "?q=1"])
@pytest.mark.parametrize(
    "src",
    ["a.jpg", "/a.jpg", "../a.jpg", "//c.test/a.jpg", "https://c.test/a.jpg", "?i=1", "a/./b.jpg"],
)
def test_wat_links_are_cc2dataset_s(base: str, src: str, tmp_path: Path) -> None:
    from urllib.parse import urljoin

    page = "http://a.test/dir/page.html"
    head = {"Base": base} if base else {}
    data = make_warc([wat(page, [{"path": "IMG@/src", "url": src, "alt": "x"}], head)])
    # Oracle: cc2dataset main.py, extract_documents_from_wat and make_link_absolute.
    expected = urljoin(urljoin(page, base) if base else page, src)
    assert pairs_of(data, tmp_path) == [(expected, "x")]


def test_pictures_without_alt_text_are_taken_on_request(tmp_path: Path) -> None:
    data = make_warc([html("http://a.test/", '<img src=1.jpg><img src=2.jpg alt="abc">')])
    for least, expected in ((0, ["", "abc"]), (1, ["abc"]), (4, [])):
        rows, _ = links_of(data, tmp_path, IngestConfig(alt_min_chars=least))
        assert [row["caption"] for row in rows] == expected


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("a.jpg", "http://h.test/d/a.jpg"),
        (" \n a\tb.jpg ", "http://h.test/d/ab.jpg"),
        ("\\\\c.test\\a.jpg?x=\\", "http://c.test/a.jpg?x=\\"),
        ("http://h.test/a/../b/./c.jpg", "http://h.test/b/c.jpg"),
        ("http://h.test//a//b.jpg", "http://h.test//a//b.jpg"),
        ("HTTP://H.test/A.jpg", "http://H.test/A.jpg"),
        ("//[bad/a.jpg", ""),
    ],
)
def test_addresses_are_joined_as_browsers_do(address: str, expected: str) -> None:
    assert join_url("http://h.test/d/p.html", address) == expected


@pytest.mark.parametrize(
    ("srcset", "expected"),
    [
        ("a.jpg 320w, b.jpg 1280w,c.jpg 640w", "b.jpg"),
        ("a.jpg, b.jpg 1.5x", "b.jpg"),
        ("a,b.jpg 2x, c.jpg 2x", "a,b.jpg"),
        ("  a.jpg  ,", "a.jpg"),
        ("a.jpg 99999999999999999999w, b.jpg 2w", "b.jpg"),
        ("", ""),
        ("," * 3000, ""),
    ],
)
def test_the_largest_candidate_of_a_srcset_is_chosen(srcset: str, expected: str) -> None:
    assert largest_candidate(srcset) == expected


@pytest.mark.parametrize(
    ("text", "encoding", "type_", "head"),
    [
        ("\u65e5\u672c\u8a9e", "shift_jis", "text/html; charset=Shift_JIS", ""),
        ("\u65e5\u672c\u8a9e", "euc_jp", "text/html", '<meta charset="EUC-JP">'),
        ("\u043c\u0438\u0440", "cp1251", "text/html",
         '<meta http-equiv=Content-Type content="text/html; charset=windows-1251">'),
        ("\u20ac 5", "cp1252", "text/html; charset=iso-8859-1", ""),  # browsers' latin-1
        ("\u4e2d\u6587", "gb18030", "text/html; charset=gb2312", '<meta charset="utf-8">'),
        ("caf\u00e9", "utf-8", "text/html", ""),
        ("caf\u00e9", "latin-1", "text/html", ""),
        ("caf\u00e9", "utf-16", "text/html; charset=utf-8", ""),
        ("caf\u00e9", "utf-8", "text/html", '<meta charset="utf-16">'),
        ("caf\u00e9", "utf-8", "text/html; charset=rot13", ""),
        ("caf\u00e9", "utf-8", "text/html", '<!-- <meta charset="koi8-r"> -->'),
    ],
)  # fmt: skip
def test_alt_texts_are_read_in_their_charset(
    text: str, encoding: str, type_: str, head: str
) -> None:
    data = f"<html><head>{head}</head><img src=a.jpg alt='{text}'>".encode(encoding)
    assert page_of(html("http://a.test/", data, type_=type_)).images[0].alt == text


def test_bytes_of_no_charset_become_replacement_characters() -> None:
    assert decode_page(b"a\xffb", "text/html; charset=utf-8") == "a\ufffdb"


BODY = b"<html><img src=a.jpg alt=text></html>"


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


@pytest.mark.parametrize(
    ("headers", "head", "opt_out"),
    [
        ([], "", ""),
        ([("X-Robots-Tag", "noai, noimageai")], "", "noai"),
        ([("x-robots-tag", "otherbot: noindex, latentmill: noml")], "", "noml"),
        ([("X-Robots-Tag", "otherbot: noai")], "", ""),
        ([("X-Robots-Tag", "unavailable_after: 25 Jun 2030 15:00:00 UTC")], "", ""),
        ([("X-Robots-Tag", "unavailable_after: 1 Jan 2020 15:00:00 UTC")], "",
         "unavailable_after:1 jan 2020 15:00:00 utc"),
        ([("tdm-reservation", "1")], "", "tdm-reservation"),
        ([], '<meta name="robots" content="index, NOAI">', "noai"),
        ([], '<META NAME="Latentmill" CONTENT="noimageindex">', "noimageindex"),
        ([], '<meta name="googlebot" content="noindex">', ""),
        ([], '<meta name="robots" content="nofollow, max-image-preview:none">', ""),
        ([], '<meta name="tdm-reservation" content="1">', "tdm-reservation"),
        ([], '<meta name="robots" content="none">', "none"),
    ],
)  # fmt: skip
def test_pages_opt_out_in_every_form(
    headers: list[tuple[str, str]], head: str, opt_out: str, tmp_path: Path
) -> None:
    record = html("http://a.test/", f"<html>{head}<img src=a.jpg alt=x>", headers)
    assert page_of(record).opt_out == opt_out
    metas = [{"name": "x"}, *_metas(head)]
    answer = {name: [value, value] for name, value in headers}
    links = [{"path": "IMG@/src", "url": "a.jpg", "alt": "x"}]
    data = make_warc([wat("http://a.test/", links, {"Metas": metas}, answer)])
    (row,), _ = links_of(data, tmp_path)
    assert row["status"] == ("opted_out" if opt_out else "ok")
    assert row["error"] == (f"the page says {opt_out}" if opt_out else None)


def _metas(head: str) -> list[dict[str, str]]:
    nodes = LexborHTMLParser(head).css("meta")
    return [{name: value or "" for name, value in node.attributes.items()} for node in nodes]


def test_a_link_is_opted_out_when_one_of_its_pages_opts_out(tmp_path: Path) -> None:
    body = "<img src=http://c.test/a.jpg alt=x>"
    records = [
        html("http://a.test/", body),
        html("http://b.test/", f'<meta name=robots content="noai">{body}'),
        html("http://d.test/", body),
    ]
    (row,), counts = links_of(make_warc(records), tmp_path)
    assert (row["status"], row["page_url"]) == ("opted_out", "http://b.test/")
    assert counts["dropped.repeated_link"] == 2


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('<a href="http://creativecommons.org/licenses/by/2.0/">cc</a>',
         "http://creativecommons.org/licenses/by/2.0/"),
        ('<a href="//creativecommons.org/publicdomain/zero/1.0/">cc</a><a rel="nofollow License" '
         'href=terms>t</a>', "http://a.test/terms"),
        ('<a href="https://creativecommons.org/about/">cc</a>', ""),
    ],
)  # fmt: skip
def test_the_page_s_licence_is_kept(body: str, expected: str, tmp_path: Path) -> None:
    data = make_warc([html("http://a.test/", f"{body}<img src=a.jpg alt=x>")])
    (row,), _ = links_of(data, tmp_path)
    assert row["license"] == expected


def numbered(count: int, size: int = 300) -> list[dict[str, Any]]:
    """Describe pages of one picture each, hard to compress."""
    noise = [hashlib.sha256(bytes([index])).hexdigest() for index in range(count)]
    return [
        html(
            f"http://a.test/{index}", f"<img src={index}.jpg alt=p{index}><p>{text * (size // 64)}"
        )
        for index, text in enumerate(noise)
    ]


def kinds(data: bytes) -> list[str]:
    return [item.status if isinstance(item, Loss) else item.url for item in pages_of(data)]


URLS = [f"http://a.test/{index}" for index in range(9)]


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
    monkeypatch.setattr("curate.sources.warc_blocks.MAX_RECORD_BYTES", 2000)
    video = html("http://a.test/v", bytes(1_000_000), type_="video/mp4")
    long = html("http://a.test/long", BODY + b"x" * 5000)
    found = kinds(make_warc([video, *numbered(2), long, *numbered(1)], is_gzip=False))
    assert found == [*URLS[:2], "large_page", "http://a.test/long", URLS[0]]


@pytest.mark.parametrize(
    "bomb",
    [
        "<div>" * 400_000,
        "<a><b id=1><p>" * 100_000,  # lexbor's tree of 8,000 of them takes 11.5 GB
        "".join(f"<a><b id={index}><p>" for index in range(50_000)),
        "<table>" * 300_000,
        "<!--" * 500_000 + "-->",
        '<img ="' * 200_000 + ">",
        "<img " + " ".join(f"a{index}" for index in range(200_000)) + ">",
        "<x " + "=" * 1_000_000 + ">",
        "<x a= " + " " * 1_000_000 + ">",
        "<" * 1_000_000,
        "<img" * 500_000 + ">",
        "<img srcset='" + "," * 15_000 + "'>",
    ],
)
def test_hostile_html_takes_linear_time(bomb: str) -> None:
    start = time.process_time()
    page = page_of(html("http://a.test/", f"{bomb}<img src=a.jpg alt=behind>"))
    assert time.process_time() - start < 2
    assert page.images[-1] == PageImage(src="a.jpg", alt="behind")


@pytest.mark.parametrize(
    "body",
    [
        PAGE,
        """<img alt='a > b' src=1.jpg><img alt=it's src=2.jpg title="x'>"><img src='3.jpg'/>""",
        "<IMG\nSRC = 1.jpg\n ALT = 'x' ><img/src=2.jpg/alt=y><imgx src=3.jpg alt=z>",
        "<script>'<img src=1.jpg>'</SCRIPT ><img src=2.jpg alt=y><style><img src=3.jpg></style>",
        """<div data-x="<img src=1.jpg alt=x>" title='<img src=2.jpg>'><img src=3.jpg alt=z>""",
        "<!--><img src=1.jpg alt=x>--><!-- <img src=2.jpg alt=y> --!><img src=3.jpg alt=z>",
        "<img src=1.jpg?a=1&copy=2&amp;b=3 alt='&lt;b&gt; &eacute; &copy 2'>",
        "<title><img src=1.jpg></title><textarea><img src=2.jpg></textarea><img src=3.jpg alt=x>",
        "</p/><br/><img src=1.jpg alt=x alt=y src=2.jpg>< img src=3.jpg><img src=4.jpg alt=",
        "<noscript><img src=1.jpg alt=x></noscript><p><![CDATA[<img src=2.jpg alt=y>]]>",
    ],
)
def test_flat_pages_have_the_images_of_lexbor_s_tree(body: str) -> None:
    tree = LexborHTMLParser(f"<html><body>{body}")
    expected = [
        (node.attributes.get("src"), node.attributes.get("alt")) for node in tree.css("img")
    ]
    flat = LexborHTMLParser(flatten_page(f"<html><body>{body}"))
    assert [(n.attributes.get("src"), n.attributes.get("alt")) for n in flat.css("img")] == expected
    assert expected


def test_a_long_inline_picture_does_not_hide_the_lazy_one() -> None:
    tag = f'<img src="data:image/png;base64,{"A" * 100_000}" data-src="a.jpg" alt="lazy">'
    assert page_of(html("http://a.test/", tag)).images == [PageImage(src="a.jpg", alt="lazy")]


def test_many_links_are_sorted_in_pieces_and_cut_into_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = "".join(f"<img src={index % 70}.jpg alt=x>" for index in range(200))
    data = make_warc([html("http://a.test/", body)])
    whole, counts = links_of(data, tmp_path / "a", IngestConfig(shard_size=16))
    monkeypatch.setattr("curate.sources.web_links._PIECE_ROWS", 23)
    pieces, again = links_of(data, tmp_path / "b", IngestConfig(shard_size=16))
    assert whole == pieces and counts == again
    assert [row["position"] for row in whole] == list(range(70))
    assert counts["in"] == counts["dropped.repeated_link"] == 130
    files = [(tmp_path / name / "links.parquet").read_bytes() for name in ("a", "b")]
    assert files[0] == files[1]
    with pq.ParquetFile(tmp_path / "a/links.parquet") as file:
        sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
        digests = json.loads(file.metadata.metadata[b"groups"])
    assert sizes == [16, 16, 16, 16, 6] and len(set(digests)) == 5


PICTURES: dict[str, bytes] = {}
for _index in range(6):
    _stream = io.BytesIO()
    Image.new("RGB", (40, 30 + _index), (40 * _index, 0, 0)).save(_stream, "PNG")
    PICTURES[f"/{_index}.png"] = _stream.getvalue()


@contextlib.contextmanager
def serve_pictures() -> Iterator[tuple[str, list[str]]]:
    """Serve the pictures on the loopback; give the address and the paths asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = PICTURES.get(self.path)
            if data:
                asked.append(self.path)
            self.send_response(200 if data else 404)
            self.send_header("Content-Length", str(len(data or b"")))
            self.end_headers()
            self.wfile.write(data or b"")

        def log_message(self, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def run_ingest(source: Path | str, out: Path | str, **config: Any) -> StageReport:
    """Run the stage as the command line does, in this process."""
    config = {"shard_size": 2, "allow_private": True, **config}
    store = open_store(out)
    stage = IngestStage(IngestConfig(source=str(source), **config), {}, {}, 0, own=ShardSet(store))
    return run_stage(stage, Output(store=store), Inline(), Silent())


def rows_of(out: Path | str) -> list[dict[str, Any]]:
    shards = ShardSet(open_store(out))
    return [row for _, table in shards.tables() for row in table.to_pylist()]


def crawl(folder: Path, site: str) -> None:
    """Write a WARC and a WAT file that share links; the second one is cut."""
    folder.mkdir()
    images = [f'<img src="{site}/{index}.png" alt="picture {index}">' for index in range(4)]
    page = html("http://page.test/", "".join(images))
    noai = html("http://noai.test/", f'<img src="{site}/5.png" alt="mine">',
                [("X-Robots-Tag", "noai")])  # fmt: skip
    (folder / "CC-MAIN-1.warc.gz").write_bytes(make_warc([other("warcinfo"), page, noai]))
    links = [
        {"path": "IMG@/src", "url": f"{site}/{index}.png", "alt": f"picture {index}"}
        for index in (2, 3, 4, 9)
    ]
    links.append({"path": "IMG@/src", "url": f"{site}/1.png", "alt": "another text"})
    wats = [wat("http://w.test/", links), wat("http://lost.test/", links)]
    (folder / "CC-MAIN-2.warc.wat.gz").write_bytes(make_warc(wats)[:-40])
    (folder / "notes.txt").write_text("x")


def test_a_folder_of_crawl_files_becomes_shards(tmp_path: Path) -> None:
    with serve_pictures() as (site, asked):
        crawl(tmp_path / "crawl", site)
        report = run_ingest(tmp_path / "crawl", tmp_path / "out")
        once = list(asked)
        assert run_ingest(tmp_path / "crawl", tmp_path / "out").num_run == 0
    assert sorted(once) == ["/0.png", "/1.png", "/1.png", "/2.png", "/3.png", "/4.png"]
    assert asked == once
    assert report.counts["in"] == 11 and report.counts["kept"] == 6
    assert {name: n for name, n in report.counts.items() if name.startswith("failed.")} == {
        "failed.opted_out": 1, "failed.repeated_row": 2, "failed.cut_file": 1, "failed.http_404": 1,
    }  # fmt: skip
    rows = {(row["status"], row["caption"]): row for row in rows_of(tmp_path / "out")}
    good = rows["ok", "picture 0"]
    assert good["sha256"] == hashlib.sha256(PICTURES["/0.png"]).hexdigest()
    assert good["url"] == f"{site}/0.png"
    assert json.loads(good["fields"]) == {
        "page_url": "http://page.test/", "crawl_file": "CC-MAIN-1.warc.gz",
    }  # fmt: skip
    assert rows["opted_out", "mine"]["error"] == "the page says noai"
    assert rows["cut_file", ""]["error"].startswith("CC-MAIN-2.warc.wat.gz, byte ")
    assert ("repeated_row", "picture 3") in rows and ("ok", "another text") in rows


def test_a_crawl_behind_a_url_gives_the_shards_of_a_local_one(tmp_path: Path) -> None:
    with serve_pictures() as (site, _), serve_s3() as proxy, use_s3(proxy) as bucket:
        crawl(tmp_path / "crawl", site)
        copy_tree(tmp_path / "crawl", f"{bucket}/crawl")
        for place, out in ((tmp_path, tmp_path), (bucket, bucket), (bucket, tmp_path / "b")):
            run_ingest(f"{place}/crawl", f"{out}/out")
        tables = [rows_of(f"{out}/out") for out in (tmp_path, bucket, tmp_path / "b")]
        drop_copies()
    assert len(tables[0]) == 11
    assert tables[0] == tables[1] == tables[2]


def test_a_further_file_changes_no_shard_before(tmp_path: Path) -> None:
    with serve_pictures() as (site, _):
        crawl(tmp_path / "crawl", site)
        run_ingest(tmp_path / "crawl", tmp_path / "out")
        before = {p.name: p.read_bytes() for p in (tmp_path / "out").glob("0*.tar")}
        page = html("http://late.test/", f'<img src="{site}/0.png" alt="late">')
        (tmp_path / "crawl/CC-MAIN-3.warc").write_bytes(make_warc([page], is_gzip=False))
        report = run_ingest(tmp_path / "crawl", tmp_path / "out")
    assert report.num_run == 2  # its links and its shard
    after = {p.name: p.read_bytes() for p in (tmp_path / "out").glob("0*.tar")}
    assert {name: after[name] for name in before} == before and len(after) == len(before) + 1


def test_an_opt_out_in_a_later_file_reaches_the_link_of_an_earlier_one(tmp_path: Path) -> None:
    folder = tmp_path / "crawl"
    folder.mkdir()
    with serve_pictures() as (site, asked):
        image = f'<img src="{site}/0.png" alt="x">'
        first, second = html("http://a.test/", image), html("http://b.test/", image, [
            ("X-Robots-Tag", "noai")])  # fmt: skip
        (folder / "1.warc.gz").write_bytes(make_warc([first]))
        (folder / "2.warc.gz").write_bytes(make_warc([second]))
        run_ingest(folder, tmp_path / "out")
        assert asked == []
    assert sorted(row["status"] for row in rows_of(tmp_path / "out")) == [
        "opted_out", "repeated_row",
    ]  # fmt: skip


def test_one_file_by_name_gives_the_same_as_its_folder(tmp_path: Path) -> None:
    (tmp_path / "crawl").mkdir()
    path = tmp_path / "crawl/a.warc.gz"
    with serve_pictures() as (site, _):
        path.write_bytes(make_warc([html("http://a.test/", f"<img src={site}/0.png alt=x>")]))
        for number, source in enumerate((path, path.parent)):
            run_ingest(source, tmp_path / f"out{number}")
    tables = [rows_of(tmp_path / f"out{number}") for number in range(2)]
    assert tables[0] == tables[1] and len(tables[0]) == 1


def test_files_without_links_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.warc.gz").write_bytes(make_warc([html("http://a.test/", "<p>text")]))
    with pytest.raises(DataError, match="must hold <img> links with alt text, got none in 1 file"):
        run_ingest(tmp_path, tmp_path / "out")


def test_a_compressed_tar_of_crawls_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.wet.gz").write_bytes(b"x")
    with pytest.raises(DataError, match=r"input: must be a folder, .*\.warc\.gz"):
        make_source(IngestConfig(source=str(tmp_path / "a.wet.gz")))
