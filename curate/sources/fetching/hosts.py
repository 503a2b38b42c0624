"""Be polite to each host and patient with none for ever: turns, pace, back-off, circuit breaker.

    turn(host): a place among `host_concurrency` -> its time by pace and Retry-After
                -> a place among `num_threads` -> room for what will come -> request

What is known of a host (pace, failures) outlives a task; turns belong to one event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from curate.core.errors import SampleError
from curate.sources.fetching.fetch_config import FetchConfig
from curate.sources.fetching.recent import Recent

UNREACHABLE = frozenset(
    ("connect", "timeout", "deadline", "dns", "dns_busy", "http_429", "http_503")
)
"""Statuses that are the host's fault, not the URL's; chosen by us: it is away, or wants us away."""
MOST_HOSTS = 100_000  # chosen by us: about 30 MB in all
DOWN_S = 300.0
"""How long a host that is down is not asked by a later task; chosen by us."""


class GiveUp(SampleError):
    """Fail a row for what is known already, so that trying again now is pointless."""


@dataclass(slots=True)
class Host:
    """Remember one host.

    Args:
        next_s: monotonic time before which no further request starts.
        num_failed: rows in a row that did not reach it.
        failure: the last of them.
        failed_s: monotonic time of it.
    """

    next_s: float = 0.0
    num_failed: int = 0
    failure: SampleError | None = None
    failed_s: float = 0.0

    def put_off(self, seconds: float) -> None:
        """Start no request for a while (Retry-After)."""
        self.next_s = max(self.next_s, time.monotonic() + seconds)

    def note(self, ended: SampleError) -> None:
        """Count a row that did not reach the host; any other end, "ok" too, starts anew."""
        if ended.status not in UNREACHABLE:
            self.num_failed = 0
            return
        self.num_failed += 1
        self.failure, self.failed_s = ended, time.monotonic()

    def check_up(self, most_failures: int) -> None:
        """Fail as the host did last, without asking it again.

        Raises:
            GiveUp: the last failure, when there were too many in a row just now.
        """
        is_down = self.num_failed >= most_failures
        if is_down and self.failure and time.monotonic() - self.failed_s < DOWN_S:
            raise GiveUp(self.failure.status, self.failure.detail)


class Turns:
    """Hand out turns: at most so many requests to one host at once, and so many in all.

    Args:
        hosts: what is known so far; grows.
        config: the limits.
        room: waits until there is room for another body; says whether it had to.
    """

    def __init__(
        self, hosts: Recent[str, Host], config: FetchConfig, room: Callable[[], Awaitable[bool]]
    ) -> None:
        self._hosts, self._config, self._room = hosts, config, room
        self._all = asyncio.Semaphore(config.num_threads)
        self._of_host: dict[str, asyncio.Semaphore] = {}

    def host(self, name: str) -> Host:
        """Give what is known of a host."""
        known = self._hosts.get(name)
        if known is None:
            known = Host()
            self._hosts.put(name, known)
        return known

    @asynccontextmanager
    async def turn(self, name: str, delay_s: float = 0.0) -> AsyncGenerator[Host]:
        """Wait for a turn and hold it until the block ends.

        Args:
            name: of the host.
            delay_s: its Crawl-delay; honoured up to `max_host_delay_s`.

        Raises:
            GiveUp: the host is down.
        """
        limit = self._config.host_concurrency
        host = self.host(name)
        pace = max(self._config.host_delay_s, min(delay_s, self._config.max_host_delay_s))
        async with self._of_host.setdefault(name, asyncio.Semaphore(limit)):
            host.check_up(self._config.host_failures)
            await _wait_for(host, pace)
            host.check_up(self._config.host_failures)  # it may have gone down meanwhile
            async with self._all:
                if await self._room():
                    await _wait_for(host, pace)
                yield host


async def _wait_for(host: Host, pace: float) -> None:
    """Sleep until the host may be asked, and take that moment for this request."""
    while (wait := host.next_s - time.monotonic()) > 0:
        await asyncio.sleep(wait)
    host.next_s = time.monotonic() + pace
