"""Time filter and sweep on made-up columns: how long one process needs, and how much memory.

    python -m benchmarks.columns --rows 10000000 --shards 1000

Each step (make, filter, shares, sweep) is a process of its own, so that its peak memory is its own.
The tables have the columns that 14 of filter's rules judge, with annotate's types, and no
embedding; one sample in twenty failed before. Everything lies in a temporary folder: 10 million
rows take about 1.2 GB there.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from curate.core.attempt import Outcome
from curate.core.commit import Output, commit
from curate.core.engine import run_stage
from curate.core.executor import InlineExecutor
from curate.core.manifest import Identity
from curate.core.schema import OK, shard_name
from curate.core.seed import make_rng
from curate.core.shard import ShardSet, ShardWriter
from curate.core.store import LocalStore
from curate.stages.filter import FilterStage
from curate.stages.filtering.config import Bounds, FilterConfig
from curate.stages.filtering.rules import RULES
from pipelines.inspect import RUN_FILE
from pipelines.sweep import sweep
from pipelines.sweep_report import describe_sweep

# Rule -> lowest and highest value drawn, and bounds that about 3 % of the samples fail.
_VALUES: Mapping[str, tuple[float, float, Bounds]] = {
    "min_side": (16, 1024, Bounds(min=48)),
    "aspect": (1, 4, Bounds(max=3.9)),
    "contrast": (0, 100, Bounds(min=3)),
    "entropy": (0, 8, Bounds(min=0.25)),
    "caption_words": (0, 100, Bounds(min=3)),
    "caption_characters": (0, 1000, Bounds(max=970)),
    "caption_filename": (0, 1.02, Bounds(max=0)),
    "caption_alpha": (0, 1, Bounds(min=0.03)),
    "caption_repetition": (0, 1, Bounds(max=0.97)),
    "text_area": (0, 1, Bounds(max=0.97)),
    "watermark": (0, 1, Bounds(max=0.97)),
    "nsfw": (0, 1, Bounds(max=0.97)),
    "similarity": (0, 0.5, Bounds(min=0.28)),
    "aesthetic": (1, 10, Bounds(min=1.3)),
}
_TYPES: Mapping[str, pa.DataType] = {
    "min_side": pa.int32(),
    "caption_words": pa.int32(),
    "caption_characters": pa.int32(),
    "caption_filename": pa.bool_(),
}
_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        *((RULES[rule].column, _TYPES.get(rule, pa.float32())) for rule in _VALUES),
    ]
)
_SWEPT = "filter.similarity.min=0.20:0.34:0.02"


class Silent:
    """Say nothing of a stage's progress."""

    def start(self, stage: str, *, todo: int, done: int) -> None: ...

    def advance(self, outcome: Outcome) -> None: ...

    def finish(self) -> None: ...


def main() -> None:
    """Run the steps, each in its own process, and print what they took."""
    parser = argparse.ArgumentParser(description="Time filter and sweep on made-up columns.")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--shards", type=int, default=100)
    parser.add_argument("--folder", type=Path, help="where the temporary folder goes")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        _report(options.step, options.folder, options.rows, options.shards)
        return
    print(f"{options.rows:,} rows in {options.shards:,} shards", flush=True)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for step in STEPS:
            sizes = [f"--rows={options.rows}", f"--shards={options.shards}"]
            command = [sys.executable, __file__, f"--step={step}", f"--folder={folder}", *sizes]
            subprocess.run(command, check=True)


def make_tables(out: Path, rows: int, shards: int) -> list[str]:
    """Write annotate's finished shards."""
    for index in range(shards):
        size = (index + 1) * rows // shards - index * rows // shards
        _write_shard(out / "annotate", shard_name(index), _make_table(index, size))
    run = {"pipeline": "base", "stages": ["annotate", "filter"]}
    (out / RUN_FILE).write_text(json.dumps(run))
    return []


def run_filter(out: Path, rows: int, shards: int) -> list[str]:
    """Run the stage as `engine=inline` does: plan, judge, write, sync, commit."""
    config = FilterConfig(**{rule: bounds for rule, (_, _, bounds) in _VALUES.items()})
    stage = FilterStage(config, {"annotate": ShardSet(out / "annotate")}, {}, 0)
    output = Output(store=LocalStore(out / "filter"))
    report = run_stage(stage, output, InlineExecutor(), Silent())
    assert report.counts["in"] == rows, f"filter saw {report.counts['in']} of {rows} rows"
    return [f"kept {report.counts['kept']:,}"]


def run_shares(out: Path, rows: int, shards: int) -> list[str]:
    """Run the stage in three waves: the best 30 % of similarity over all shards."""
    config = FilterConfig(similarity=Bounds(top_frac=0.3))
    own = ShardSet(out / "shares")
    stage = FilterStage(config, {"annotate": ShardSet(out / "annotate")}, {}, 0, own=own)
    report = run_stage(stage, Output(store=own.store), InlineExecutor(), Silent())
    assert report.counts["in"] == rows, f"filter saw {report.counts['in']} of {rows} rows"
    return [f"kept {report.counts['kept']:,}"]


def run_sweep(out: Path, rows: int, shards: int) -> list[str]:
    """Sweep eight thresholds of one rule."""
    found = sweep(LocalStore(out), [_SWEPT])
    assert found.num_samples == rows, f"sweep saw {found.num_samples} of {rows} rows"
    return describe_sweep(found)


STEPS: Mapping[str, Callable[[Path, int, int], list[str]]] = {
    "make": make_tables,
    "filter": run_filter,
    "shares": run_shares,
    "sweep": run_sweep,
}


def _report(step: str, out: Path, rows: int, shards: int) -> None:
    start = time.perf_counter()
    lines = STEPS[step](out, rows, shards)
    seconds = time.perf_counter() - start
    usage = resource.getrusage(resource.RUSAGE_SELF)  # ru_maxrss is in KiB on Linux
    print(
        f"{step:<7} {seconds:7.2f} s, {usage.ru_utime + usage.ru_stime:7.2f} s of CPU"
        f"  {rows / seconds:>12,.0f} rows/s  peak {usage.ru_maxrss * 1024 / 1e6:,.0f} MB"
    )
    print("".join(f"        {line}\n" for line in lines), end="", flush=True)


def _make_table(index: int, size: int) -> pa.Table:
    rng = make_rng(0, "columns", index)
    text = rng.bytes(10 * size).hex()
    is_ok = rng.random(size) >= 0.05
    columns: dict[str, pa.Array] = {
        "key": pa.array([text[20 * row : 20 * row + 20] for row in range(size)]),
        "status": pa.array(np.where(is_ok, OK, "http_404")),
    }
    for rule, (low, high, _) in _VALUES.items():
        kind = _TYPES.get(rule, pa.float32())
        values = rng.uniform(low, high, size).astype(np.float32)
        if kind in (pa.int32(), pa.bool_()):
            values = values.astype(np.int32)
        columns[RULES[rule].column] = pa.array(values, mask=~is_ok).cast(kind)
    return pa.table(columns, schema=_SCHEMA)


def _write_shard(folder: Path, shard: str, table: pa.Table) -> None:
    work = folder / ".work"
    work.mkdir(parents=True)
    with ShardWriter(work, shard, _SCHEMA, with_tar=False) as writer:
        writer.write_table(table)
    identity = Identity(
        stage="annotate", version=1, seed=0, config={}, models={}, inputs={}, params={}
    )
    commit(work, Output(store=LocalStore(folder)), shard, identity, {"in": table.num_rows})
    work.rmdir()


if __name__ == "__main__":
    main()
