"""Read the pages of a WARC or WAT file: record -> warcio -> HTML or JSON -> Page.

Pages come from responses of status 2xx whose type is HTML, from resource records of HTML, and from
the JSON metadata records of WAT files. All other records (requests, pictures, redirects, warcinfo)
are passed over. What cannot be read is a `Loss` in its place.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, BinaryIO

from warcio.bufferedreaders import ChunkedDataReader
from warcio.exceptions import ArchiveLoadFailed
from warcio.recordloader import ArcWarcRecordLoader
from warcio.statusandheaders import StatusAndHeadersParserException

from curate.sources.config import IngestConfig
from curate.sources.crawls.charset import decode_page
from curate.sources.crawls.html_page import read_html
from curate.sources.crawls.page import Page
from curate.sources.crawls.warc_blocks import MAX_RECORD_BYTES, Block, Loss, LossStatus, read_blocks
from curate.sources.crawls.wat_page import HAS_IMAGE, read_wat

MAX_PAGE_BYTES = 8 << 20
"""Of HTML that is read, unpacked; chosen by us: Common Crawl cuts pages at 5 MiB."""

_PAGE_KINDS = ("response", "resource", "metadata")
_HTML = ("text/html", "application/xhtml+xml")
_HTML_STARTS = (b"<!doctype html", b"<html")  # Source: MIME Sniffing Standard 7.1, the usual ones
_UNKNOWN_ENCODINGS = ("br", "zstd", "compress")
# zlib, gzip by its header, raw deflate. Source: RFC 9110 section 8.4.1.2: some send it raw.
_DEFLATES = (zlib.MAX_WBITS | 32, -zlib.MAX_WBITS)
_BAD_HEADERS = (ArchiveLoadFailed, StatusAndHeadersParserException, EOFError)


def read_pages(stream: BinaryIO, config: IngestConfig) -> Iterator[Page | Loss]:
    """Yield the pages of a file in its order, and what could not be read.

    Args:
        stream: the file.
        config: what opts a page out.
    """
    loader = ArcWarcRecordLoader(verify_http=False, arc2warc=False)
    for block in read_blocks(stream):
        if isinstance(block, Loss):
            yield block
        elif block.kind in _PAGE_KINDS and (block.kind != "metadata" or HAS_IMAGE in block.data):
            yield from _read_block(loader, block, config)


def _read_block(loader: Any, block: Block, config: IngestConfig) -> Iterator[Page | Loss]:
    stream = io.BytesIO(block.data)
    try:
        record = loader.parse_record_stream(stream, known_format="warc", no_record_parse=True)
        url = record.rec_headers.get_header("WARC-Target-URI") or ""
        now = _parse_date(record.rec_headers.get_header("WARC-Date"))
        if block.kind == "metadata":
            yield from _read_wat(record, block, config, now)
            return
        answer = _read_answer(loader, record, is_http=block.kind == "response")
    except _BAD_HEADERS as error:
        yield _loss(block, "bad_record", " ".join(str(error).split()) or "no HTTP header")
        return
    if not answer.is_html:
        return
    if not url:
        yield _loss(block, "bad_record", "a page without WARC-Target-URI")
        return
    if answer.problem:
        yield _loss(block, "bad_record", f"{answer.problem} ({url})")
        return
    if block.is_short or len(answer.body) > MAX_PAGE_BYTES:
        yield _loss(block, "large_page", f"only its first {MAX_PAGE_BYTES} bytes are read ({url})")
    text = decode_page(answer.body[:MAX_PAGE_BYTES], answer.content_type)
    yield read_html(text, url, answer.headers, config, now)


def _read_wat(
    record: Any, block: Block, config: IngestConfig, now: datetime
) -> Iterator[Page | Loss]:
    if "json" not in (record.rec_headers.get_header("Content-Type") or ""):
        return
    if block.is_short:
        yield _loss(block, "large_page", f"its JSON has more than {MAX_RECORD_BYTES} bytes")
        return
    try:
        page = read_wat(record.raw_stream.read(), config, now)
    except ValueError as error:
        yield _loss(block, "bad_record", f"its JSON cannot be read: {error}")
        return
    if page:
        yield page


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """Hold an HTTP answer with an unpacked body of at most `MAX_PAGE_BYTES` + 1 bytes."""

    is_html: bool
    headers: list[tuple[str, str]]
    content_type: str
    body: bytes = b""
    problem: str = ""


def _read_answer(loader: Any, record: Any, *, is_http: bool) -> _Answer:
    """Read a record's answer; its body only when it is HTML."""
    stream, headers = record.raw_stream, list[tuple[str, str]]()
    if is_http:
        http = loader.http_parser.parse(stream)
        headers = [(str(name), str(value)) for name, value in http.headers]
        if not http.get_statuscode().startswith("2"):
            return _Answer(is_html=False, headers=headers, content_type="")
    said = {name.lower(): value for name, value in reversed(headers)}  # the first one counts
    own = record.rec_headers.get_header("Content-Type") or ""
    type_ = said.get("content-type", "") if is_http else own
    type_ = type_ or record.rec_headers.get_header("WARC-Identified-Payload-Type") or ""
    name = type_.partition(";")[0].strip().lower()
    if name and name not in _HTML:
        return _Answer(is_html=False, headers=headers, content_type=type_)
    if said.get("transfer-encoding", "").strip().lower() == "chunked":
        stream = ChunkedDataReader(stream)
    body, problem = _unpack(stream.read(MAX_RECORD_BYTES), said.get("content-encoding", ""))
    is_html = bool(name) or body[:512].lstrip().lower().startswith(_HTML_STARTS)
    return _Answer(is_html=is_html, headers=headers, content_type=type_, body=body, problem=problem)


def _unpack(body: bytes, encoding: str) -> tuple[bytes, str]:
    """Undo a Content-Encoding as far as a page is read; give what keeps it from being undone."""
    encoding = encoding.strip().lower().removeprefix("x-")
    if encoding in ("", "identity") or body.lstrip().startswith(b"<"):  # the archive has undone it
        return body[: MAX_PAGE_BYTES + 1], ""
    if encoding in _UNKNOWN_ENCODINGS:
        return b"", f"Content-Encoding {encoding} cannot be undone"
    for bits in _DEFLATES if encoding in ("gzip", "deflate") else ():
        try:
            return zlib.decompressobj(wbits=bits).decompress(body, MAX_PAGE_BYTES + 1), ""
        except zlib.error:
            continue
    damaged = encoding in ("gzip", "deflate")  # other words (utf-8) are no encodings, as browsers
    return body[: MAX_PAGE_BYTES + 1], f"damaged Content-Encoding {encoding}" if damaged else ""


def _parse_date(text: str | None) -> datetime:
    """Read a WARC-Date; without one all dates have passed, so that no opt-out is missed."""
    try:
        date = datetime.fromisoformat(text or "")
    except ValueError:
        return datetime.max.replace(tzinfo=UTC)
    return date.replace(tzinfo=date.tzinfo or UTC)


def _loss(block: Block, status: LossStatus, detail: str) -> Loss:
    return Loss(status=status, offset=block.offset, detail=detail)
