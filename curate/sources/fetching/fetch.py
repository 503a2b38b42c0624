"""Fetch one URL: every hop checked, paced, asked for consent; the body read last; tried again.

text -> parse_target -> origin's rules -> turn -> headers -> consent -> redirect | body
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from aiohttp import ClientResponse
from yarl import URL

from curate.core.errors import SampleError
from curate.sources.fetching.bodies import Body
from curate.sources.fetching.consent import find_opt_out, tdm_reserved
from curate.sources.fetching.exchange import Clock, Exchange
from curate.sources.fetching.fetch_config import FetchConfig
from curate.sources.fetching.hosts import GiveUp, Host, Turns
from curate.sources.fetching.origins import REDIRECTS, OriginRules, Origins
from curate.sources.fetching.targets import parse_redirect, parse_target
from curate.sources.statuses import is_retried

_WHOLE = frozenset((200, 203))  # Source: RFC 9110, section 15.3: a whole body of the URL
_PATIENCE = frozenset((429, 503))  # Source: RFC 9110, section 10.2.3; RFC 6585, section 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Hold what became of one URL; the body has it when the status is "ok".

    Args:
        first_host: of the URL; "" when it was refused before any host was asked.
        last_host: where it ended, behind all redirects.
    """

    status: str
    error: str
    first_host: str
    last_host: str


class UrlFetcher:
    """Fetch URLs one by one; many calls may run at once.

    Args:
        exchange: makes the requests.
        turns: paces them.
        origins: knows who may be asked for what.
        config: limits and what is respected.
    """

    def __init__(
        self, exchange: Exchange, turns: Turns, origins: Origins, config: FetchConfig
    ) -> None:
        self._exchange, self._turns, self._origins = exchange, turns, origins
        self._config = config
        self._disallowed = frozenset(name.lower() for name in config.disallowed_directives)

    async def fetch(self, text: str, body: Body) -> Outcome:
        """Fetch a URL into a body, again after failures of the moment; never raises for a URL."""
        clock = Clock(self._config.deadline_s)
        attempt = 0
        while True:
            trail: list[URL] = []
            try:
                await self._follow(text, body, clock, trail)
                return self._end(trail, "ok", "")
            except GiveUp as error:
                return _outcome(trail, error.status, error.detail)
            except SampleError as error:
                body.drop()
                if attempt == self._config.retries or not is_retried(error.status):
                    return self._end(trail, error.status, error.detail)
            await asyncio.sleep(self._config.backoff_s * 2**attempt)
            attempt += 1

    async def _follow(self, text: str, body: Body, clock: Clock, trail: list[URL]) -> None:
        """Go from hop to hop until there is a body; `trail` grows by each URL that is asked for."""
        url = parse_target(text, allow_private=self._config.allow_private)
        while True:
            if url in trail:
                raise SampleError("redirect_loop", "the redirects come back to an earlier URL")
            if len(trail) > self._config.max_redirects:
                raise SampleError("redirect_loop", f"more than {len(trail) - 1} redirects")
            trail.append(url)
            place = await self._hop(url, body, clock)
            if place is None:
                return
            url = parse_redirect(url, place, allow_private=self._config.allow_private)

    async def _hop(self, url: URL, body: Body, clock: Clock) -> str | None:
        """Ask for one URL; give the place it redirects to, or None when the body is read."""
        rules = await self._origins.rules(url)
        rules.check(url)
        async with (
            self._turns.turn(url.host or "", rules.robots.delay_s) as host,
            self._exchange.ask(url, clock) as response,
        ):
            self._check_status(response, host)
            self._check_consent(url, response, rules)
            place = response.headers.get("Location")
            if response.status in REDIRECTS and place is not None:
                return place
            if response.status not in _WHOLE:
                raise SampleError(f"http_{response.status}", f"HTTP {response.status}")
            await self._exchange.read(response, body)
            return None

    def _check_status(self, response: ClientResponse, host: Host) -> None:
        """Refuse an answer that is an error; a host that asks for patience gets it."""
        if response.status in _PATIENCE:
            wait = _retry_after(response.headers.get("Retry-After", ""))
            host.put_off(min(wait, self._config.max_retry_after_s))
            if wait > self._config.max_retry_after_s:
                raise GiveUp(f"http_{response.status}", f"HTTP {response.status}")
        if not 200 <= response.status < 600:
            raise SampleError("bad_response", f"HTTP {response.status}")
        if response.status >= 400:
            raise SampleError(f"http_{response.status}", f"HTTP {response.status}")

    def _check_consent(self, url: URL, response: ClientResponse, rules: OriginRules) -> None:
        """Refuse what its owner keeps; asked of a redirect too, whose owner may be another one."""
        tags = response.headers.getall("X-Robots-Tag", [])
        agent, now = self._config.user_agent, datetime.now(UTC)
        directive = find_opt_out(tags, self._disallowed, agent, now)
        if directive:
            raise SampleError("opted_out", f"X-Robots-Tag: {directive}")
        stated = response.headers.getall("tdm-reservation", [])
        by_file = rules.tdm.reserves(url.raw_path_qs)
        if self._config.respect_tdm and tdm_reserved(stated, by_file):
            raise SampleError("opted_out", "TDM reservation")

    def _end(self, trail: list[URL], status: str, detail: str) -> Outcome:
        """Remember for the host how a row ended there."""
        if trail:
            self._turns.host(trail[-1].host or "").note(SampleError(status, detail))
        return _outcome(trail, status, detail)


def _outcome(trail: list[URL], status: str, detail: str) -> Outcome:
    if len(trail) > 1 and status != "ok":
        detail = f"after {len(trail) - 1} redirects, at {trail[-1].host}: {detail}"
    first, last = (trail[0].host or "", trail[-1].host or "") if trail else ("", "")
    return Outcome(status=status, error=detail, first_host=first, last_host=last)


def _retry_after(text: str) -> float:
    """Read a Retry-After header in seconds; 0 for one that nobody can read.

    Source: RFC 9110, section 10.2.3: a number of seconds or an HTTP date.
    """
    if text.strip().isdecimal():
        return float(text)
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return 0.0
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
