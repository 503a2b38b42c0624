"""Read a web page's HTML: text -> the tags that matter -> their attributes (lexbor) -> Page.

Which address an `<img>` has:
    src                         where it is one, as LAION took it
    data-src, data-original, data-lazy-src, data-lazy
                                where src is empty or a `data:` placeholder and a script loads it
    the largest of srcset, data-srcset
                                where there is nothing else
One address for one `<img>`: the other sizes in its srcset show the same picture under the same
alt text, and the `<source>` elements of a `<picture>` have no alt text but its `<img>`'s. What
`<noscript>` holds counts: lazy pages put the plain `<img>` there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from selectolax.lexbor import LexborHTMLParser

from curate.sources.config import IngestConfig
from curate.sources.crawls.html_tags import flatten_page
from curate.sources.crawls.page import Page, PageImage, find_license, find_page_opt_out, join_url

_LAZY = ("data-src", "data-original", "data-lazy-src", "data-lazy")
_NO_ADDRESS = ("data:", "about:", "blob:", "javascript:")
# Source: HTML Standard 4.8.4.3.10, srcset: addresses may hold commas, but not before a space.
_BETWEEN = re.compile(r",(?=\s)|,$|(?<=\d[wx]),")
_SIZE = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)[wx]")


def read_html(
    text: str,
    url: str,
    headers: Iterable[tuple[str, str]],
    config: IngestConfig,
    now: datetime,
) -> Page:
    """Read a page.

    Args:
        text: its HTML.
        url: its own address.
        headers: of the answer it came in, name and value.
        config: what opts a page out.
        now: when it was crawled.
    """
    flat = flatten_page(text)
    if not flat:
        return Page(url=url, base=url, images=[])
    tree = LexborHTMLParser(flat)
    metas = [
        (_attribute(node, "name"), _attribute(node, "content")) for node in tree.css("meta[name]")
    ]
    links = [(_attribute(node, "rel"), _attribute(node, "href")) for node in tree.css("link[href]")]
    return Page(
        url=url,
        base=_base(tree, url),
        images=list(_images(tree)),
        license=find_license(links),
        opt_out=find_page_opt_out(headers, metas, config, now),
    )


def _base(tree: Any, url: str) -> str:
    node = tree.css_first("base[href]")  # Source: HTML Standard 4.2.3: the first one counts
    return join_url(url, _attribute(node, "href")) if node else url


def _images(tree: Any) -> Iterator[PageImage]:
    for node in tree.css("img"):
        src = _address(node.attributes)
        if src:
            yield PageImage(src=src, alt=_attribute(node, "alt"))


def _address(attributes: dict[str, str | None]) -> str:
    """Choose the one address of an `<img>`."""
    for name in ("src", *_LAZY):
        value = (attributes.get(name) or "").strip()
        if value and not value.lower().startswith(_NO_ADDRESS):
            return value
    for name in ("srcset", "data-srcset"):
        found = largest_candidate(attributes.get(name) or "")
        if found and not found.lower().startswith(_NO_ADDRESS):
            return found
    return ""


def largest_candidate(srcset: str) -> str:
    """Give the address in a srcset with the largest width or density, the first of equals."""
    best, best_size = "", 0.0
    for candidate in _BETWEEN.split(srcset):
        address, *descriptors = candidate.strip(",").split() or [""]
        stated = _SIZE.fullmatch(descriptors[0]) if descriptors else None
        size = float(stated[1]) if stated else 1.0
        if address and size > best_size:
            best, best_size = address, size
    return best


def _attribute(node: Any, name: str) -> str:
    return node.attributes.get(name) or ""
