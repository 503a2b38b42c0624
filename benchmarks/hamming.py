"""Measure the Hamming joins and the hash index beside faiss, on random, planted and hostile hashes.

`python -m benchmarks.hamming [--cases NAME ...] [--scale 1.0]` (needs `faiss-cpu`)

Every case is a process of its own with one thread, so that its peak memory is its own; times are of
CPU, for the machine may be shared. `base` is the process before the join: Python, numpy, pyarrow
and the hashes. Ours and the peer's are taken in one process, one after the other, and their pairs
compared as sets. `large` (10 million hashes) runs only when named.
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from collections.abc import Callable, Mapping
from multiprocessing import get_context

import numpy as np
from numpy.typing import NDArray

from curate.core.seed import make_rng
from curate.stages.duplicates.hamming import Joined, join
from curate.stages.duplicates.pairs import Pairs, order_pairs
from curate.stages.matching.hash_index import HashIndex

Hashes = NDArray[np.uint64]


def main() -> None:
    """Run the cases that are asked for, all but `large` by default."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=[*CASES][:-1])
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of hashes")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # read by faiss in the children
    for name in options.cases:
        print(f"-- {name}: {' '.join((CASES[name].__doc__ or '').split())}", flush=True)
        child = get_context("spawn").Process(target=CASES[name], args=(options.scale,))
        child.start()
        child.join()
        if child.exitcode:
            raise SystemExit(f"{name}: failed with exit code {child.exitcode}")


def million_radius_4(scale: float) -> None:
    """1 M random hashes of 64 bits and 1 % planted, radius 4 (bound: 6 s, 500 MB)."""
    hashes, planted = plant(round(1e6 * scale), 64, 4)
    check_planted(measured(hashes, 4), planted)
    sample = np.concatenate([hashes[: round(19_800 * scale)], hashes[-round(200 * scale) :]])
    compare("20k of them by brute force", join(sample, 4).pairs, lambda: brute_force(sample, 4))


def million_radius_8(scale: float) -> None:
    """1 M random hashes of 64 bits and 1 % planted, radius 8 (bound: 60 s)."""
    hashes, planted = plant(round(1e6 * scale), 64, 8)
    check_planted(measured(hashes, 8), planted)
    sample = np.concatenate([hashes[: round(19_800 * scale)], hashes[-round(200 * scale) :]])
    compare("20k of them by brute force", join(sample, 8).pairs, lambda: brute_force(sample, 8))


def peer_64_bits(scale: float) -> None:
    """50,000 hashes of 64 bits, radius 4, faiss IndexBinaryFlat beside ours."""
    hashes, _ = plant(round(5e4 * scale), 64, 4)
    beside_faiss(hashes, 4)


def pdq(scale: float) -> None:
    """100,000 hashes of 256 bits, radius 31, faiss IndexBinaryFlat beside ours (bound: 15 s)."""
    hashes, planted = plant(round(1e5 * scale), 256, 31)
    check_planted(beside_faiss(hashes, 31), planted)


def pdq_million(scale: float) -> None:
    """1 M random hashes of 256 bits and 1 % planted, radius 31."""
    hashes, planted = plant(round(1e6 * scale), 256, 31)
    check_planted(measured(hashes, 31), planted)


def hostile_radius_4(scale: float) -> None:
    """1 M hashes of 64 bits, half of them alike in some way, radius 4 (bound: 12 s)."""
    for name, hashes in hostile(round(1e6 * scale), 64):
        print(name, end=": ")
        measured(hashes, 4)


def hostile_radius_8(scale: float) -> None:
    """1 M hashes of 64 bits, half of them alike in some way, radius 8 (bound: 120 s)."""
    for name, hashes in hostile(round(1e6 * scale), 64):
        print(name, end=": ")
        measured(hashes, 8)


def hostile_pdq(scale: float) -> None:
    """100,000 hashes of 256 bits, half of them alike in some way, radius 31 (bound: 30 s)."""
    for name, hashes in hostile(round(1e5 * scale), 256):
        print(name, end=": ")
        measured(hashes, 31)


