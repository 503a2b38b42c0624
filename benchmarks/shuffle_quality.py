"""Measure how well orders mix sorted data: variance of a batch's mean over that of free draws.

    python -m benchmarks.shuffle_quality --peers /tmp/peers/bin/python

Ids alone are read: a million samples, stored sorted, in shards of 5,000; batches of 256. R = 1 is
as good as independent draws; R = 256 is no shuffling. "clustered": the samples of a shard are alike
and shards are in no order, as crawls are; there no order that reads blocks is quite free.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SHARD, BATCH = 5000, 256


def ours(num_samples: int) -> Any:
    from train.blocks import EndlessOrder

    return EndlessOrder(num_samples, 0, "a").items(0, num_samples)[0]


def permutation(num_samples: int) -> Any:
    return np.random.default_rng(0).permutation(num_samples)


def webdataset(num_samples: int, buffer: int = 1000) -> Any:
    """Shuffle the shards, then samples by its own filter."""
    import random

    from webdataset import filters

    shards = list(range(num_samples // SHARD))
    random.Random(0).shuffle(shards)
    stream = (shard * SHARD + i for shard in shards for i in range(SHARD))
    return np.fromiter(filters._shuffle(stream, buffer, 100, random.Random(0)), np.int64)


def webdataset_10000(num_samples: int) -> Any:
    return webdataset(num_samples, 10_000)


def mds(num_samples: int, algorithm: str = "py1e") -> Any:
    """Shuffle by mosaicml-streaming's default, with its default block."""
    from streaming.base.shuffle import get_shuffle

    sizes = np.full(num_samples // SHARD, SHARD, np.int64)
    return get_shuffle(algorithm, sizes, 1, 0, 0, 1 << 18)


def mds_py1s(num_samples: int) -> Any:
    return mds(num_samples, "py1s")


def litdata(num_samples: int) -> Any:
    """Shuffle chunks, then the samples inside each, as its FullShuffle does."""
    rng = np.random.default_rng(0)
    chunks = rng.permutation(num_samples // SHARD)
    return np.concatenate([chunk * SHARD + rng.permutation(SHARD) for chunk in chunks])


OURS: dict[str, Callable[[int], Any]] = {"latentmill": ours, "full permutation": permutation}
PEERS: dict[str, Callable[[int], Any]] = {
    "webdataset shuffle(1000)": webdataset,
    "webdataset shuffle(10000)": webdataset_10000,
    "MDS py1e": mds,
    "MDS py1s": mds_py1s,
    "litdata (its rule)": litdata,
}


def judge(order: Any, num_samples: int) -> tuple[float, float, bool]:
    """Give R on sorted and on clustered data, and whether each sample comes once."""
    clusters = np.random.default_rng(1).permutation(num_samples // SHARD)
    ratios: list[float] = []
    for values in (order.astype(np.float64), clusters[order // SHARD].astype(np.float64)):
        means = values[: len(values) // BATCH * BATCH].reshape(-1, BATCH).mean(axis=1)
        ratios.append(float(means.var() / (values.var() / BATCH)))
    is_whole = bool(np.array_equal(np.sort(order), np.arange(num_samples)))
    return ratios[0], ratios[1], is_whole


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--peers", help="Python that has webdataset and mosaicml-streaming")
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        order = (OURS | PEERS)[options.one](options.samples)
        print(json.dumps(judge(np.asarray(order), options.samples)))
        return
    print(f"{'order':28s} {'R sorted':>9s} {'R clustered':>12s}  each once")
    for name in [*OURS, *(PEERS if options.peers else {})]:
        python = sys.executable if name in OURS else options.peers
        command = [python, __file__, "--samples", str(options.samples), "--one", name]
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        lines = done.stdout.strip().splitlines()
        if done.returncode:
            print(f"{name:28s} failed: {done.stderr.strip().splitlines()[-1]}")
            continue
        ordered, clustered, is_whole = json.loads(lines[-1])
        print(f"{name:28s} {ordered:9.2f} {clustered:12.2f}  {is_whole}")


if __name__ == "__main__":
    main()
