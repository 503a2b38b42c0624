"""Name every way in which a row can fail before it is a picture, and whether to try it again.

One table for sources, fetchers and checks, so that reports can explain a status and a later run
knows which rows are worth fetching again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Again = Literal["now", "later", "never"]
"""When a failed URL is tried again: within the run, by a later run, or not at all."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Explain a status in one sentence."""

    sentence: str
    again: Again = "never"


FAILURES: Mapping[str, Failure] = {
    # the row itself
    "bad_row": Failure("The table's line is broken."),
    "bad_url": Failure("The URL cannot be read, has no host, or is not http or https."),
    "bad_port": Failure("The URL names a port that belongs to another protocol."),
    "repeated_row": Failure("An earlier row has the same URL and caption."),
    "repeated_file": Failure("An earlier file has the same bytes."),
    "no_picture": Failure("The sample has no member with a picture's extension."),
    "repeated_member": Failure("An earlier member of the tar has the same key and extension."),
    "unsafe_name": Failure("The member's name leads out of its folder."),
    "cut_file": Failure("The WARC or WAT file ends inside a record."),
    "bad_record": Failure("A stretch of the WARC or WAT file is damaged or malformed."),
    "large_page": Failure("A page of the WARC or WAT file is too long and was read in part."),
    "not_fetched": Failure("The row was never asked for.", "later"),
    "lost": Failure("The fetcher reported nothing about the row.", "later"),
    # where it may not go
    "private_address": Failure("The host, or one it redirects to, has no public address."),
    "robots": Failure("The host's robots.txt disallows the path."),
    "robots_unreachable": Failure(
        "The host's robots.txt could not be read, which closes the host (RFC 9309).", "later"
    ),
    "opted_out": Failure(
        "The answer's headers, the host's tdmrep.json or its page reserve the picture."
    ),
    # the way there
    "dns": Failure("The host's name does not resolve.", "later"),
    "dns_busy": Failure("The resolver gave no answer for the host's name.", "now"),
    "connect": Failure("No connection, or the host closed it before an answer.", "now"),
    "tls": Failure("The TLS handshake failed or the certificate is not valid.", "later"),
    "timeout": Failure("The host was silent for longer than ingest.timeout_s.", "now"),
    "deadline": Failure("The download took longer than ingest.deadline_s in all.", "later"),
    "host_down": Failure("Earlier rows of this host failed, so it was not asked again.", "later"),
    # what it answers
    "bad_response": Failure("The answer is no proper HTTP, or its headers are too long.", "later"),
    "redirect_loop": Failure("The redirects come back to a URL, or are too many."),
    "bad_redirect": Failure("The answer redirects to nowhere, or to what is no http URL."),
    "http_401": Failure("The host wants a login (HTTP 401)."),
    "http_403": Failure("The host forbids the URL (HTTP 403)."),
    "http_404": Failure("There is nothing at the URL (HTTP 404)."),
    "http_408": Failure("The host waited too long for our request (HTTP 408).", "now"),
    "http_410": Failure("The picture is gone for good (HTTP 410)."),
    "http_425": Failure("The host asks to come again (HTTP 425).", "now"),
    "http_429": Failure("The host asks for fewer requests (HTTP 429).", "now"),
    "http_451": Failure("The picture is withheld for legal reasons (HTTP 451)."),
    "http_2xx": Failure("The host succeeded without sending a whole body (HTTP 2xx)."),
    "http_3xx": Failure("The host answers with a redirect code that names no place (HTTP 3xx)."),
    "http_4xx": Failure("The host refuses the request (HTTP 4xx)."),
    "http_5xx": Failure("The host has a fault of its own (HTTP 5xx).", "now"),
    # the body
    "too_many_bytes": Failure("The body is larger than ingest.max_bytes."),
    "short_body": Failure("The connection ended before the body did.", "now"),
    "bad_encoding": Failure("The body's Content-Encoding is unknown or broken."),
    "download_failed": Failure("The fetcher failed in a way that has no name here.", "later"),
    "hash_mismatch": Failure("The bytes are not those whose hash the table states."),
    # the picture
    "empty": Failure("The body has no bytes."),
    "not_image": Failure("The bytes are no picture of a known format."),
    "unsupported_format": Failure("The picture's format is not one that shards hold."),
    "too_large": Failure("The picture has more pixels than ingest.max_pixels."),
    "too_many_frames": Failure("The animation has more frames than ingest.max_frames."),
    "truncated": Failure("The picture's data ends early or is damaged."),
    # afterwards
    "taken_down": Failure("The sample was taken out of the run on request."),
}
"""Status -> what it means; statuses "http_NNN" that are not listed fall to their "http_Nxx"."""

_HTTP = re.compile(r"http_([2-5])\d\d")


def failure_of(status: str) -> Failure | None:
    """Look a status up; None when the table does not know it ("ok", another stage's reason)."""
    family = _HTTP.fullmatch(status)
    return FAILURES.get(status) or (FAILURES[f"http_{family[1]}xx"] if family else None)


def is_transient(status: str) -> bool:
    """Say whether a later run may get what this one did not."""
    failure = failure_of(status)
    return failure is not None and failure.again != "never"


def is_retried(status: str) -> bool:
    """Say whether the same run tries again (`ingest.retries`)."""
    failure = failure_of(status)
    return failure is not None and failure.again == "now"
