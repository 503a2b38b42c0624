"""Fetch many URLs safely: an event loop downloads in a thread while the caller decodes in its own.

    rows -> one coroutine each, turns taken in row order -> Spool -> asked by row, in row order
                               ^--------------- Room -------------------'

What is named a row's outcome does not depend on how many downloads run at once: whether a host
counts as down is decided when rows are asked, in row order (`_RowOrder`); the loop only saves
itself the requests.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path

from yarl import URL

from curate.sources.fetching.bodies import Body, Spool
from curate.sources.fetching.exchange import open_exchange
from curate.sources.fetching.fetch import Outcome, UrlFetcher
from curate.sources.fetching.fetch_config import FetchConfig
from curate.sources.fetching.fetcher import Fetched
from curate.sources.fetching.hosts import MOST_HOSTS, UNREACHABLE, Host, Turns
from curate.sources.fetching.origins import MOST_BYTES, OriginRules, Origins
from curate.sources.fetching.recent import Recent
from curate.sources.fetching.resolver import DnsCache, Resolve, resolve_host
from curate.sources.fetching.room import Room


class VettedFetcher:
    """Remember hosts, names and rules from task to task, and fetch one task's URLs at a time.

    Args:
        config: how to fetch.
        lookup: resolves a name; blocking.
    """

    def __init__(self, config: FetchConfig, lookup: Resolve = resolve_host) -> None:
        self.config, self.lookup = config, lookup
        self.names = DnsCache(config.dns_ttl_s)
        self.hosts = Recent[str, Host](MOST_HOSTS)
        self.rules = Recent[URL, OriginRules](MOST_BYTES)

    @contextmanager
    def fetch_all(
        self, urls: Mapping[int, str], scratch: Path
    ) -> Generator[Callable[[int], Fetched]]:
        """Fetch URLs while the block runs; see `fetchers.Fetcher`."""
        download = _Download(self, urls, scratch)
        download.start()
        try:
            yield _RowOrder(download.result, self.config.host_failures).outcome
        finally:
            download.stop()


class _Download:
    """Run one task's event loop in a thread."""

    def __init__(self, owner: VettedFetcher, urls: Mapping[int, str], scratch: Path) -> None:
        self._owner, self._urls = owner, urls
        self._spool = Spool(scratch, owner.config.memory_bytes)
        self._results: dict[int, Future[tuple[Outcome, Body]]] = {row: Future() for row in urls}
        self._loop = asyncio.new_event_loop()
        self._room = Room(self._spool, self._loop)
        self._all: asyncio.Task[None] | None = None
        self._is_stopped = False
        self._thread = threading.Thread(target=self._run, name="fetch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def result(self, row: int) -> tuple[Outcome, Body]:
        """Wait for a row.

        Raises:
            Exception: what ended this row's download, or all of it.
        """
        self._room.want(self._results[row])
        ended = self._results[row].result()
        del self._results[row]  # whose coroutine has it by now
        return ended

    def stop(self) -> None:
        """End what still runs and wait for the thread."""
        self._is_stopped = True
        with suppress(RuntimeError):  # the loop is closed already
            self._loop.call_soon_threadsafe(lambda: self._all and self._all.cancel())
        self._thread.join()

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._fetch_all())
        except asyncio.CancelledError:
            pass  # by stop(): nobody waits any more
        except Exception as error:  # goes to the thread that waits for rows
            for result in list(self._results.values()):
                if not result.done():
                    result.set_exception(error)

    async def _fetch_all(self) -> None:
        self._all = asyncio.current_task()
        if self._is_stopped:
            return
        owner = self._owner
        async with open_exchange(owner.config, owner.lookup, owner.names) as exchange:
            turns = Turns(owner.hosts, owner.config, self._room.wait)
            origins = Origins(exchange, turns, owner.rules, owner.config)
            fetcher = UrlFetcher(exchange, turns, origins, owner.config)
            async with asyncio.TaskGroup() as group:
                for row, url in self._urls.items():
                    group.create_task(self._fetch_row(fetcher, row, url))

    async def _fetch_row(self, fetcher: UrlFetcher, row: int, url: str) -> None:
        result = self._results[row]
        body = Body(self._spool, str(row), self._owner.config.max_bytes)
        try:
            result.set_result((await fetcher.fetch(url, body), body))
        except Exception as error:  # goes to the thread that asks for the row
            result.set_exception(error)


class _RowOrder:
    """Give the rows' outcomes, and name the rows of a host "host_down" once too many failed."""

    def __init__(self, result: Callable[[int], tuple[Outcome, Body]], most_failures: int) -> None:
        self._result, self._most_failures = result, most_failures
        self._num_failed: Counter[str] = Counter()

    def outcome(self, row: int) -> Fetched:
        """Wait for the next row in order and give its outcome."""
        ended, body = self._result(row)
        down = self._down_host(ended)
        if down:
            body.drop()
            detail = f"{self._most_failures} rows of {down} failed in a row"
            return Fetched(status="host_down", error=detail)
        if ended.status in UNREACHABLE:
            self._num_failed[ended.last_host] += 1
        else:
            self._num_failed[ended.last_host] = 0
        if ended.status != "ok":
            return Fetched(status=ended.status, error=ended.error)
        return Fetched(data=body.take())

    def _down_host(self, ended: Outcome) -> str:
        """Name the host that is down and whose row this is; "" when there is none."""
        hosts = [ended.first_host, *([ended.last_host] if ended.status in UNREACHABLE else [])]
        return next((h for h in hosts if self._num_failed[h] >= self._most_failures), "")
