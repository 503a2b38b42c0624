"""The semantic join finds what exhaustive search in float64 finds, within its bounds."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from curate.core.errors import ConfigError, DataError
from curate.core.seed import make_rng
from curate.stages.duplicates.cells import fit_cells, nearest_cells
from curate.stages.duplicates.cosine import join_cosine, pairs_above
from curate.stages.duplicates.cosine_blocks import Cell
from curate.stages.duplicates.pairs import Pairs
from curate.stages.duplicates.stars import choose_keepers


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def planted(num: int, dim: int, seed: int, num_topics: int = 30) -> NDArray[np.float16]:
    """Topics with spread, and copies whose cosine to their source lies between .9 and 1."""
    rng = make_rng(seed, "planted")
    topics = unit(rng.standard_normal((num_topics, dim)))
    sources = num * 3 // 4
    spread = rng.uniform(0.5, 1.5, (sources, 1)) * unit(rng.standard_normal((sources, dim)))
    rows = unit(topics[rng.integers(0, num_topics, sources)] + spread)
    source = rows[rng.integers(0, sources, num - sources)]
    cosine = rng.uniform(0.9, 1, (num - sources, 1))
    noise = rng.standard_normal(source.shape)
    noise = unit(noise - (noise * source).sum(axis=1, keepdims=True) * source)
    copies = cosine * source + np.sqrt(1 - cosine**2) * noise
    return rng.permutation(np.concatenate([rows, copies])).astype(np.float16)


def cosines(rows: np.ndarray) -> np.ndarray:
    exact = rows.astype(np.float64)
    products = exact @ exact.T
    return products / np.sqrt(np.outer(products.diagonal(), products.diagonal()))


def exhaustive(rows: np.ndarray, min_cosine: float) -> list[tuple[int, int]]:
    left, right = np.nonzero(np.triu(cosines(rows) >= min_cosine, k=1))
    return list(zip(left.tolist(), right.tolist(), strict=True))


def as_list(pairs: Pairs) -> list[tuple[int, int]]:
    return list(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True))


def compare(rows: np.ndarray, min_cosine: float, **more: int) -> list[tuple[int, int]]:
    found = pairs_above(rows, np.arange(len(rows)), min_cosine, **more)
    return as_list(found.pairs)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_pairs_and_distances_equal_exhaustive_search(dtype: type) -> None:
    rows = planted(2600, 48, seed=1).astype(dtype)  # more than a block of 2048 rows
    found = pairs_above(rows, np.arange(len(rows)), 0.95)
    expected = exhaustive(rows, 0.95)
    assert as_list(found.pairs) == expected
    assert len(expected) > 300
    distances = 1 - cosines(rows)[found.pairs.left, found.pairs.right]
    np.testing.assert_allclose(found.pairs.distance, distances, rtol=1e-6, atol=1e-12)
    assert found.num_crowded == 0


def test_row_numbers_name_the_pairs() -> None:
    rows = planted(200, 32, seed=2)
    numbers = make_rng(2, "numbers").permutation(len(rows)) * 1_000_003
    found = pairs_above(rows, numbers, 0.95)
    expected = [tuple(sorted((numbers[a], numbers[b]))) for a, b in exhaustive(rows, 0.95)]
    assert as_list(found.pairs) == sorted(expected)


def test_threshold_is_inclusive_and_exact_where_float32_is_blind() -> None:
    rows = planted(400, 768, seed=3)
    some = pairs_above(rows, np.arange(len(rows)), 0.93).pairs
    for left, right in list(zip(some.left, some.right, strict=True))[:20]:
        a, b = ([Fraction(float(value)) for value in rows[row]] for row in (left, right))
        dot = sum(x * y for x, y in zip(a, b, strict=True))
        norms = float(sum(x * x for x in a)) * float(sum(y * y for y in b))
        cosine = float(dot) / norms**0.5
        assert (left, right) in compare(rows, cosine)
        assert (left, right) not in compare(rows, float(np.nextafter(cosine, 2)))


def test_order_of_rows_changes_nothing() -> None:
    rows = planted(2300, 64, seed=4)
    order = make_rng(4, "order").permutation(len(rows))
    found = pairs_above(rows, np.arange(len(rows)), 0.95).pairs
    again = pairs_above(rows[order], order, 0.95).pairs
    assert as_list(again) == as_list(found)
    assert again.distance.tobytes() == found.distance.tobytes()


_JOIN = """
import sys
import numpy as np
from curate.stages.duplicates.cosine import join_cosine
pairs = join_cosine(np.load(sys.argv[1]), 0.95, seed=0, num_cells=30).pairs
sys.stdout.buffer.write(pairs.left.tobytes() + pairs.right.tobytes() + pairs.distance.tobytes())
"""


def test_threads_change_nothing(tmp_path: Path) -> None:
    rows = planted(1500, 128, seed=17)
    np.save(tmp_path / "rows.npy", rows)
    command = [sys.executable, "-c", _JOIN, str(tmp_path / "rows.npy")]
    outputs = [
        subprocess.run(
            command,
            env={**os.environ, "OMP_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count},
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
        for count in ("1", "2")
    ]
    assert outputs[0] == outputs[1]
    assert len(outputs[0]) > 20 * 150  # bytes of a pair


def test_every_pair_with_a_common_cell_is_told_by_one_cell() -> None:
    rows = planted(1500, 48, seed=5)
    near = nearest_cells(rows, fit_cells(rows, 25, seed=0), 3)
    told: list[tuple[int, int]] = []
    for number in range(25):
        here = np.flatnonzero((near == number).any(axis=1))
        cell = Cell(number=number, near=near[here])
        told += as_list(pairs_above(rows[here], here, 0.95, cell=cell).pairs)
    expected = [
        (left, right)
        for left, right in exhaustive(rows, 0.95)
        if set(near[left].tolist()) & set(near[right].tolist())
    ]
    assert sorted(told) == expected
    assert len(expected) > 200


def test_copies_in_several_cells_are_told_once_and_leave_the_keepers() -> None:
    rows = planted(300, 48, seed=18)
    rng = make_rng(18, "copies")
    rows = np.concatenate([rows, rows[rng.integers(0, 9, 150)]])[rng.permutation(450)]
    found = join_cosine(rows, 0.95, seed=0, num_cells=12)
    pairs = as_list(found.pairs)
    assert len(set(pairs)) == len(pairs)
    expected = exhaustive(rows, 0.95)
    assert set(pairs) <= set(expected)
    assert len(pairs) < len(expected) - 500  # of 17 copies on average 4 speak
    assert star_of(450, pairs).tolist() == star_of(450, expected).tolist()


def test_equal_rows_cost_linear_time_and_pairs() -> None:
    row = planted(4, 64, seed=8)[:1]
    start = time.process_time()
    for num in (5, 50_000):
        found = pairs_above(np.repeat(row, num, axis=0), np.arange(num), 0.95)
        assert len(found.pairs) == 6 + 4 * (num - 4)  # 4 speak, the others follow them
        assert not found.pairs.distance.any()
        assert found.num_crowded == num - 4
    assert time.process_time() - start < 10  # all pairs of 50,000 would take hours


def star_of(num: int, pairs: list[tuple[int, int]]) -> np.ndarray:
    """Choose keepers, the smaller row first, as the clusters do."""
    ends = np.array(pairs, np.int32).reshape(-1, 2)
    return choose_keepers(ends[:, 0], ends[:, 1], num)


def test_equal_rows_leave_the_keepers_as_all_pairs_do() -> None:
    rows = planted(600, 48, seed=9)
    rng = make_rng(9, "copies")
    rows = np.concatenate([rows, rows[rng.integers(0, 12, 500)]])[rng.permutation(1100)]
    found = pairs_above(rows, np.arange(len(rows)), 0.95)
    assert found.num_crowded > 400
    expected = exhaustive(rows, 0.95)
    assert set(as_list(found.pairs)) <= set(expected)
    assert len(found.pairs) < len(expected) / 3
    assert star_of(1100, as_list(found.pairs)).tolist() == star_of(1100, expected).tolist()


def test_a_crowd_keeps_its_pairs_with_the_first_rows() -> None:
    rng = make_rng(10, "crowd")
    noise = unit(rng.standard_normal((2500, 64)))
    crowd = unit(unit(rng.standard_normal((1, 64))) + 0.1 * noise).astype(np.float16)
    found = pairs_above(crowd, np.arange(len(crowd)), 0.95, max_neighbours=20)
    expected = [(left, right) for right in range(2500) for left in range(min(right, 20))]
    assert as_list(found.pairs) == sorted(expected)
    assert found.num_crowded == 2480
    everything = exhaustive(crowd, 0.95)
    assert len(everything) == 2500 * 2499 // 2
    assert star_of(2500, expected).tolist() == star_of(2500, everything).tolist()


def test_each_row_keeps_the_first_of_its_own_neighbours() -> None:
    rng = make_rng(19, "crowds")  # of 3 sizes, mixed with strangers; blocks are of 256 rows
    group = rng.choice(8, 1400, p=[0.5, 0.2, 0.05, *[0.05] * 5])
    centres = unit(rng.standard_normal((8, 64)))
    spread = np.where(group < 3, 0.1, 3.0)[:, None]
    noise = unit(rng.standard_normal((1400, 64)))
    rows = unit(centres[group] + spread * noise).astype(np.float16)
    found = pairs_above(rows, np.arange(1400), 0.95, max_neighbours=70)
    kept: dict[int, list[int]] = {}
    for left, right in exhaustive(rows, 0.95):
        kept.setdefault(right, []).append(left)
    expected = [(left, right) for right, lefts in kept.items() for left in lefts[:70]]
    assert as_list(found.pairs) == sorted(expected)
    assert found.num_crowded == sum(len(lefts) >= 70 for lefts in kept.values())
    assert {len(lefts) >= 70 for lefts in kept.values()} == {False, True}


def test_one_machine_finds_999_of_1000_and_nothing_false() -> None:
    rows = planted(4800, 48, seed=11, num_topics=200)  # too many to be one cell
    found = join_cosine(rows, 0.95, seed=0)
    expected = set(exhaustive(rows, 0.95))
    assert set(as_list(found.pairs)) <= expected
    assert len(found.pairs) >= 0.999 * len(expected)
    assert len(expected) > 500
    again = join_cosine(rows, 0.95, seed=0)
    assert as_list(again.pairs) == as_list(found.pairs)


def test_more_cells_for_a_row_lose_no_pair_that_fewer_find() -> None:
    rows = planted(2000, 32, seed=12)
    found = [
        set(as_list(join_cosine(rows, 0.9, seed=0, num_cells=40, cells_per_row=count).pairs))
        for count in (1, 2, 4)
    ]
    assert found[0] < found[1] <= found[2] <= set(exhaustive(rows, 0.9))


def test_equal_rows_are_no_trouble_on_one_machine() -> None:
    row = planted(4, 64, seed=13)[:1]
    found = join_cosine(np.repeat(row, 20_000, axis=0), 0.95, seed=0)
    assert len(found.pairs) == 6 + 4 * 19_996
    assert found.num_crowded == 19_996


def test_few_rows_are_no_trouble() -> None:
    rows = planted(8, 32, seed=14)
    assert len(join_cosine(rows[:0], 0.95, seed=0).pairs) == 0
    assert len(join_cosine(rows[:1], 0.95, seed=0).pairs) == 0
    assert as_list(join_cosine(rows[[0, 0]], 1.0, seed=0).pairs) == [(0, 1)]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, "embeddings: every value must be finite, got nan in row 5; leave out samples"),
        (np.inf, "embeddings: every value must be finite, got inf in row 5; leave out samples"),
        (3.0, r"embeddings: every row must have an L2 norm of 1, got 3\.\d+ in row 5; store"),
        (0.0, r"embeddings: every row must have an L2 norm of 1, got 0 in row 5; store"),
    ],
)
def test_unusable_embeddings_are_refused_by_row(value: float, message: str) -> None:
    rows = planted(9, 32, seed=15)
    if value == 0.0:
        rows[5] = 0
    rows[5, 7] = value
    for join in (compare, lambda *given: join_cosine(*given, seed=0)):
        with pytest.raises(DataError, match=message):
            join(rows, 0.95)


def test_other_tables_than_embeddings_are_refused() -> None:
    for wrong in (np.ones((3, 4), np.int64), np.ones(4, np.float32), np.ones((3, 4))):
        with pytest.raises(DataError, match="embeddings: must be float16 or float32"):
            compare(wrong, 0.95)


@pytest.mark.parametrize("min_cosine", [0.0, -0.5, 1.01, float("nan")])
def test_a_cosine_out_of_range_is_refused(min_cosine: float) -> None:
    with pytest.raises(ConfigError, match="semantic_min_cosine: must be above 0 and at most 1"):
        compare(planted(4, 32, seed=16), min_cosine)


def test_no_room_for_a_neighbour_is_refused() -> None:
    with pytest.raises(ConfigError, match="max_neighbours: must be at least 1, got 0"):
        compare(planted(4, 32, seed=16), 0.9, max_neighbours=0)
