"""Say how long to wait before a chat server is asked again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from curate.core.seed import make_rng


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Wait ever longer, by chance, so that many requests that failed together do not come together.

    Args:
        base_s: the longest first wait.
        cap_s: the longest wait. Both chosen by us: six tries take 16 s on average, time for a
            server to be started again by whatever watches it.
        max_retry_after_s: of what a server may ask for. Chosen by us: quotas are counted by the
            minute; who says an hour would stall the run.
        seed: of the waits.
        sleep: waits; a test counts instead.

    Source: Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog 2015: "full jitter"
        needs the fewest calls of the variants compared.
    """

    base_s: float = 1.0
    cap_s: float = 60.0
    max_retry_after_s: float = 120.0
    seed: int = 0
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    def wait_s(self, tries: int, retry_after_s: float | None, *names: str | int) -> float:
        """Give the seconds to wait.

        Args:
            tries: made so far, from 1.
            retry_after_s: what the server asked for, if it did; never waited less, within bounds.
            names: of the request; other requests wait otherwise.
        """
        share = make_rng(self.seed, "server-retry", *names, tries).random()  # in [0, 1)
        if retry_after_s is not None:
            return min(retry_after_s, self.max_retry_after_s) + share * self.base_s
        return share * min(self.cap_s, self.base_s * 2.0 ** min(tries - 1, 60))
