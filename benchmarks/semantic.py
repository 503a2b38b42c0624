"""Time the semantic join against exhaustive search and faiss, and count what each finds.

    OMP_NUM_THREADS=2 python -m benchmarks.semantic [--rows 50000] [--dim 768] [--rounds 3]
    python -m benchmarks.semantic --recall        (cells of a row 1 to 4, on three kinds of data)

All are run once in each round, one after the other, on the same rows and with the threads of
OMP_NUM_THREADS; the medians are printed. Exhaustive search is the upper triangle of the product
matrix by numpy, 2,048 x 2,048 at a time; faiss is IndexIVFFlat with 316 lists and 4 probes. Recall
and precision are against the pairs whose cosine of the stored float16 rows is at least 0.95 in
float64. The rows: `clusters`, topics of Zipf's sizes with spread; `cone`, a mean direction and a
spectrum that falls off as CLIP's do; `sphere`, no structure at all. One in five is planted: another
row, turned so that the cosine lies evenly between 0.93 and 1.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import time
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from curate.core.seed import make_rng
from curate.stages.duplicates.cells import count_cells
from curate.stages.duplicates.cosine import join_cosine
from curate.stages.duplicates.embeddings import exact_cosines
from curate.stages.duplicates.pairs import Pairs

MIN_COSINE = 0.95
KINDS = ("clusters", "cone", "sphere")
Found = NDArray[np.int64]
"""Pairs as left * N + right, sorted, each once."""


def main() -> None:
    """Print a line for each way of joining, or for each number of cells of a row."""
    parser = argparse.ArgumentParser(description="Time the semantic join.")
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--recall", action="store_true")
    options = parser.parse_args()
    kinds = KINDS if options.recall else KINDS[:1]
    for kind in kinds:
        rows = make_rows(kind, options.rows, options.dim)
        truth = exhaustive(rows, exact=True)
        print(f"{kind}: {options.rows:,} x {options.dim} float16, {len(truth):,} pairs", flush=True)
        ways = recall_ways() if options.recall else WAYS
        measure(rows, truth, ways, 1 if options.recall else options.rounds)
    print(f"load {os.getloadavg()[0]:.1f}, threads {os.environ.get('OMP_NUM_THREADS', 'all')}")


def make_rows(kind: str, num: int, dim: int) -> NDArray[np.float16]:
    """Draw unit rows of a kind, one in five planted near another."""
    rng = make_rng(0, "benchmark", kind)
    sources = num * 4 // 5
    spread = unit(rng.standard_normal((sources, dim), dtype=np.float32))
    if kind == "clusters":
        topics = unit(rng.standard_normal((500, dim), dtype=np.float32))
        sizes = 1 / np.arange(1, 501)
        topic = topics[rng.choice(500, sources, p=sizes / sizes.sum())]
        rows = unit(topic + rng.uniform(0.4, 1.2, (sources, 1)).astype(np.float32) * spread)
    elif kind == "cone":
        scale = np.arange(1, dim + 1, dtype=np.float32) ** -0.5
        rows = rng.standard_normal((sources, dim), dtype=np.float32) * scale
        rows[:, 0] += 3
        rows = unit(rows)
    else:
        rows = spread
    source = rows[rng.integers(0, sources, num - sources)]
    cosine = rng.uniform(0.93, 1, (len(source), 1)).astype(np.float32)
    noise = rng.standard_normal(source.shape, dtype=np.float32)
    noise = unit(noise - (noise * source).sum(axis=1, keepdims=True) * source)
    planted = cosine * source + np.sqrt(1 - cosine**2) * noise
    return rng.permutation(np.concatenate([rows, planted])).astype(np.float16)


def unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def exhaustive(rows: NDArray[np.float16], *, exact: bool = False) -> Found:
    """Compare all with all; decide in float64 if the truth is wanted, else in float32."""
    table = unit(rows.astype(np.float32))
    found: list[Found] = []
    for left in range(0, len(table), 2048):
        for right in range(left, len(table), 2048):
            products = table[left : left + 2048] @ table[right : right + 2048].T
            if left == right:
                products = np.triu(products, k=1)
            least = MIN_COSINE - (1e-3 if exact else 0)
            one, other = np.divmod(np.flatnonzero(products >= least), products.shape[1])
            found.append((one + left) * len(table) + other + right)
    pairs = np.sort(np.concatenate(found))
    if not exact:
        return pairs
    return pairs[exact_cosines(rows, *np.divmod(pairs, len(rows))) >= MIN_COSINE]


def faiss_ivf(rows: NDArray[np.float16]) -> Found:
    """Search each row's neighbours in the 4 nearest of 316 lists."""
    import faiss

    table = unit(rows.astype(np.float32))
    index = faiss.IndexIVFFlat(
        faiss.IndexFlatIP(table.shape[1]), table.shape[1], 316, faiss.METRIC_INNER_PRODUCT
    )
    index.train(table)
    index.add(table)
    index.nprobe = 4
    starts, _, other = index.range_search(table, MIN_COSINE)
    one = np.repeat(np.arange(len(table)), np.diff(starts.astype(np.int64)))
    left, right = np.minimum(one, other), np.maximum(one, other)
    return np.unique((left * len(table) + right)[left != right])


def ours(rows: NDArray[np.float16]) -> Found:
    return as_found(join_cosine(rows, MIN_COSINE, seed=0).pairs, len(rows))


def as_found(pairs: Pairs, num_rows: int) -> Found:
    return pairs.left * num_rows + pairs.right


Way = Callable[[NDArray[np.float16]], Found]
WAYS: Mapping[str, Way] = {"exhaustive": exhaustive, "faiss nprobe 4": faiss_ivf, "ours": ours}


def recall_ways() -> Mapping[str, Way]:
    """Join with 1 to 4 cells for a row, the number of cells held."""

    def with_cells(count: int) -> Way:
        def join(rows: NDArray[np.float16]) -> Found:
            num_cells = count_cells(len(rows))
            more = {"num_cells": num_cells, "cells_per_row": count}
            return as_found(join_cosine(rows, MIN_COSINE, seed=0, **more).pairs, len(rows))

        return join

    return {f"{count} cells a row": with_cells(count) for count in (1, 2, 3, 4)}


def measure(rows: NDArray[np.float16], truth: Found, ways: Mapping[str, Way], rounds: int) -> None:
    """Run all ways in turn and print the medians."""
    wall: dict[str, list[float]] = {name: [] for name in ways}
    used: dict[str, list[float]] = {name: [] for name in ways}
    found: dict[str, Found] = {}
    for _ in range(rounds):
        for name, way in ways.items():
            start, cpu = time.perf_counter(), time.process_time()
            found[name] = way(rows)
            wall[name].append(time.perf_counter() - start)
            used[name].append(time.process_time() - cpu)
    first = statistics.median(used[next(iter(ways))])
    for name, pairs in found.items():
        hits = len(np.intersect1d(pairs, truth))
        cpu = statistics.median(used[name])
        print(
            f"  {name:<15} {statistics.median(wall[name]):6.2f} s, {cpu:6.2f} s of CPU"
            f" ({cpu / first:.2f})  recall {hits / len(truth):.5f}"
            f"  precision {hits / len(pairs):.5f}",
            flush=True,
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6  # KiB on Linux
    print(f"  peak of the process {peak:,.0f} MB", flush=True)


if __name__ == "__main__":
    main()
