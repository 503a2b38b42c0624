"""Time the clusters of made-up edges, and how much memory they need beside edges and facts.

    python -m benchmarks.dedup_clusters --edges 5000000

Each shape is a process of its own, so that its peak memory is its own: `crowd`, many edges between
few samples, one component of all; `web`, components of all sizes; `pairs`, two new samples for each
edge, the most that there can be; `chain`, one component in order of preference, the slowest to
split, with a fifth of the edges. Edges are of all kinds, a quarter of them equalities; a third of
the sizes tie. Reads Linux's `/proc`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.dedup_inputs import hex_column
from curate.core.seed import make_rng
from curate.stages.duplicates.clusters import find_clusters
from curate.stages.duplicates.edges import Edges, Kind
from curate.stages.duplicates.keepers import KeeperPolicy

# Shape -> samples to draw the ends from, for each edge.
_SAMPLES: Mapping[str, float] = {"crowd": 0.1, "web": 0.8}
SHAPES = (*_SAMPLES, "pairs", "chain")
_KIND_SHARES = (0.1, 0.1, 0.05, 0.45, 0.1, 0.2)
_SPREAD = 100  # row numbers are drawn from so many times the edges, as in a set with few duplicates


def draw_edges(shape: str, num: int) -> Edges:
    """Draw about `num` edges of a shape; only those of a chain are all near."""
    rng = make_rng(0, "dedup_clusters", shape)
    if shape in _SAMPLES:
        rows = rng.integers(0, _SPREAD * num, int(_SAMPLES[shape] * num))
        left, right = rows[rng.integers(0, len(rows), (2, num))]
    elif shape == "pairs":
        left, right = rng.permutation(2 * num).reshape(2, num) * (_SPREAD // 2)
    else:
        left, right = np.arange(num), np.arange(1, num + 1)
    apart = left != right
    left, right = left[apart], right[apart]
    kind = rng.choice(len(Kind), len(left), p=_KIND_SHARES).astype(np.int8)
    if shape == "chain":
        kind[:] = Kind.NEAR
    distance = np.where(kind <= Kind.LOOK, 0, rng.integers(0, 9, len(left))).astype(np.float32)
    return Edges(left=left, right=right, kind=kind, distance=distance)


def draw_facts(shape: str, num: int) -> pa.Table:
    """Describe the samples; in a chain the smaller row is the better sample."""
    rng = make_rng(0, "dedup_clusters", shape, "facts")
    sizes = rng.integers(1, 1 << 20, num)
    sizes[rng.random(num) < 1 / 3] = 1 << 19
    return pa.table(
        {
            "key": hex_column(rng.integers(0, 256, (num, 10), dtype=np.uint8)),
            "shard": pa.array([f"{n:05d}" for n in range(1000)]).take(
                pa.array(np.arange(num) * 1000 // max(num, 1))
            ),
            "num_pixels": np.arange(num, 0, -1) if shape == "chain" else sizes,
            "clip.similarity": rng.random(num, np.float32),
        }
    )


def resident() -> tuple[int, int]:
    """Give resident memory and its peak since the last reset, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    found = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Vm")}
    return int(found["VmRSS"]) * 1024, int(found["VmHWM"]) * 1024


def measure(shape: str, num: int) -> None:
    """Cluster one shape and print its line."""
    edges = draw_edges(shape, num)
    facts = draw_facts(shape, len(edges.rows()))
    pa.default_memory_pool().release_unused()
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before, _ = resident()
    start_s = time.process_time()
    policy = KeeperPolicy(rules=("resolution", "similarity"))
    found = find_clusters(edges, facts, policy)
    spent_s = time.process_time() - start_s
    extra = resident()[1] - before
    keepers: NDArray[np.bool_] = found.rows["edge"].is_null().to_numpy()
    print(
        f"{shape:6} {len(edges):>10,} edges {len(facts):>11,} samples {spent_s:6.1f} CPU s  "
        f"{extra / len(edges):4.0f} B an edge  {found.num_components:>9,} components, "
        f"{found.num_split:,} split, {int(keepers.sum()):,} clusters",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--edges", type=int, default=5_000_000)
    parser.add_argument("--shape", choices=SHAPES, default=None, help="for itself")
    options = parser.parse_args()
    if options.shape:
        measure(options.shape, options.edges)
        return
    for shape in SHAPES:
        command = [sys.executable, "-m", "benchmarks.dedup_clusters"]
        edges = options.edges // 5 if shape == "chain" else options.edges
        command += ["--edges", str(edges), "--shape", shape]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


if __name__ == "__main__":
    main()
