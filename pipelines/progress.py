"""Show a stage's progress: one live line on a terminal, plain lines otherwise."""

from __future__ import annotations

import sys
import time
from collections import Counter
from typing import TextIO

from curate.core.stage import Outcome

_PLAIN_EVERY_S = 10.0


class LineProgress:
    """Print shards, samples per second, kept share and time left of the running stage.

    Args:
        stream: where lines go, stderr by default; live rewriting only when it is a terminal.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()

    def start(self, stage: str, *, todo: int, done: int) -> None:
        """Begin a group of tasks."""
        self._stage, self._todo, self._done = stage, todo, done
        self._finished = 0
        self._counts: Counter[str] = Counter()
        self._begun = self._shown = time.monotonic()
        self._show(f"{stage}: {todo} shards to do, {done} done", end=not self._live)

    def advance(self, outcome: Outcome) -> None:
        """Count one finished task."""
        self._finished += 1
        self._counts.update(outcome.counts)
        now = time.monotonic()
        last = self._finished == self._todo  # `finish` shows that one
        if not last and (self._live or now - self._shown > _PLAIN_EVERY_S):
            self._shown = now
            self._show(self._line(now), end=not self._live)

    def finish(self) -> None:
        """End the group with its last line."""
        self._show(self._line(time.monotonic()), end=True)

    def _line(self, now: float) -> str:
        seconds = max(now - self._begun, 1e-6)
        seen, kept = self._counts["in"], self._counts["kept"]
        left = seconds / self._finished * (self._todo - self._finished) if self._finished else 0.0
        parts = [f"{self._stage}: {self._finished}/{self._todo} shards"]
        if seen:
            parts += [f"{seen / seconds:,.0f} samples/s", f"kept {kept / seen:.1%}"]
        failed = sum(count for name, count in self._counts.items() if name.startswith("failed."))
        parts += [f"{failed} failed"] if failed else []
        parts.append(f"{left:.0f} s left" if self._finished < self._todo else f"{seconds:.1f} s")
        return ", ".join(parts)

    def _show(self, text: str, *, end: bool) -> None:
        self._stream.write(f"\r\x1b[K{text}" if self._live else text)
        self._stream.write("\n" if end else "")
        self._stream.flush()
