"""Hold back new requests while bodies pile up and the reader is busy with one it has.

Bodies beyond the memory go through files, which costs the reader a tenth of its speed. Nothing is
held back while the reader waits: the row it wants may be one that has not been asked for yet.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from curate.sources.fetching.bodies import Spool


class Room:
    """Say when another body may be asked for.

    Args:
        spool: whose memory is watched.
        loop: of the requests; `wait` runs in it, `want` in the reader's thread.
    """

    def __init__(self, spool: Spool, loop: asyncio.AbstractEventLoop) -> None:
        self._spool, self._loop = spool, loop
        self._wanted: Future[Any] | None = None
        self._go_on = asyncio.Event()

    def want(self, result: Future[Any]) -> None:
        """Note which row the reader wants now; it is done with the one before."""
        self._wanted = result
        if not self._go_on.is_set():
            with suppress(RuntimeError):  # the loop is closed: every row is here
                self._loop.call_soon_threadsafe(self._go_on.set)

    async def wait(self) -> bool:
        """Wait for room; say whether there was none."""
        was_full = False
        while True:
            self._go_on.clear()  # before looking: what the reader does from here on wakes us
            has_what_it_wants = self._wanted is not None and self._wanted.done()
            if not (self._spool.is_half_full and has_what_it_wants):
                self._go_on.set()
                return was_full
            was_full = True
            await self._go_on.wait()
