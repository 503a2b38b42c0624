"""Repeated keys are found in little memory, exactly as a set finds them."""

from __future__ import annotations

import random
import tracemalloc

import numpy as np

from curate.core.schema import make_key
from curate.sources.tables.repeats import KEY_BYTES, RepeatFinder, url_keys


def test_the_keys_are_those_of_the_schema() -> None:
    urls, captions = ["http://a", "", "\u00fc"], ["x", "", "\u4e2d" * 300]
    keys = url_keys(urls, captions)
    expected = [make_key(*pair) for pair in zip(urls, captions, strict=True)]
    assert [keys[i : i + KEY_BYTES].hex() for i in range(0, len(keys), KEY_BYTES)] == expected


def test_repeats_are_those_that_a_set_finds() -> None:
    rng = random.Random(0)
    pool = [rng.randbytes(KEY_BYTES) for _ in range(300)]
    pool += [key[:8] + rng.randbytes(2) for key in pool]  # equal in their first 64 bits
    rows = [rng.choice(pool) for _ in range(2000)]
    finder = RepeatFinder()
    for start in range(0, len(rows), 170):
        finder.add(b"".join(rows[start : start + 170]))
    seen: set[bytes] = set()
    expected = [row for row, key in enumerate(rows) if key in seen or seen.add(key)]
    assert finder.rows().tolist() == expected
    assert finder.rows().tolist() == expected


def test_nothing_has_no_repeats() -> None:
    assert RepeatFinder().rows().tolist() == []


def test_a_row_costs_ten_bytes_and_the_search_little_more() -> None:
    keys = np.random.default_rng(0).bytes(KEY_BYTES * 1_000_000)
    tracemalloc.start()
    finder = RepeatFinder()
    for start in range(0, len(keys), 100_000):
        finder.add(keys[start : start + 100_000])
    kept, _ = tracemalloc.get_traced_memory()
    finder.rows()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 10.5e6
    assert peak < 18.5e6
