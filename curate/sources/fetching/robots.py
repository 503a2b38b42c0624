"""Decide by robots.txt (RFC 9309) and tdmrep.json what of a host may be fetched.

answer to /robots.txt            -> RobotsRules (protego parses; the longest match wins)
answer to /.well-known/tdmrep.json -> TdmRules  (the same matching)
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from protego import Protego

MAX_ROBOTS_BYTES = 500 * 1024
"""Source: RFC 9309, section 2.5: at least 500 KiB must be parsed; the rest is left out."""
MAX_ROBOTS_REDIRECTS = 5  # Source: RFC 9309, section 2.3.1.2
CACHE_S = 24 * 3600.0  # Source: RFC 9309, section 2.4: no longer than 24 hours
CLOSED_CACHE_S = 300.0
"""How long a robots.txt that could not be read closes its host; chosen by us."""


@dataclass(frozen=True, slots=True)
class RobotsRules:
    """Hold what one robots.txt says to us.

    Args:
        rules: parsed; None when there is no file and all is allowed.
        agent: our product token.
        num_bytes: of the file.
    """

    rules: Protego | None
    agent: str
    num_bytes: int = 0

    def allows(self, url: str) -> bool:
        return self.rules is None or self.rules.can_fetch(url, self.agent)

    @property
    def delay_s(self) -> float:
        """Give the Crawl-delay in seconds; no part of the RFC, but hosts rely on it."""
        delay = self.rules.crawl_delay(self.agent) if self.rules else None
        return max(0.0, delay or 0.0)


def parse_robots(body: bytes, agent: str) -> RobotsRules:
    """Parse a robots.txt; what cannot be read allows all, as an empty file does."""
    text = body[:MAX_ROBOTS_BYTES].decode("utf-8-sig", errors="replace")
    return RobotsRules(Protego.parse(text), agent, len(body))


def closes_host(status: int) -> bool:
    """Say whether an answer to /robots.txt closes the host.

    Source: RFC 9309, section 2.3.1.4 for 5xx. 429 too, which the RFC counts as "no file": a host
    that asks for fewer requests does not mean "take all" (Google reads it so as well).
    """
    return status >= 500 or status == 429


@dataclass(frozen=True, slots=True)
class TdmRules:
    """Hold the reservations of one tdmrep.json.

    Args:
        rules: pairs of path pattern and whether what fits is reserved.
        num_bytes: of the file.
    """

    rules: Sequence[tuple[str, bool]] = ()
    num_bytes: int = 0

    def reserves(self, path: str) -> bool:
        """Say whether the longest pattern that fits a path reserves it; a tie is a reservation."""
        fitting = [
            (len(pattern), reserved) for pattern, reserved in self.rules if _fits(pattern, path)
        ]
        return max(fitting, default=(0, False))[1]


def parse_tdm(body: bytes) -> TdmRules:
    """Parse a tdmrep.json; what is no list of rules reserves nothing.

    Source: TDM Reservation Protocol, W3C Community Group final report of 10 May 2024, "TDM File on
    the Origin Server". That the longest pattern wins is chosen by us, after RFC 9309.
    """
    try:
        found: Any = json.loads(body)
    except (ValueError, RecursionError):
        return TdmRules()
    rules = [rule for rule in found if isinstance(rule, dict)] if isinstance(found, list) else []
    return TdmRules(
        tuple(
            (str(rule["location"]), str(rule.get("tdm-reservation")) == "1")
            for rule in rules
            if isinstance(rule.get("location"), str)
        ),
        len(body),
    )


def _fits(pattern: str, path: str) -> bool:
    """Match a path from its start; `*` stands for anything, a final `$` for the path's end.

    Without regular expressions: the pattern is a stranger's and must not cost more than its length.
    """
    first, *rest = pattern.removesuffix("$").split("*")
    last = rest.pop() if pattern.endswith("$") and rest else None
    if not path.startswith(first):
        return False
    position = len(first)
    for piece in rest:
        found = path.find(piece, position)
        if found < 0:
            return False
        position = found + len(piece)
    if last is not None:
        return path.endswith(last) and len(path) - len(last) >= position
    return not pattern.endswith("$") or position == len(path)