def index(scale: float) -> None:
    """Queries against lists of 256-bit hashes, radius 31, faiss IndexBinaryFlat beside ours."""
    for num_entries in (500, 1_000, 2_000, 5_000, 10_000, 100_000, 1_000_000):
        entries, _ = plant(round(num_entries * scale), 256, 31)
        queries, _ = plant(round(2_000 * scale), 256, 31)
        queries[::10] = entries[np.arange(len(queries[::10])) % len(entries)]
        begun = time.process_time()
        ours = HashIndex(entries)
        ours.within(queries[:1], 31)  # makes the tables
        built = time.process_time() - begun
        begun = time.process_time()
        found = ours.within(queries, 31)
        seconds = time.process_time() - begun
        print(f"{len(entries)} entries, built in {built:.2f} s", end=": ")
        theirs, peer = search_faiss(queries, entries, 31)
        same = theirs == set(zip(found.query.tolist(), found.entry.tolist(), strict=True))
        each = 1e6 / len(queries)
        print(f"{seconds * each:.0f} us a query, faiss {peer * each:.0f} us", end=", ")
        print(f"{peer / seconds:.1f} times as long", end="; ")
        print(f"{len(found)} matches, {'the same' if same else 'NOT the same'}", flush=True)


def search_faiss(
    queries: Hashes, entries: Hashes, radius: int
) -> tuple[set[tuple[int, int]], float]:
    """Give the (query, entry) that faiss finds and its CPU seconds."""
    import faiss

    flat_index = faiss.IndexBinaryFlat(256)
    flat_index.add(entries.view(np.uint8))
    begun = time.process_time()
    limits, _, labels = flat_index.range_search(queries.view(np.uint8), radius + 1)  # below
    seconds = time.process_time() - begun
    query = np.repeat(np.arange(len(queries)), np.diff(limits.astype(np.int64)))
    return set(zip(query.tolist(), labels.tolist(), strict=True)), seconds


def large(scale: float) -> None:
    """10 M random hashes of 64 bits and 1 % planted, radius 4."""
    hashes, planted = plant(round(1e7 * scale), 64, 4)
    check_planted(measured(hashes, 4), planted)


CASES: Mapping[str, Callable[[float], None]] = {
    "million_radius_4": million_radius_4,
    "million_radius_8": million_radius_8,
    "peer_64_bits": peer_64_bits,
    "pdq": pdq,
    "pdq_million": pdq_million,
    "hostile_radius_4": hostile_radius_4,
    "hostile_radius_8": hostile_radius_8,
    "hostile_pdq": hostile_pdq,
    "index": index,
    "large": large,
}


