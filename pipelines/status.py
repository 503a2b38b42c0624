"""Say from the disk alone how far a run is: finished, going on, or left behind.

Import stays light: `curate status` reads JSON only.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from curate.core.lock import describe_owner, is_owned, read_owner
from curate.core.manifest import SUMMARY, find_markers, finished_shards
from curate.core.quarantine import find_quarantined
from curate.core.store import Store
from pipelines.inspect import read_run
from pipelines.progress import LIVE_FILE, progress_line

_HEAD = ("stage", "shards", "in", "kept", "dropped", "failed", "state")


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """Hold the table (a header, then a row per stage) and what goes on right now.

    Args:
        running: lines on the run that owns `out` and on its stage's progress; none without one.
        quarantined: one line for each shard that was given up.
    """

    table: list[tuple[str, ...]]
    running: list[str]
    quarantined: list[str]


def read_status(out: Store) -> Status:
    """Read markers, lock and progress of `out`.

    Raises:
        ConfigError: the folder was not made by curate.
    """
    stages = read_run(out)["stages"]
    alive = is_owned(out)
    live = _read_json(out, LIVE_FILE) if alive else {}
    rows: list[tuple[str, ...]] = [_HEAD]
    quarantined: list[str] = []
    for stage in stages:
        store = out.child(stage)
        given_up = find_quarantined(store)
        quarantined += [f"{stage}/{shard}: {item.line}" for shard, item in given_up.items()]
        is_running = live.get("stage") == stage and live["finished"] < live["todo"]
        rows.append(_row(stage, store, is_running=is_running, num_given_up=len(given_up)))
    running = [f"running: {describe_owner(read_owner(out))}"] if alive else []
    running += [f"  {progress_line(live, time.time())}"] if live else []
    return Status(table=rows, running=running, quarantined=quarantined)


def _row(stage: str, store: Store, *, is_running: bool, num_given_up: int) -> tuple[str, ...]:
    shards = finished_shards(store)
    summary = _read_json(store, SUMMARY)
    counts = summary["counts"] if summary else _added_up(store, shards)
    lost = (summary.get("shards", {}).keys() - summary.get("quarantined", {})) - set(shards)
    dropped, failed = _sum(counts, "dropped."), _sum(counts, "failed.")
    seen, kept = counts.get("in", 0), counts.get("kept", 0)
    state = "done" if summary else ("partial" if shards else "absent")
    state += f", {len(lost)} SHARDS LOST: run `curate verify`" if lost else ""
    state = "running" if is_running else state
    if num_given_up:
        state += f", {num_given_up} quarantined"
    if seen != kept + dropped + failed:
        state += ", SUMS DIFFER: run `curate verify`"
    num_shards = sum(not name.startswith("_") for name in shards)
    return (stage, str(num_shards), *(f"{n:,}" for n in (seen, kept, dropped, failed)), state)


def _added_up(store: Store, shards: list[str]) -> Mapping[str, int]:
    counts: Counter[str] = Counter()
    for _, marker in find_markers(store, shards):
        counts.update(marker.counts if marker else {})
    return counts


def _sum(counts: Mapping[str, int], prefix: str) -> int:
    return sum(count for name, count in counts.items() if name.startswith(prefix))


def _read_json(store: Store, name: str) -> dict[str, Any]:
    """Read a small file that a run may be replacing; empty when it is not there."""
    try:
        return json.loads(store.read(name))
    except (FileNotFoundError, ValueError):
        return {}
