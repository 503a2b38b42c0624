"""Build WARC and WAT files with warcio, as crawlers and Common Crawl write them, and read them."""

from __future__ import annotations

import hashlib
import io
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from curate.sources.config import IngestConfig
from curate.sources.crawls.page import Page
from curate.sources.crawls.warc_blocks import Loss
from curate.sources.crawls.warc_pages import read_pages
from curate.sources.crawls.web_links import write_links

CONFIG = IngestConfig()
DATE = "2026-05-01T12:00:00Z"


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


BODY = b"<html><img src=a.jpg alt=text></html>"


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
