"""Read what an answer's headers say about use: X-Robots-Tag and the TDM reservation.

Both are read before the body, so that a picture whose owner says no is never transferred.

    X-Robots-Tag: [agent:] directive[, directive | agent: directive]...
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from email.utils import parsedate_to_datetime

UNAVAILABLE_AFTER = "unavailable_after"

_VALUED = frozenset((UNAVAILABLE_AFTER, "max-snippet", "max-image-preview", "max-video-preview"))
"""Directives that are followed by a colon themselves. Source: Google Search Central, "Robots meta
tag, data-nosnippet, and X-Robots-Tag specifications"."""
_MEANS = {"none": ("noindex", "nofollow")}  # Source: the same
_HEAD = re.compile(r"\s*(\*|[A-Za-z][\w./-]*)\s*:\s*(.*)", re.DOTALL)
_WEEKDAY = re.compile(r"(mon|tues?|wed(nes)?|thu(rs?)?|fri|sat(ur)?|sun)(day)?", re.IGNORECASE)
_HYPHENS = re.compile(r"(\d)-([A-Z]{3,9})-(\d)")
_ZONES = {"UTC": 0, "Z": 0, "CET": 1, "CEST": 2, "BST": 1, "JST": 9, "IST": 5.5, "AEST": 10}
"""Hours east of UTC of zones that RFC 822 does not name; chosen by us: common in such headers."""


def find_opt_out(tags: Iterable[str], disallowed: frozenset[str], agent: str, now: datetime) -> str:
    """Find the first directive that opts the picture out.

    Args:
        tags: values of all X-Robots-Tag headers.
        disallowed: lower-case directives that count as an opt-out.
        agent: our product token; directives addressed to other agents do not count.
        now: with time zone; what `unavailable_after` is compared with.

    Returns:
        The directive as it stands in the header, in lower case; "" when there is none.
    """
    for tag in tags:
        for addressee, directive in _directives(tag):
            if addressee not in ("", "*", agent.lower()):
                continue
            if not disallowed.isdisjoint((directive, *_MEANS.get(directive, ()))):
                return directive
            name, _, value = directive.partition(":")
            if name == UNAVAILABLE_AFTER and "noindex" in disallowed and _is_past(value, now):
                return directive
    return ""


def tdm_reserved(values: Iterable[str], by_file: bool) -> bool:
    """Say whether rights for text and data mining are reserved.

    Args:
        values: of all tdm-reservation headers; they override the file.
        by_file: what the host's tdmrep.json says of the path.

    Source: TDM Reservation Protocol, W3C Community Group final report of 10 May 2024.
    """
    stated = {value.strip() for value in values} & {"0", "1"}
    return "1" in stated if stated else by_file


def _directives(tag: str) -> Iterator[tuple[str, str]]:
    """Yield (addressed agent or "", directive) in lower case; an agent holds until the next one."""
    agent = ""
    for part in _join_dates(re.split("[,;]", tag)):
        rest = part
        while (head := _HEAD.fullmatch(rest)) and head[1].lower() not in _VALUED:
            agent, rest = head[1].lower(), head[2]
        if rest.strip():
            name, colon, value = rest.partition(":")
            yield agent, f"{name.strip()}{colon}{value.strip()}".lower()


def _join_dates(parts: list[str]) -> Iterator[str]:
    """Put dates together again that were split behind their weekday ("Fri, 25 Jun 2030")."""
    waiting = ""
    for part in parts:
        if waiting:
            yield f"{waiting},{part}"
            waiting = ""
        elif (
            _WEEKDAY.fullmatch(part.rpartition(":")[2].strip())
            and UNAVAILABLE_AFTER in part.lower()
        ):
            waiting = part
        else:
            yield part
    if waiting:
        yield waiting


def _is_past(text: str, now: datetime) -> bool:
    """Say whether a date has gone by; one that nobody can read counts as gone by."""
    date = _parse_date(text.strip())
    return date is None or date <= now


def _parse_date(text: str) -> datetime | None:
    """Read RFC 822, RFC 850 and ISO 8601 dates; a date without zone is taken as UTC."""
    body, _, zone = text.upper().rpartition(" ")
    offset = timezone(timedelta(hours=_ZONES[zone])) if body and zone in _ZONES else None
    plain = body if offset else text.upper()
    for read in (_parse_iso, _parse_mail):
        try:
            date = read(plain)
        except (ValueError, TypeError, OverflowError):
            continue
        return date.replace(tzinfo=date.tzinfo or offset or UTC)
    return None


def _parse_iso(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _parse_mail(text: str) -> datetime:
    spaced = _HYPHENS.sub(r"\1 \2 \3", text)  # RFC 850 writes 25-Jun-30
    return parsedate_to_datetime(spaced if ":" in spaced else f"{spaced} 00:00:00")
