"""Show and record a stage's progress.

    LineProgress    one live line on a terminal, plain lines otherwise
    LiveFile        `live.json` in `out`, rewritten each second: what `curate status` shows
    MetricsFile     `metrics.jsonl` in `out`: one line per task and per stage

None of it is part of an output: clocks and hosts stay out of shards and markers.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from curate.core.store import LocalStore, Store

if TYPE_CHECKING:
    from curate.core.attempt import Outcome
    from curate.core.engine import Progress

LIVE_FILE, METRICS_FILE = "live.json", "metrics.jsonl"
_PLAIN_EVERY_S = 10.0
_LIVE_EVERY_S = {True: 1.0, False: 10.0}  # by whether `out` is local; chosen by us


class _Tally:
    """Count what has come in since the stage's group of tasks began."""

    def __init__(self, stage: str, todo: int, done: int) -> None:
        self.stage, self.todo, self.done = stage, todo, done
        self.finished = self.quarantined = self.retried = 0
        self.unit = "shards"
        self.counts: Counter[str] = Counter()
        self.started = time.time()

    def add(self, outcome: Outcome) -> None:
        self.finished += 1
        self.unit = "partial results" if outcome.shard.startswith("_") else "shards"
        self.counts.update(outcome.counts)
        self.quarantined += outcome.gave_up
        self.retried += bool(outcome.causes)

    def facts(self) -> dict[str, Any]:
        return {**vars(self), "counts": dict(self.counts), "updated": time.time()}


def progress_line(facts: Mapping[str, Any], now: float) -> str:
    """Say it in one line: shards, samples per second, kept share, errors, time left or taken.

    Args:
        facts: of `live.json`.
        now: seconds since 1970.
    """
    seconds = max(now - facts["started"], 1e-6)
    finished, todo, counts = facts["finished"], facts["todo"], facts["counts"]
    seen, kept = counts.get("in", 0), counts.get("kept", 0)
    unit = facts["unit"]
    parts = [f"{facts['stage']}: {finished + facts['done']}/{todo + facts['done']} {unit}"]
    if seen and unit == "shards":
        parts += [f"{seen / seconds:,.0f} samples/s", f"kept {kept / seen:.1%}"]
    failed = sum(count for name, count in counts.items() if name.startswith("failed."))
    parts += [f"{failed:,} failed"] if failed else []
    parts += [f"{facts['quarantined']} quarantined"] if facts["quarantined"] else []
    if finished == todo:
        return ", ".join([*parts, _duration(facts["updated"] - facts["started"])])
    left = _duration(seconds / finished * (todo - finished)) if finished else "unknown time"
    return ", ".join([*parts, f"{left} left"])


class LineProgress:
    """Print the running stage's line.

    Args:
        stream: where lines go, stderr by default; live rewriting only when it is a terminal.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()

    def start(self, stage: str, *, todo: int, done: int) -> None:
        """Begin a group of tasks."""
        self._tally = _Tally(stage, todo, done)
        self._shown = time.time()
        self._show(f"{stage}: {todo} to do, {done} done", end=not self._live)

    def advance(self, outcome: Outcome) -> None:
        """Count one finished task."""
        self._tally.add(outcome)
        now = time.time()
        last = self._tally.finished == self._tally.todo  # `finish` shows that one
        if not last and now - self._shown > (0.1 if self._live else _PLAIN_EVERY_S):
            self._shown = now
            self._show(progress_line(self._tally.facts(), now), end=not self._live)

    def finish(self) -> None:
        """End the group with its last line."""
        self._show(progress_line(self._tally.facts(), time.time()), end=True)

    def _show(self, text: str, *, end: bool) -> None:
        self._stream.write(f"\r\x1b[K{text}" if self._live else text)
        self._stream.write("\n" if end else "")
        self._stream.flush()


class LiveFile:
    """Keep `live.json` about a second old, ten on an object store."""

    def __init__(self, out: Store) -> None:
        self._out = out
        self._every_s = _LIVE_EVERY_S[out.is_local]

    def start(self, stage: str, *, todo: int, done: int) -> None:
        """Begin a group of tasks."""
        self._tally = _Tally(stage, todo, done)
        self._write()

    def advance(self, outcome: Outcome) -> None:
        """Count one finished task."""
        self._tally.add(outcome)
        if time.time() - self._written > self._every_s:
            self._write()

    def finish(self) -> None:
        """End the group."""
        self._write()

    def _write(self) -> None:
        self._written = time.time()
        self._out.write(LIVE_FILE, (json.dumps(self._tally.facts()) + "\n").encode())


class MetricsFile:
    """Append to `metrics.jsonl`; on an object store once per group of tasks."""

    def __init__(self, out: Store) -> None:
        self._out = out
        self._lines: list[str] = []

    def start(self, stage: str, *, todo: int, done: int) -> None:
        """Begin a group of tasks."""
        self._tally = _Tally(stage, todo, done)

    def advance(self, outcome: Outcome) -> None:
        """Record one finished task."""
        self._tally.add(outcome)
        facts = {"counts": dict(outcome.counts), "seconds": round(outcome.seconds, 4)}
        if outcome.causes:
            facts |= {"causes": list(outcome.causes), "gave_up": outcome.gave_up}
        self._record({"event": "task", "shard": outcome.shard, **facts})

    def finish(self) -> None:
        """Record the group."""
        facts = self._tally.facts()
        facts["seconds"] = round(facts.pop("updated") - facts.pop("started"), 3)
        self._record({"event": "stage", **facts})
        self._flush()

    def _record(self, facts: Mapping[str, Any]) -> None:
        line = {"time": round(time.time(), 3), "stage": self._tally.stage, **facts}
        self._lines.append(json.dumps(line) + "\n")
        if self._out.is_local:
            self._flush()

    def _flush(self) -> None:
        text = "".join(self._lines)
        self._lines.clear()
        if isinstance(self._out, LocalStore):
            with (self._out.folder / METRICS_FILE).open("a") as stream:
                stream.write(text)
            return
        before = self._out.read(METRICS_FILE) if self._out.exists(METRICS_FILE) else b""
        self._out.write(METRICS_FILE, before + text.encode())


class Together:
    """Tell several listeners of the same progress."""

    def __init__(self, listeners: Sequence[Progress]) -> None:
        self._listeners = listeners

    def start(self, stage: str, *, todo: int, done: int) -> None:
        """Begin a group of tasks."""
        for listener in self._listeners:
            listener.start(stage, todo=todo, done=done)

    def advance(self, outcome: Outcome) -> None:
        """Hear of one finished task."""
        for listener in self._listeners:
            listener.advance(outcome)

    def finish(self) -> None:
        """End the group."""
        for listener in self._listeners:
            listener.finish()


def _duration(seconds: float) -> str:
    """Write seconds as `4.2 s`, `3 min 20 s` or `2 h 05 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"
    return f"{int(seconds) // 3600} h {int(seconds) % 3600 // 60:02d} min"
