"""Turn a URL as pages write it into the one that is fetched, or say why none can be.

As browsers do: space around it is dropped, tabs and line breaks inside it too, an international
host becomes its ASCII form, other characters are percent-encoded, what is encoded already stays,
the fragment goes. The row keeps the URL as it was written; the key is over that.

Source: the URL Standard (url.spec.whatwg.org), sections 1.3 percent-encode sets, 3.3 IDNA, 4.4.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, urlsplit

import idna

MAX_URL_BYTES = 8000
"""Source: RFC 9110, 4.1, asks all to support at least 8000 octets."""

_REPLACEMENT = "\ufffd"  # stands for bytes that were no UTF-8
_AROUND = "".join(map(chr, range(0x21)))  # C0 controls and space
_BAD_HOST = re.compile(r"[\x00-\x20\x7f#%/<>?@\[\\\]^|]")
_IP6 = re.compile(r"\[[0-9A-Fa-f:.]+\]")
# ASCII that stays as it is, beside letters, digits and "_.-~": everything outside the sets.
_PATH_SAFE = "%!$&'()*+,/:;=@[]|\\"
_QUERY_SAFE = "%!$&()*+,/:;=@[]|\\?`{}^"
_USER_SAFE = "%!$&'()*+,:"


@dataclass(frozen=True, slots=True, kw_only=True)
class WebUrl:
    """Hold what is fetched, or the refusal.

    Args:
        url: ASCII; "" when it is refused.
        host: in lower case, ASCII.
        refusal: why it cannot be fetched; "" when it can.
    """

    url: str = ""
    host: str = ""
    refusal: str = ""


def read_web_url(text: str) -> WebUrl:
    """Give the URL to fetch; only http and https with a host are."""
    stripped = text.strip(_AROUND)
    if not stripped:
        return WebUrl(refusal="must be given, got none")
    if _REPLACEMENT in stripped:
        return WebUrl(refusal="must be UTF-8, got other bytes")
    try:
        parts = urlsplit(stripped)  # drops tabs and line breaks, refuses broken brackets
        if parts.scheme not in ("http", "https"):
            return WebUrl(refusal=f"scheme must be http or https, got {parts.scheme or 'none'}")
        host = _ascii_host(parts)
        url = f"{parts.scheme}://{_authority(parts, host)}{_target(parts)}"
    except ValueError as error:
        return WebUrl(refusal=str(error).splitlines()[0])
    if len(url) > MAX_URL_BYTES:
        return WebUrl(refusal=f"must have at most {MAX_URL_BYTES} bytes, got {len(url)}")
    return WebUrl(url=url, host=host.strip("[]"))


def _ascii_host(parts: SplitResult) -> str:
    """Give the host in ASCII; ValueError when it is none."""
    host = parts.netloc.rpartition("@")[2]
    if _IP6.fullmatch(host.partition("]")[0] + "]"):
        return f"[{parts.hostname}]"
    host = parts.hostname or ""
    if not host.strip("."):
        raise ValueError("host must be given")
    if not host.isascii():
        host = _idna(host)
    if _BAD_HOST.search(host):
        raise ValueError(f"host must be a name or an address, got {host[:80]!r}")
    return host


def _idna(host: str) -> str:
    try:
        return idna.encode(host, uts46=True).decode()
    except idna.IDNAError:  # e.g. emoji, which browsers and IDNA 2003 allow
        return host.encode("idna").decode()


def _authority(parts: SplitResult, host: str) -> str:
    user = parts.netloc.rpartition("@")[0]
    port = parts.port  # ValueError beyond 65535
    prefix = f"{quote(user, safe=_USER_SAFE)}@" if user else ""
    return f"{prefix}{host}{'' if port is None else f':{port}'}"


def _target(parts: SplitResult) -> str:
    path = quote(parts.path.replace("\\", "/"), safe=_PATH_SAFE) or "/"
    return f"{path}?{quote(parts.query, safe=_QUERY_SAFE)}" if parts.query else path
