"""Learn once per origin what its robots.txt and tdmrep.json say, and remember it.

origin (scheme, host, port) -> cache | /robots.txt -> /.well-known/tdmrep.json -> OriginRules
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass

from yarl import URL

from curate.core.errors import SampleError
from curate.sources.fetching.exchange import Clock, Exchange
from curate.sources.fetching.fetch_config import FetchConfig
from curate.sources.fetching.hosts import GiveUp, Turns
from curate.sources.fetching.recent import Recent
from curate.sources.fetching.robots import (
    CACHE_S,
    CLOSED_CACHE_S,
    MAX_ROBOTS_BYTES,
    MAX_ROBOTS_REDIRECTS,
    RobotsRules,
    TdmRules,
    closes_host,
    parse_robots,
    parse_tdm,
)
from curate.sources.fetching.targets import parse_redirect
from curate.sources.statuses import is_retried

REDIRECTS = frozenset((301, 302, 303, 307, 308))  # Source: RFC 9110, section 15.4
MOST_BYTES = 2**23
"""Of files whose rules are remembered; chosen by us: parsed they take 13 times as much, at worst
60 times (measured)."""
_LEAST_BYTES = 2**9  # chosen by us: what an origin without files counts as
_OWN_FAILURES = frozenset(("dns", "dns_busy", "connect", "tls", "private_address"))
"""Failures on the way to robots.txt that the picture would meet too; they keep their name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginRules:
    """Hold what holds for one origin.

    Args:
        robots: its robots.txt.
        tdm: its tdmrep.json.
        failure: why nothing of it may be fetched; None when something may.
        expires_s: monotonic time at which this is too old.
    """

    robots: RobotsRules
    tdm: TdmRules
    failure: GiveUp | None
    expires_s: float

    def check(self, url: URL) -> None:
        """Check that a URL may be fetched.

        Raises:
            GiveUp: the whole origin may not.
            SampleError: "robots".
        """
        if self.failure:
            raise GiveUp(self.failure.status, self.failure.detail)
        if not self.robots.allows(str(url)):
            raise SampleError("robots", "robots.txt disallows the path")


class Origins:
    """Give the rules of origins; each is asked once, however many rows wait for it.

    Args:
        exchange: makes the requests.
        turns: requests for rules take turns as those for pictures do.
        known: rules so far; grows, and outlives this object.
        config: which rules are respected.
    """

    def __init__(
        self,
        exchange: Exchange,
        turns: Turns,
        known: Recent[URL, OriginRules],
        config: FetchConfig,
    ) -> None:
        self._exchange, self._turns = exchange, turns
        self._known, self._config = known, config
        self._asked: dict[URL, asyncio.Task[OriginRules]] = {}

    async def rules(self, url: URL) -> OriginRules:
        """Give the rules of a URL's origin."""
        origin = url.origin()
        known = self._known.get(origin)
        if known is not None and known.expires_s > time.monotonic():
            return known
        asked = self._asked.get(origin)
        if asked is None:
            asked = self._asked[origin] = asyncio.create_task(self._learn(origin))
            asked.add_done_callback(lambda _: self._asked.pop(origin))
        return await asyncio.shield(asked)  # one row that leaves must not end it for the others

    async def _learn(self, origin: URL) -> OriginRules:
        robots, failure = RobotsRules(None, self._config.user_agent), None
        if self._config.respect_robots:
            try:
                robots = await self._learn_robots(origin)
            except SampleError as error:
                failure = _closed_by(error)
        tdm = TdmRules()
        path = origin / ".well-known" / "tdmrep.json"
        if self._config.respect_tdm and not failure and robots.allows(str(path)):
            with contextlib.suppress(SampleError):  # without a file nothing is reserved by it
                tdm = parse_tdm(await self._get(path, robots.delay_s))
        expires_s = time.monotonic() + (CLOSED_CACHE_S if failure else CACHE_S)
        rules = OriginRules(robots=robots, tdm=tdm, failure=failure, expires_s=expires_s)
        self._known.put(origin, rules, _LEAST_BYTES + robots.num_bytes + tdm.num_bytes)
        return rules

    async def _learn_robots(self, origin: URL) -> RobotsRules:
        for attempt in range(self._config.retries + 1):
            try:
                body = await self._get(origin / "robots.txt")
                return parse_robots(body, self._config.user_agent)
            except GiveUp:
                raise
            except SampleError as error:
                if attempt == self._config.retries or not is_retried(error.status):
                    raise
            await asyncio.sleep(self._config.backoff_s * 2**attempt)
        raise AssertionError("the last attempt returns or raises")

    async def _get(self, url: URL, delay_s: float = 0.0) -> bytes:
        """Get the start of a small file; empty when there is none.

        Raises:
            SampleError: the host could not be asked, or has a fault.
        """
        clock = Clock(self._config.deadline_s)
        for _ in range(MAX_ROBOTS_REDIRECTS + 1):
            host = url.host or ""
            async with self._turns.turn(host, delay_s), self._exchange.ask(url, clock) as response:
                place = response.headers.get("Location")
                if response.status in REDIRECTS and place is not None:
                    url = parse_redirect(url, place, allow_private=self._config.allow_private)
                    continue
                if closes_host(response.status):
                    raise SampleError(f"http_{response.status}", f"HTTP {response.status}")
                if response.status != 200:
                    return b""
                return await self._exchange.read_start(response, MAX_ROBOTS_BYTES)
        return b""


def _closed_by(error: SampleError) -> GiveUp:
    """Name why an origin is closed: the way there is broken, or its robots.txt is."""
    if error.status in _OWN_FAILURES:
        return GiveUp(error.status, error.detail)
    return GiveUp("robots_unreachable", f"robots.txt: {error.detail}")
