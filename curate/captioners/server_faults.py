"""Name the ways in which asking a chat server fails: of one request or of all, and whether again.

status, transport error or answer -> ServerFault: what was seen, how often it is worth trying
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, cast

import aiohttp
from aiohttp import http_exceptions

ALWAYS = 1_000_000  # tries, cut by the user's own limit
# Chosen by us: a second try tells a busy server from a picture that takes too long, and each costs
# `timeout_s`; likewise for an answer that is no JSON, which may be a proxy's page.
TWICE = 2

# Statuses that say the same to any request: fix the key, the bill, the name or the address.
_OF_SERVER = frozenset((401, 402, 404, 405, 407))
# Worth trying again, and when it stays so it is no request's fault. Source: RFC 6585 section 4 and
# RFC 9110 section 15.6.4: both may come with Retry-After.
_BUSY = frozenset((429, 503))
_TRIED_AGAIN = frozenset((408, 409, 425))  # as the openai client has it, with all of 5xx

_MAX_SAID = 200  # characters of an error page that are kept; chosen by us


class ServerFault(Exception):
    """Say how a try failed.

    Args:
        said: what was seen, printable.
        max_tries: how often such a request is worth trying.
        of_server: any other request would fail likewise.
        retry_after_s: what the server asked to wait; None if it did not.
    """

    def __init__(
        self,
        said: str,
        *,
        max_tries: int = 1,
        of_server: bool = False,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(said)
        self.said = said
        self.max_tries = max_tries
        self.of_server = of_server
        self.retry_after_s = retry_after_s


def fault_of_status(status: int, headers: Mapping[str, str], body: bytes) -> ServerFault:
    """Name an answer that is not 200.

    Args:
        status: of HTTP.
        headers: of the answer.
        body: its beginning.
    """
    if 300 <= status < 400:
        said = f"HTTP {status}, a redirect, which is not followed"
        return ServerFault(said, of_server=True)
    message = excerpt(_read_message(body))
    said = f"HTTP {status}: {message}" if message else f"HTTP {status}"
    is_busy = status in _BUSY
    is_tried_again = is_busy or status >= 500 or status in _TRIED_AGAIN
    return ServerFault(
        said,
        max_tries=ALWAYS if is_tried_again else 1,
        of_server=is_busy or status in _OF_SERVER,
        retry_after_s=read_retry_after(headers) if is_busy else None,
    )


def fault_of_transport(error: Exception, timeout_s: float) -> ServerFault:
    """Name a failure of the network; see `TRANSPORT_FAULTS`."""
    match error:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientSSLError() | ssl.SSLError():
            return ServerFault("no trusted TLS connection", of_server=True)
        case aiohttp.ClientConnectorError(os_error=cause):
            said = f"no connection ({cause.strerror or type(cause).__name__})"
            return ServerFault(said, max_tries=ALWAYS, of_server=True)
        case aiohttp.ConnectionTimeoutError():
            return ServerFault("no connection in time", max_tries=ALWAYS, of_server=True)
        case TimeoutError():
            return ServerFault(f"no whole answer within {timeout_s:g} s", max_tries=TWICE)
        case aiohttp.ClientPayloadError():
            return ServerFault("half an answer", max_tries=ALWAYS)
        case aiohttp.ClientResponseError() | http_exceptions.HttpProcessingError():
            return ServerFault("no proper HTTP", max_tries=TWICE)
        case _:
            return ServerFault("connection closed without an answer", max_tries=ALWAYS)


TRANSPORT_FAULTS = (
    aiohttp.ClientError,
    TimeoutError,
    ssl.SSLError,
    ConnectionError,
    http_exceptions.HttpProcessingError,
)


def read_retry_after(headers: Mapping[str, str]) -> float | None:
    """Read how long to wait, in seconds; None if nothing sensible is said.

    A date is held against the answer's own `Date`, so that clocks need not agree.

    Source: RFC 9110, section 10.2.3.
    """
    said = headers.get("Retry-After", "").strip()
    if said.isascii() and said.isdigit():
        return float(said[:9])
    try:
        then, now = parsedate_to_datetime(said), parsedate_to_datetime(headers.get("Date", ""))
        return max(0.0, (then - now).total_seconds())
    except (TypeError, ValueError, OverflowError):
        return None


def excerpt(text: str, max_chars: int = _MAX_SAID) -> str:
    """Fold white space, leave out what is not printable, cut."""
    folded = " ".join(text[: 8 * max_chars].split())
    return "".join(letter for letter in folded if letter.isprintable())[:max_chars]


def _read_message(body: bytes) -> str:
    """Find the message in an error's body: {"error": {"message"}}, {"detail"}, or the page."""
    text = body.decode("utf-8", "replace")
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        return text
    for name in ("error", "detail", "message"):
        if isinstance(found, dict) and name in found:
            found = cast("dict[str, Any]", found)[name]
    if isinstance(found, dict) and "message" in found:
        found = cast("dict[str, Any]", found)["message"]
    return found if isinstance(found, str) else text
