"""Read a page from a WAT record, Common Crawl's JSON extract of it.

    Envelope
      WARC-Header-Metadata    WARC-Target-URI, WARC-Date
      Payload-Metadata
        HTTP-Response-Metadata
          Headers             name -> value, or a list of values
          HTML-Metadata
            Head              Base, Metas: [{name, content}], Link: [{path, url, rel}]
            Links             [{path: "IMG@/src", url, alt}, {path: "A@/href", url, rel}, ...]

As cc2dataset reads it for LAION: links of path `IMG@/src`, relative to Base. Entities are decoded
in WAT files since August 2019; older ones keep theirs, as they did in LAION-400M.
Source: commoncrawl/ia-web-commons, ExtractingParseObserver.java and ResourceConstants.java.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from curate.sources.config import IngestConfig
from curate.sources.crawls.page import (
    LICENCE_HOST,
    Page,
    PageImage,
    find_license,
    find_page_opt_out,
    join_url,
)

HAS_IMAGE = b"IMG@"  # the slash behind it is escaped by some JSON writers


def read_wat(data: bytes, config: IngestConfig, now: datetime) -> Page | None:
    """Read a page; None when the record is not about one.

    Args:
        data: the record's body.
        config: what opts a page out.
        now: when it was crawled.

    Raises:
        ValueError: the body is no JSON object.
    """
    try:
        envelope = _object(json.loads(data), "Envelope")
    except RecursionError as error:
        raise ValueError("JSON that is nested too deeply") from error
    answer = _object(envelope, "Payload-Metadata", "HTTP-Response-Metadata")
    html = _object(answer, "HTML-Metadata")
    url = _text(_object(envelope, "WARC-Header-Metadata"), "WARC-Target-URI")
    if not html or not url:
        return None
    head, links = _object(html, "Head"), list(_objects(html, "Links"))
    metas = [(_text(meta, "name"), _text(meta, "content")) for meta in _objects(head, "Metas")]
    marked = [*_objects(head, "Link"), *(link for link in links if _may_be_licence(link))]
    base = _text(head, "Base")
    return Page(
        url=url,
        base=join_url(url, base) if base else url,
        images=[
            PageImage(src=_text(link, "url"), alt=_text(link, "alt"))
            for link in links
            if link.get("path") == "IMG@/src" and _text(link, "url").strip()
        ],
        license=find_license((_text(link, "rel"), _text(link, "url")) for link in marked),
        opt_out=find_page_opt_out(_headers(_object(answer, "Headers")), metas, config, now),
    )


def _may_be_licence(link: dict[str, Any]) -> bool:
    return link.get("path") == "A@/href" and ("rel" in link or LICENCE_HOST in _text(link, "url"))


def _headers(headers: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in headers.items():
        for item in value if isinstance(value, list) else [value]:
            yield name, _clean(str(item))


def _object(value: Any, *path: str) -> dict[str, Any]:
    """Follow a path of objects; what is missing or no object is empty."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def _objects(value: dict[str, Any], name: str) -> Iterator[dict[str, Any]]:
    items = value.get(name)
    for item in items if isinstance(items, list) else ():
        if isinstance(item, dict):
            yield item


def _text(value: dict[str, Any], name: str) -> str:
    text = value.get(name)
    return _clean(text) if isinstance(text, str) else ""


def _clean(text: str) -> str:
    r"""Replace halves of surrogate pairs (`"\ud83d"`), which JSON can spell and UTF-8 cannot."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
