"""Measure what a second worker process brings: a CPU-bound stage inline and on a LocalCluster of 2.

`python -m benchmarks.speedup [--shards 40] [--rounds 3]`

The stage computes in pure Python, 0.2 to 0.3 s a shard. Rounds are interleaved; the ratio is that
of the medians. Workers are started before the clock, as they are once per run. `pool` is the same
work in a bare multiprocessing.Pool of 2 that writes nothing: what the machine's second core gives.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from curate.core.commit import Output
from curate.core.engine import Executor, run_stage
from curate.core.engine_config import EngineConfig
from curate.core.executor import open_executor
from curate.core.manifest import Task
from curate.core.stage import Place, Stage
from curate.core.store import LocalStore


@dataclass(frozen=True, slots=True, kw_only=True)
class SpinConfig:
    num_shards: int
    turns: int = 1_500_000


class SpinStage(Stage[SpinConfig]):
    """Compute; write one number."""

    name: ClassVar[str] = "spin"

    def waves(self) -> Iterator[Sequence[Task]]:
        yield [Task(shard=f"{n:05d}", inputs={}) for n in range(self.config.num_shards)]

    def run(self, task: Task, place: Place) -> Counter[str]:
        value = spin(int(task.shard), self.config.turns)
        (place.out / f"{task.shard}.txt").write_text(str(value))
        return Counter({"in": 1, "kept": 1})


def spin(value: int, turns: int = 1_500_000) -> int:
    for _ in range(turns):
        value = (value * 6364136223846793005 + 1442695040888963407) % 2**64
    return value


class Silent:
    def start(self, stage: str, *, todo: int, done: int) -> None: ...

    def advance(self, outcome: object) -> None: ...

    def finish(self) -> None: ...


def timed(executor: Executor, folder: Path, num_shards: int) -> float:
    stage = SpinStage(SpinConfig(num_shards=num_shards), {}, {}, seed=0)
    start = time.perf_counter()
    run_stage(stage, Output(store=LocalStore(folder)), executor, Silent())
    seconds = time.perf_counter() - start
    shutil.rmtree(folder)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shards", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp())
    times: dict[str, list[float]] = {"inline": [], "local": [], "pool": []}
    with (
        multiprocessing.get_context("spawn").Pool(2) as pool,
        open_executor(EngineConfig(name="inline")) as inline,
        open_executor(EngineConfig(name="local", num_workers=2)) as local,
    ):
        executors = {"inline": inline, "local": local}
        for executor in executors.values():
            timed(executor, root / "warm-up", 2)
        for _ in range(options.rounds):
            for name, executor in executors.items():
                times[name].append(timed(executor, root / name, options.shards))
            start = time.perf_counter()
            pool.map(spin, range(options.shards), chunksize=1)
            times["pool"].append(time.perf_counter() - start)
    medians = {name: statistics.median(found) for name, found in times.items()}
    facts = {f"{name}_s": round(seconds, 2) for name, seconds in medians.items()}
    ratios = {name: round(medians["inline"] / medians[name], 2) for name in ("local", "pool")}
    print(json.dumps({**facts, "times_as_fast_as_inline": ratios}))
    shutil.rmtree(root)


if __name__ == "__main__":
    main()
