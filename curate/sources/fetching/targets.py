"""Read a URL the way it will be requested, and refuse what must not be requested.

One parser (yarl's) for the check and for the request: two parsers that disagree about a host are
how filters are tricked. The same check holds for every redirect and every robots.txt.

Policy: http and https; a step from https down to http is followed, since most tables are full of
http anyway and no credentials travel; any port but those of other protocols; no credentials.
"""

from __future__ import annotations

import re

from yarl import URL

from curate.core.errors import SampleError
from curate.sources.fetching.addresses import kind_of_address, kind_of_name, literal_address

MAX_URL_CHARS = 8000
"""Source: RFC 9110, section 4.1: recipients should take at least 8000 octets."""
_MAX_HOST_CHARS = 253  # Source: RFC 1035, section 2.3.4, without the final dot
_NUMBER = re.compile(r"\d+|0[xX][0-9a-fA-F]*")
_HOST = re.compile(r"[a-z0-9_.-]+|[0-9a-f.]*:[0-9a-f:.]*(%[\w.%-]+)?")

BAD_PORTS = frozenset(
    (
        0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95,
        101, 102, 103, 104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179,
        389, 427, 465, 512, 513, 514, 515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601,
        636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566,
        6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
    )
)  # fmt: skip
"""Source: WHATWG Fetch, section 2.9 "Port blocking"; browsers refuse the same."""


def parse_target(text: str, *, allow_private: bool) -> URL:
    """Turn text into the URL that is requested: encoded, without fragment, address canonical.

    Args:
        text: as a table or a Location header has it.
        allow_private: let addresses and names inside networks pass.

    Raises:
        SampleError: "bad_url", "bad_port" or "private_address".
    """
    return check_target(_parse(text), allow_private=allow_private)


def parse_redirect(base: URL, location: str, *, allow_private: bool) -> URL:
    """Turn a Location header into the URL that is requested next.

    Raises:
        SampleError: "bad_redirect" or "private_address".
    """
    try:
        joined = base.join(_parse(location, is_whole=False))
        return check_target(joined, allow_private=allow_private)
    except SampleError as error:
        status = error.status if error.status == "private_address" else "bad_redirect"
        raise SampleError(status, f"redirects to: {error.detail}") from error


def check_target(url: URL, *, allow_private: bool) -> URL:
    """Check a parsed URL's scheme, host, port and credentials.

    Raises:
        SampleError: "bad_url", "bad_port" or "private_address".
    """
    if url.scheme not in ("http", "https"):
        raise SampleError("bad_url", f"scheme must be http or https, got {url.scheme or 'none'}")
    host = (url.raw_host or "").lower()
    if not _HOST.fullmatch(host) or not host.strip(".") or len(host.rstrip(".")) > _MAX_HOST_CHARS:
        raise SampleError("bad_url", "host must be a name or an address")
    if url.raw_user is not None or url.raw_password is not None:
        raise SampleError("bad_url", "credentials must not be part of a URL")
    address = literal_address(host)
    if address is None and (":" in host or _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2])):
        raise SampleError("bad_url", "host must be a name or an address, got a broken address")
    kind = kind_of_address(address) if address else kind_of_name(host)
    if kind and not allow_private:
        what = "address" if address else "host"
        raise SampleError("private_address", f"{kind} {what}")
    if url.port in BAD_PORTS:
        raise SampleError("bad_port", f"port {url.port} belongs to another protocol")
    return (url.with_host(str(address)) if address else url).with_fragment(None)


def _parse(text: str, *, is_whole: bool = True) -> URL:
    text = text.strip()
    if not text or len(text) > MAX_URL_CHARS:
        raise SampleError("bad_url", f"URL must have 1 to {MAX_URL_CHARS} characters")
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise SampleError("bad_url", "URL must not have control characters")
    try:
        url = URL(text)
        _ = url.port, url.raw_host  # yarl checks them when they are asked for
    except ValueError as error:
        raise SampleError("bad_url", str(error).splitlines()[0]) from error
    if is_whole and not url.scheme:
        raise SampleError("bad_url", "scheme must be http or https, got none")
    return url
