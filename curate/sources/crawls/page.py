"""Say what is wanted of a web page: its pictures with their alt texts, its licence, its opt-out.

Read from HTML by `html_page.py` and from Common Crawl's WAT records by `wat_page.py`.

A page opts its pictures out by what opts out a picture that is served with the same words:
X-Robots-Tag headers, `<meta name="robots">` (or our own agent's name), a TDM reservation as header
or as `<meta name="tdm-reservation">`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urljoin, urlsplit, urlunsplit

from curate.sources.config import IngestConfig
from curate.sources.fetching.consent import find_opt_out, tdm_reserved

_AROUND = "".join(map(chr, range(0x21)))  # C0 controls and space
_DROPPED = {ord(character): None for character in "\t\r\n"}
LICENCE_HOST = "creativecommons.org/"  # licences and publicdomain/zero alike


@dataclass(frozen=True, slots=True, kw_only=True)
class PageImage:
    """Hold one `<img>`: its address as the page writes it, and its alt text."""

    src: str
    alt: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Hold a page.

    Args:
        url: the page's own.
        base: what relative addresses are relative to.
        images: in the order of the page; those without an address are left out.
        license: URL of the licence that the page links to, as it is written; "" for none.
        opt_out: the words that reserve its pictures; "" for none.
    """

    url: str
    base: str
    images: Sequence[PageImage]
    license: str = ""
    opt_out: str = ""


def find_page_opt_out(
    headers: Iterable[tuple[str, str]],
    metas: Iterable[tuple[str, str]],
    config: IngestConfig,
    now: datetime,
) -> str:
    """Find the words by which a page opts out; "" when there are none.

    Args:
        headers: of the answer, name and value.
        metas: name and content of its meta elements.
        config: which directives count, our agent's name, whether TDM reservations count.
        now: when the page was crawled, for `unavailable_after`.
    """
    own = config.user_agent.lower()
    said: dict[str, list[str]] = {"x-robots-tag": [], "robots": [], "tdm-reservation": []}
    for name, value in [*headers, *metas]:
        name = "robots" if name.lower() == own else name.lower()
        if name in said:
            said[name].append(value)
    disallowed = frozenset(name.lower() for name in config.disallowed_directives)
    tags = [*said["x-robots-tag"], *said["robots"]]
    found = find_opt_out(tags, disallowed, own, now)
    if not found and config.respect_tdm and tdm_reserved(said["tdm-reservation"], by_file=False):
        return "tdm-reservation"
    return found


def find_license(links: Iterable[tuple[str, str]]) -> str:
    """Choose the page's licence: what `rel=license` marks, else a Creative Commons link.

    Args:
        links: rel and href of its `<link>` and `<a>` elements.
    """
    other = ""
    for rel, href in links:
        if "license" in rel.lower().split():
            return href
        if (
            not other
            and LICENCE_HOST in href
            and ("/licenses/" in href or "/publicdomain/" in href)
        ):
            other = href
    return other


def join_url(base: str, address: str) -> str:
    """Make an address absolute as browsers do; "" when it cannot be.

    Source: URL Standard 4.4: backslashes are slashes before the query, dot segments are resolved.
    """
    path, mark, query = address.translate(_DROPPED).strip(_AROUND).partition("?")
    path = path.replace("\\", "/")
    try:
        joined = path + mark + query
        if not joined.startswith(("https://", "http://")):
            joined = urljoin(base, joined)
        if "/." not in joined:
            return joined  # whether it is a URL at all is asked by `read_web_url`
        parts = urlsplit(joined)
        if "/." in parts.path and not parts.path.startswith("//"):
            resolved = urlsplit(urljoin(f"{parts.scheme}://{parts.netloc}", parts.path))
            parts = parts._replace(path=resolved.path)
        return urlunsplit(parts)
    except ValueError:
        return ""
