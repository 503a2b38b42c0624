"""Measure dedup as a stage: drawn samples through all of its waves, one task after the other.

`python -m benchmarks.dedup [--samples 1000000] [--shards 100] [--bin-entries 20000000]
[--radius 6] [--crop-radius -1] [--workers 0] [--folder DIR]`

One sample in a hundred is a copy: of the file, of the pixels, or near; with `--crop-radius 8` one
more is cropped. Prints for each wave the
tasks, the seconds of all, the longest, and what the tasks read and wrote; the peak memory of the
process (every task in turn, so of the largest) and what was found of what was planted. With
`--workers` the tasks run on as many Dask workers instead, and memory is not measured.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from benchmarks.dedup_inputs import (
    add_miniatures,
    cut_shards,
    draw_samples,
    open_inputs,
    plant_copies,
    write_inputs,
)
from curate.core.attempt import Outcome
from curate.core.commit import Output
from curate.core.engine import run_stage
from curate.core.engine_config import EngineConfig
from curate.core.executor import open_executor
from curate.core.manifest import find_markers
from curate.core.shard import ShardSet
from curate.core.store import LocalStore
from curate.stages.dedup import DedupConfig, DedupStage

CHUNK = 1_000_000  # samples drawn at once


class Waves:
    """A progress that adds up the tasks of each wave."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, list[float]] = defaultdict(list[float])
        self.peaks: dict[str, float] = {}

    def start(self, stage: str, *, todo: int, done: int) -> None: ...

    def advance(self, outcome: Outcome) -> None:
        name = wave_of(outcome.shard)
        self.seconds[name].append(outcome.seconds)
        self.peaks[name] = peak_mb()

    def finish(self) -> None: ...


def wave_of(shard: str) -> str:
    return shard.split("-")[0] if shard.startswith("_") else "verdicts"


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def write_samples(folder: Path, count: int, num_shards: int, *, with_miniatures: bool) -> int:
    """Write the inputs in a child process, so that their memory is not measured; give the pairs."""
    num_pairs = 0
    at_once = CHUNK // 10 if with_miniatures else CHUNK
    for chunk, start in enumerate(range(0, count, at_once)):
        size = min(at_once, count - start)
        samples = draw_samples(size, chunk)
        num_pairs += plant_copies(samples, chunk)
        if with_miniatures:
            num_pairs += add_miniatures(samples, chunk)
        some = cut_shards(size, max(1, num_shards * size // count))
        write_inputs(folder, samples, {f"{chunk:03d}{name}": rows for name, rows in some.items()})
    return num_pairs


def in_child(folder: Path, count: int, num_shards: int, *, with_miniatures: bool) -> int:
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        pairs = write_samples(folder, count, num_shards, with_miniatures=with_miniatures)
        os.write(writer, str(pairs).encode())
        os._exit(0)
    os.waitpid(child, 0)
    return int(os.read(reader, 64) or b"0")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--shards", type=int, default=100)
    parser.add_argument("--bin-entries", type=int, default=20_000_000)
    parser.add_argument("--radius", type=int, default=6)
    parser.add_argument("--crop-radius", type=int, default=-1)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--folder", default="")
    options = parser.parse_args()
    folder = Path(options.folder or tempfile.mkdtemp(prefix="dedup-"))
    with_miniatures = options.crop_radius > 0
    num_pairs = in_child(folder, options.samples, options.shards, with_miniatures=with_miniatures)
    own = folder / "dedup"
    own.mkdir()
    config = DedupConfig(
        bin_entries=options.bin_entries,
        phash_radius=options.radius,
        crop_radius=options.crop_radius,
    )
    stage = DedupStage(config, open_inputs(folder), {}, seed=0, own=ShardSet(own))
    name = "local" if options.workers else "inline"
    engine = EngineConfig(name=name, num_workers=options.workers)
    waves, start, cpu = Waves(), time.monotonic(), time.process_time()
    with open_executor(engine) as executor:
        report = run_stage(stage, Output(store=LocalStore(own)), executor, waves)
    wall, cpu = time.monotonic() - start, time.process_time() - cpu
    print(
        f"{options.samples:,} samples, {wall:.1f} s, {cpu:.1f} s of CPU, peak {peak_mb():,.0f} MB"
    )
    written: defaultdict[str, int] = defaultdict(int)
    names = [path.name.removesuffix(".done.json") for path in own.glob("*.done.json")]
    for shard, marker in find_markers(LocalStore(own), names):
        files = marker.files.values() if marker else ()
        written[wave_of(shard)] += sum(file.bytes for file in files)
    print(f"{'wave':>12} {'tasks':>6} {'seconds':>8} {'longest':>8} {'MB':>8} {'peak MB':>8}")
    for wave, seconds in waves.seconds.items():
        print(
            f"{wave:>12} {len(seconds):>6} {sum(seconds):>8.1f} {max(seconds):>8.1f} "
            f"{written[wave] / 1e6:>8,.0f} {waves.peaks[wave]:>8,.0f}"
        )
    dropped = sum(n for name, n in report.counts.items() if name.startswith("dropped.dup"))
    print(f"planted {num_pairs:,} pairs, dropped {dropped:,}: {dict(report.counts)}")
    if not options.folder:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
