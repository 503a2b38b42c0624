"""Hold look-ups in a block list against threatexchange's PDQ index: equal matches, and the time.

    python -m benchmarks.blocklist_parity [--entries 100000] [--queries 4000]

    random list -> a quarter of its entries are near others -> both indexes
    queries: half random, half an entry with 0 to 40 bits flipped -> matches within 31 bits of both
    10,000 entries within 12 bits of one hash, 2,000 queries likewise -> nearest, against counting

Needs `pip install threatexchange faiss-cpu`. Theirs is `PDQIndex`, which holds a faiss
IndexBinaryMultiHash; all queries are given at once, as `search_with_distance_in_result` takes them,
and one by one, as `query` is called. Times are CPU seconds of one process with one thread. Also
compares our PDQ hashes with `pdqhash` on drawn pictures. Exits with 1 where anything differs.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate.annotators.pdq_hash import measure_spectrum, pack_hash
from curate.core.seed import make_rng
from curate.stages.matching.hash_index import HashIndex
from pipelines.toyweb.faults import draw_text, draw_watermark
from pipelines.toyweb.scene import random_scene, render

RADIUS = 31  # Source: threatexchange 1.2.17, PDQ_CONFIDENT_MATCH_THRESHOLD
MOST_FLIPPED = 40  # chosen by us: planted queries lie on both sides of the radius
NUM_PICTURES = 200
CROWD_ENTRIES, CROWD_QUERIES, CROWD_BITS = 10_000, 2_000, 12

Match = tuple[int, int, int]  # query, entry, bits


def main() -> None:
    """Match by both, compare, print."""
    parser = argparse.ArgumentParser(description="Compare a block list's matches with a peer's.")
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=4_000)
    options = parser.parse_args()
    entries, queries = make_hashes(options.entries, options.queries)
    ours_made, index = _time(lambda: HashIndex(entries))
    ours, found = _time(lambda: index.within(queries, RADIUS))
    rows = (found.query.tolist(), found.entry.tolist(), found.distance.astype(int).tolist())
    matches = set(zip(*rows, strict=True))
    theirs_made, peer = _time(lambda: make_peer(entries))
    theirs, peer_matches = _time(lambda: match_by_peer(peer, queries))
    single = queries[: len(queries) // 8]
    ours_single, _ = _time(lambda: [index.within(one[None], RADIUS) for one in single])
    theirs_single, _ = _time(lambda: [peer.query(name) for name in hex_names(single)])
    same = matches == peer_matches
    print(f"{len(entries)} entries, {len(queries)} queries: {len(matches)} matches, "
          f"{'equal' if same else f'{len(matches ^ peer_matches)} differ'}")  # fmt: skip
    for what, one, other in (
        ("make the index", ours_made, theirs_made),
        ("all queries at once", ours, theirs),
        (f"{len(single)} queries one by one", ours_single, theirs_single),
    ):
        print(f"{what}: ours {one:.3f} s, threatexchange {other:.3f} s, {other / one:.2f} times")
    same_crowd = compare_crowd()
    num_equal = count_equal_hashes()
    print(f"PDQ of {NUM_PICTURES} drawn pictures: {num_equal} equal to pdqhash's")
    sys.exit(0 if same and same_crowd and num_equal == NUM_PICTURES else 1)


def make_hashes(
    num_entries: int, num_queries: int
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Make a list with near entries in it, and queries near and far: uint64 [M, 4], [N, 4]."""
    rng = make_rng(0, "blocklist parity")
    entries = rng.integers(0, 2**64, (num_entries, 4), np.uint64)
    near = rng.permutation(num_entries)[: num_entries // 4]
    entries[near] = _flip(entries[rng.integers(0, num_entries, len(near))], rng)
    queries = rng.integers(0, 2**64, (num_queries, 4), np.uint64)
    planted = rng.integers(0, num_entries, num_queries // 2)
    queries[: len(planted)] = _flip(entries[planted], rng)
    return entries, queries


def compare_crowd() -> bool:
    """Look near queries up in a list of near entries, print the time, compare with counting."""
    rng = make_rng(0, "blocklist crowd")
    center = rng.integers(0, 2**64, (1, 4), np.uint64)
    entries = _flip(np.repeat(center, CROWD_ENTRIES, axis=0), rng, CROWD_BITS)
    queries = _flip(np.repeat(center, CROWD_QUERIES, axis=0), rng, CROWD_BITS)
    index = HashIndex(entries)
    ours, found = _time(lambda: index.nearest(queries, RADIUS))
    counting, nearest = _time(lambda: [count_bits(query, entries).min() for query in queries])
    same = found.distance.tolist() == nearest
    print(f"{CROWD_QUERIES} near queries, {CROWD_ENTRIES} near entries: ours {ours:.3f} s, "
          f"counting {counting:.3f} s, {'equal' if same else 'differ'}")  # fmt: skip
    return same


def count_bits(query: NDArray[np.uint64], entries: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Count the bits in which each entry differs: [4], [M, 4] -> [M]."""
    return np.bitwise_count(entries ^ query).sum(axis=1, dtype=np.int64)


def _flip(
    hashes: NDArray[np.uint64], rng: np.random.Generator, most: int = MOST_FLIPPED
) -> NDArray[np.uint64]:
    """Flip 0 to `most` bits of each hash, anywhere."""
    counts = rng.integers(0, most + 1, len(hashes))
    places = rng.permuted(np.tile(np.arange(256), (len(hashes), 1)), axis=1)
    bits = (places < counts[:, None]).astype(np.uint8)
    return hashes ^ np.packbits(bits, axis=1).view(np.uint64)


def hex_names(hashes: NDArray[np.uint64]) -> Sequence[str]:
    """Write hashes as threatexchange reads them."""
    return [row.tobytes().hex() for row in hashes]


def make_peer(entries: NDArray[np.uint64]) -> Any:
    """Fill threatexchange's index; an entry's payload is its row."""
    import faiss
    from threatexchange.signal_type.pdq.pdq_index import PDQIndex

    threads: Any = faiss
    threads.omp_set_num_threads(1)
    return PDQIndex([(name, row) for row, name in enumerate(hex_names(entries))])


def match_by_peer(peer: Any, queries: NDArray[np.uint64]) -> set[Match]:
    """List (query, entry, bits) of all queries, given at once."""
    names = hex_names(queries)
    rows = {name: row for row, name in enumerate(names)}
    found = peer.index.search_with_distance_in_result(names, RADIUS)
    return {
        (rows[name], int(entry), int(bits))
        for name, near in found.items()
        for entry, _, bits in near
    }


def count_equal_hashes() -> int:
    """Count the drawn pictures whose PDQ hash is the library's, bit for bit."""
    import pdqhash

    library: Any = pdqhash
    rng = make_rng(0, "blocklist parity pictures")
    num_equal = 0
    for row in range(NUM_PICTURES):
        height, width = (int(side) for side in rng.integers(96, 400, 2))
        pixels = render(random_scene(rng), height, width, jitter=rng)
        pixels = (draw_watermark if row % 2 else draw_text)(pixels, rng)
        bits, _ = library.compute(pixels)
        theirs = np.packbits(np.asarray(bits, bool)).tobytes()
        num_equal += pack_hash(measure_spectrum(pixels).frequencies) == theirs
    return num_equal


def _time(call: Callable[[], Any]) -> tuple[float, Any]:
    started = time.process_time()
    found = call()
    return time.process_time() - started, found


if __name__ == "__main__":
    main()