def plant(num: int, num_bits: int, radius: int) -> tuple[Hashes, int]:
    """Make random hashes and, behind them, 1 % of copies with 1 to `radius` bits flipped.

    Returns:
        uint64 [1.01 num] or [1.01 num, W], and the number of copies.
    """
    rng = make_rng(0, "benchmark hashes", str(num_bits), str(num))
    hashes = rng.integers(0, 2**64, size=(num, num_bits // 64), dtype=np.uint64)
    copies = hashes[: num // 100].copy()
    for row, copy in enumerate(copies):
        for bit in rng.choice(num_bits, size=row % radius + 1, replace=False).tolist():
            copy[bit // 64] ^= np.uint64(1 << bit % 64)
    return flat(np.concatenate([hashes, copies])), len(copies)


def hostile(num: int, num_bits: int) -> list[tuple[str, Hashes]]:
    """Make sets of which one half is random and the other alike."""
    rng = make_rng(0, "hostile hashes", str(num_bits))
    hashes = rng.integers(0, 2**64, size=(num, num_bits // 64), dtype=np.uint64)
    half = num // 2
    sets: list[tuple[str, Hashes]] = []
    some = hashes.copy()
    some[:half] = 7
    sets.append(("half are equal", flat(some)))
    for flips in (3, 6, 12):
        some = hashes.copy()
        some[:half] = 0
        for _ in range(flips):
            bit = rng.integers(0, num_bits, size=half)
            some[np.arange(half), bit // 64] ^= np.uint64(1) << (bit % 64).astype(np.uint64)
        sets.append((f"half have at most {flips} bits set", flat(some)))
    some = hashes.copy()
    some[:half, 0] &= np.uint64(2**40 - 1)
    sets.append(("half agree on 24 bits", flat(some)))
    return sets


def flat(hashes: Hashes) -> Hashes:
    return hashes[:, 0].copy() if hashes.shape[1] == 1 else hashes


def measured(hashes: Hashes, radius: int) -> Joined:
    """Join and print CPU time, memory and what was left out."""
    base = peak_mb()
    begun = time.process_time()
    joined = join(hashes, radius)
    seconds = time.process_time() - begun
    print(
        f"ours {seconds:.2f} s CPU, peak {peak_mb():.0f} MB (base {base:.0f}), "
        f"{len(joined.pairs)} pairs, {joined.num_heavy_runs} heavy runs, "
        f"{joined.num_skipped} comparisons left out",
        flush=True,
    )
    return joined


def check_planted(joined: Joined, num_copies: int) -> None:
    """Print how many planted copies were found with the hash that they are a copy of."""
    start = len(joined.first) - num_copies
    copies = joined.pairs.right - start
    found = np.unique(copies[(copies >= 0) & (joined.pairs.left == copies)])
    equal = np.count_nonzero(joined.first[start:] == np.arange(num_copies))
    print(f"planted: {num_copies}, found {len(found) + equal}")


def beside_faiss(hashes: Hashes, radius: int) -> Joined:
    """Join, let faiss do it, too, and print whether the pairs are the same."""
    begun = time.process_time()
    joined = measured(hashes, radius)
    seconds = time.process_time() - begun
    peer = compare("faiss", joined.pairs, lambda: faiss_pairs(hashes, radius))
    print(f"faiss takes {peer / seconds:.1f} times as long")
    return joined


def compare(name: str, ours: Pairs, peer: Callable[[], Pairs]) -> float:
    """Print the peer's CPU time and whether its pairs are ours; give its seconds."""
    begun = time.process_time()
    theirs = peer()
    seconds = time.process_time() - begun
    same = all(
        np.array_equal(getattr(ours, column), getattr(theirs, column))
        for column in ("left", "right", "distance")
    )
    verdict = "the same as ours" if same else "NOT the same as ours"
    print(f"{name}: {seconds:.2f} s CPU, {len(theirs)} pairs, {verdict}", flush=True)
    return seconds


def faiss_pairs(hashes: Hashes, radius: int) -> Pairs:
    """Search all hashes among all with faiss."""
    import faiss

    codes = hashes.view(np.uint8).reshape(len(hashes), -1)
    flat_index = faiss.IndexBinaryFlat(codes.shape[1] * 8)
    flat_index.add(codes)
    limits, distances, labels = flat_index.range_search(codes, radius + 1)  # below
    left = np.repeat(np.arange(len(hashes)), np.diff(limits.astype(np.int64)))
    once = left < labels
    return order_pairs(left[once], labels[once], distances[once].astype(np.float32))


def brute_force(hashes: Hashes, radius: int) -> Pairs:
    """Compare each hash with all after it."""
    left: list[NDArray[np.int64]] = []
    right: list[NDArray[np.int64]] = []
    for row in range(len(hashes)):
        near = np.flatnonzero(np.bitwise_count(hashes[row + 1 :] ^ hashes[row]) <= radius)
        left.append(np.full(len(near), row))
        right.append(near + row + 1)
    one, other = np.concatenate(left), np.concatenate(right)
    bits = np.bitwise_count(hashes[one] ^ hashes[other])
    return order_pairs(one, other, bits.astype(np.float32))


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
