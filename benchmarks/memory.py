"""Watch the memory of every map stage while it goes through ever more shards.

`python -m benchmarks.memory [--shards 1000] [--plot docs/memory.png]`

A folder of toy pictures, four a shard, is taken to latents with engine=inline, each stage in a
process of its own. Resident memory is read after every shard; a stage is flat when the second half
of the shards adds nothing. Prints MB after 10, 100 and all shards, and draws the curves.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.kills import make_folder

STAGES = ("ingest", "annotate", "filter", "dedup", "recaption", "judge", "bucket", "encode")
PICTURES_PER_SHARD = 4


class Watcher:
    """Read resident memory after every shard."""

    def __init__(self) -> None:
        self.megabytes: list[float] = []

    def start(self, stage: str, *, todo: int, done: int) -> None: ...

    def advance(self, outcome: object) -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.megabytes.append(round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1))

    def finish(self) -> None: ...


def watch(stage: str, pictures: str, out: str) -> None:
    """Run one stage in this process and print its curve."""
    from pipelines.request import parse_request
    from pipelines.run import run_request

    watcher = Watcher()
    request = parse_request(
        [
            f"stages=[{','.join(STAGES)}]", f"stage={stage}", f"input={pictures}", f"out={out}",
            "models=toy", "engine=inline", f"ingest.shard_size={PICTURES_PER_SHARD}",
            "bucket.resolutions=[64]", f"bucket.shard_size={PICTURES_PER_SHARD}",
        ]
    )  # fmt: skip
    run_request(request, watcher)
    print(json.dumps(watcher.megabytes))


def plot(curves: dict[str, list[float]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for stage, curve in curves.items():
        axes.plot(range(1, len(curve) + 1), curve, label=stage, linewidth=1.2)
    axes.set(xlabel="shards done", ylabel="resident memory, MB", ylim=(0, None))
    axes.legend(frameon=False, ncols=2, fontsize=8)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shards", type=int, default=1000)
    parser.add_argument("--plot", type=Path, default=None)
    parser.add_argument("--watch", nargs=3, default=None, help="stage, pictures, out; for itself")
    options = parser.parse_args()
    if options.watch:
        watch(*options.watch)
        return
    root = Path(tempfile.mkdtemp())
    curves: dict[str, list[float]] = {}
    try:
        make_folder(root / "pictures", options.shards * PICTURES_PER_SHARD, seed=0)
        for stage in STAGES:
            done = subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "benchmarks.memory",
                    "--watch",
                    stage,
                    root / "pictures",
                    root / "out",
                ],
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            curve = json.loads(done.stdout.splitlines()[-1])
            if len(curve) > 10:
                curves[stage] = curve
                marks = {str(n): curve[min(n, len(curve)) - 1] for n in (10, 100, len(curve))}
                facts = {"stage": stage, "shards": len(curve), "mb_after": marks}
                half = curve[len(curve) // 2]
                print(json.dumps({**facts, "second_half_mb": round(curve[-1] - half, 1)}))
                sys.stdout.flush()
    finally:
        shutil.rmtree(root)
    if options.plot:
        plot(curves, options.plot)


if __name__ == "__main__":
    main()
