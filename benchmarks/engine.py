"""Measure what the engine costs: an empty stage over many shards, inline and on a LocalCluster.

`python -m benchmarks.engine [--shards 10000] [--engines inline,local] [--chain 5] [--folder DIR]`

Prints, for each engine, milliseconds a shard, growth of the client's and the scheduler's memory
(they share a process in a LocalCluster), the time of a second run that finds everything done, and
beside them the bare price of the same files: written, fsynced, renamed and nothing else. With
`--chain` it also runs so many map stages one after the other, each over all shards of the one
before, and times the second run of the whole pipeline.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from curate.core.attempt import Outcome
from curate.core.commit import Output
from curate.core.engine import run_stage
from curate.core.engine_config import EngineConfig
from curate.core.executor import open_executor
from curate.core.lock import claim_out
from curate.core.manifest import Task
from curate.core.shard import ShardSet
from curate.core.stage import MapStage, Place, Stage
from curate.core.store import LocalStore


@dataclass(frozen=True, slots=True, kw_only=True)
class EmptyConfig:
    num_shards: int = 10_000


class EmptyStage(Stage[EmptyConfig]):
    """Write two tiny files per shard, as a stage with a tar and a table does."""

    name: ClassVar[str] = "empty"

    def waves(self) -> Iterator[Sequence[Task]]:
        yield [Task(shard=f"{n:05d}", inputs={"n": str(n)}) for n in range(self.config.num_shards)]

    def run(self, task: Task, place: Place) -> Counter[str]:
        for ext in ("tar", "parquet"):
            (place.out / f"{task.shard}.{ext}").write_bytes(b"x" * 64)
        return Counter({"in": 1, "kept": 1})


@dataclass(frozen=True, slots=True, kw_only=True)
class NoConfig:
    pass


class MapEmptyStage(MapStage[NoConfig]):
    """Write two tiny files for each shard of the stage before."""

    name: ClassVar[str] = "map_empty"

    def run(self, task: Task, place: Place) -> Counter[str]:
        for ext in ("tar", "parquet"):
            (place.out / f"{task.shard}.{ext}").write_bytes(b"x" * 64)
        return Counter({"in": 1, "kept": 1})


class Silent:
    def start(self, stage: str, *, todo: int, done: int) -> None: ...

    def advance(self, outcome: Outcome) -> None: ...

    def finish(self) -> None: ...


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def run(folder: Path, config: EmptyConfig, engine: EngineConfig) -> float:
    stage = EmptyStage(config, {}, {}, seed=0)
    with claim_out(LocalStore(folder)) as claim, open_executor(engine) as executor:
        output = Output(store=LocalStore(folder / "empty"), claim=claim)
        start = time.perf_counter()
        run_stage(stage, output, executor, Silent())
        return time.perf_counter() - start


def run_chain(folder: Path, config: EmptyConfig, length: int) -> float:
    """Run a pipeline of `length` stages inline."""
    with (
        claim_out(LocalStore(folder)) as claim,
        open_executor(EngineConfig(name="inline")) as executor,
    ):
        start = time.perf_counter()
        before: ShardSet | None = None
        for number in range(length):
            store = LocalStore(folder / f"stage{number}")
            stage: Stage[Any] = (
                EmptyStage(config, {}, {}, seed=0)
                if before is None
                else MapEmptyStage(NoConfig(), {"before": before}, {}, seed=0)
            )
            run_stage(stage, Output(store=store, claim=claim), executor, Silent())
            before = ShardSet(store)
        return time.perf_counter() - start


def bare_ms(folder: Path, count: int) -> float:
    """Write, fsync and rename three files, then fsync the folder: what durability itself costs."""
    folder.mkdir(parents=True)
    start = time.perf_counter()
    for n in range(count):
        for ext in ("tar", "parquet", "json"):
            temporary = folder / f".{n}.{ext}"
            with temporary.open("wb") as stream:
                stream.write(b"x" * 64)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.rename(folder / f"{n}.{ext}")
        descriptor = os.open(folder, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    return (time.perf_counter() - start) / count * 1e3


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shards", type=int, default=10_000)
    parser.add_argument("--engines", default="inline,local")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--chain", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(dir=options.folder))
    config = EmptyConfig(num_shards=options.shards)
    try:
        bare = bare_ms(root / "bare", min(options.shards, 1000))
        for name in filter(None, options.engines.split(",")):
            engine = EngineConfig(name=name, num_workers=options.workers)
            run(root / "warm-up", EmptyConfig(num_shards=10), engine)
            before = resident_mb()
            seconds = run(root / name, config, engine)
            grown = resident_mb() - before
            again = run(root / name, config, engine)
            facts = {
                "engine": name,
                "shards": options.shards,
                "ms_per_shard": round(seconds / options.shards * 1e3, 2),
                "bare_ms_per_shard": round(bare, 2),
                "memory_grown_mb": round(grown, 1),
                "second_run_s": round(again, 2),
            }
            print(json.dumps(facts), flush=True)
        if options.chain:
            first = run_chain(root / "chain", config, options.chain)
            again = run_chain(root / "chain", config, options.chain)
            facts = {"chain": options.chain, "shards": options.shards, "first_run_s": round(first)}
            print(json.dumps({**facts, "second_run_s": round(again, 2)}), flush=True)
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
