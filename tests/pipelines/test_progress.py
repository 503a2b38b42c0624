"""A stage's progress in one line, in `live.json` and in `metrics.jsonl`."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from curate.core.attempt import Outcome
from curate.core.store import LocalStore, open_store
from pipelines.progress import (
    LIVE_FILE,
    METRICS_FILE,
    LineProgress,
    LiveFile,
    MetricsFile,
    Together,
    progress_line,
)

FACTS = {
    "stage": "annotate",
    "todo": 10,
    "done": 2,
    "finished": 4,
    "quarantined": 0,
    "retried": 0,
    "unit": "shards",
    "counts": {"in": 4000, "kept": 3000, "failed.not_image": 1000},
    "started": 100.0,
    "updated": 140.0,
}


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({}, "annotate: 6/12 shards, 100 samples/s, kept 75.0%, 1,000 failed, 1 min 00 s left"),
        ({"finished": 0, "counts": {}}, "annotate: 2/12 shards, unknown time left"),
        ({"finished": 10, "counts": {"in": 4000, "kept": 4000}},
         "annotate: 12/12 shards, 100 samples/s, kept 100.0%, 40.0 s"),
        ({"unit": "partial results"},
         "annotate: 6/12 partial results, 1,000 failed, 1 min 00 s left"),
        ({"quarantined": 3, "counts": {}, "todo": 4004},
         "annotate: 6/4006 shards, 3 quarantined, 11 h 06 min left"),
    ],
)  # fmt: skip
def test_the_line_says_how_far_how_fast_and_how_long(change: dict[str, object], line: str) -> None:
    assert progress_line({**FACTS, **change}, now=140.0) == line


def test_the_files_hold_every_task_and_the_latest_state(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    listeners = Together([LineProgress(io.StringIO()), LiveFile(store), MetricsFile(store)])
    listeners.start("filter", todo=2, done=1)
    assert json.loads((tmp_path / LIVE_FILE).read_text())["todo"] == 2
    listeners.advance(Outcome(shard="00000", counts={"in": 3, "kept": 3}, seconds=0.5))
    listeners.advance(Outcome(shard="00001", causes=("ValueError: x",) * 3, gave_up=True))
    listeners.finish()
    lines = [json.loads(text) for text in (tmp_path / METRICS_FILE).read_text().splitlines()]
    assert [line["event"] for line in lines] == ["task", "task", "stage"]
    assert lines[0] | {"time": 0} == {
        "time": 0, "stage": "filter", "event": "task", "shard": "00000",
        "counts": {"in": 3, "kept": 3}, "seconds": 0.5,
    }  # fmt: skip
    assert lines[1]["gave_up"] and lines[1]["causes"] == ["ValueError: x"] * 3
    assert (lines[2]["finished"], lines[2]["quarantined"]) == (2, 1)
    live = json.loads((tmp_path / LIVE_FILE).read_text())
    assert (live["finished"], live["counts"]) == (2, {"in": 3, "kept": 3})


def test_on_an_object_store_lines_are_added_when_a_group_ends() -> None:
    store = open_store("memory://test_progress/out")
    for shard in ("00000", "00001"):
        metrics = MetricsFile(store)
        metrics.start("filter", todo=1, done=0)
        metrics.advance(Outcome(shard=shard))
        metrics.finish()
    lines = [json.loads(text) for text in store.read(METRICS_FILE).decode().splitlines()]
    assert [line.get("shard") for line in lines] == ["00000", None, "00001", None]


def test_without_a_terminal_lines_are_plain() -> None:
    stream = io.StringIO()
    progress = LineProgress(stream)
    progress.start("filter", todo=1, done=0)
    progress.advance(Outcome(shard="00000", counts={"in": 1, "kept": 1}))
    progress.finish()
    lines = stream.getvalue().splitlines()
    assert lines[0] == "filter: 1 to do, 0 done"
    assert lines[1].startswith("filter: 1/1 shards, ")
    assert "\r" not in stream.getvalue() and "\x1b" not in stream.getvalue()
