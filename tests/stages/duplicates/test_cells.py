"""Cells depend on the seed and the rows, and on nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from curate.core.errors import ConfigError, DataError
from curate.core.seed import make_rng
from curate.stages.duplicates import cells
from curate.stages.duplicates.cells import (
    MAX_CELLS,
    count_cells,
    count_sample,
    fit_cells,
    nearest_cells,
)


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def random_rows(num: int, dim: int, seed: int) -> NDArray[np.float16]:
    return unit(make_rng(seed, "rows").standard_normal((num, dim))).astype(np.float16)


def clumps(num: int, dim: int, seed: int) -> tuple[NDArray[np.float16], NDArray[np.int64]]:
    """Rows close to one of eight centres, and which one."""
    rng = make_rng(seed, "clumps")
    centres = unit(rng.standard_normal((8, dim)))
    label = rng.integers(0, 8, num)
    rows = unit(centres[label] + 0.2 * unit(rng.standard_normal((num, dim))))
    return rows.astype(np.float16), label


def test_the_nearest_cells_equal_exhaustive_search() -> None:
    rows, centroids = random_rows(3000, 64, 1), random_rows(50, 64, 2).astype(np.float32)
    exact = rows.astype(np.float64) @ centroids.T.astype(np.float64)
    expected = np.argsort(-exact, axis=1, kind="stable")
    for count in (1, 2, 4, 50):
        near = nearest_cells(rows, centroids, count)
        assert near.dtype == np.int32
        assert near.tolist() == expected[:, :count].tolist()


def test_cells_that_float32_cannot_tell_apart_are_ranked_exactly() -> None:
    rng = make_rng(3, "near")
    row = random_rows(1, 768, 3)
    centroids = np.repeat(row, 40, axis=0).astype(np.float16)
    for centroid in centroids:  # neighbouring float16 values: similarities differ by some 1e-6
        moved = rng.choice(768, 3, replace=False)
        centroid[moved] = np.nextafter(centroid[moved], np.float16(1))
    rows = np.repeat(row, 100, axis=0)
    for near in rows[1:]:
        moved = rng.choice(768, 40, replace=False)
        near[moved] = np.nextafter(near[moved], np.float16(-1))
    wide = centroids.astype(np.float32)
    exact = rows.astype(np.float64) @ wide.T.astype(np.float64)
    assert np.ptp(exact, axis=1).max() < 2e-4
    expected = np.argsort(-exact, axis=1, kind="stable")[:, :4]
    by_float32 = np.argsort(-(rows.astype(np.float32) @ wide.T), axis=1, kind="stable")[:, :4]
    assert (np.sort(by_float32) != np.sort(expected)).any()  # not the same cells at all
    assert nearest_cells(rows, wide, 4).tolist() == expected.tolist()


def test_equally_near_cells_are_ordered_by_number() -> None:
    rows = random_rows(5, 32, 4)
    centroids = np.repeat(random_rows(1, 32, 5), 6, axis=0).astype(np.float32)
    assert nearest_cells(rows, centroids, 3).tolist() == [[0, 1, 2]] * 5


def test_the_nearest_cells_of_a_row_depend_on_that_row_alone() -> None:
    rows, centroids = random_rows(1001, 96, 6), random_rows(37, 96, 7).astype(np.float32)
    whole = nearest_cells(rows, centroids, 3)
    parts = [nearest_cells(rows[some], centroids, 3) for some in np.array_split(range(1001), 30)]
    assert np.concatenate(parts).tolist() == whole.tolist()


def test_blocks_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, _ = clumps(500, 32, seed=21)
    centroids = fit_cells(rows, 20, seed=0)
    near = nearest_cells(rows, centroids, 3)
    monkeypatch.setattr(cells, "_RANKED_ROWS", 30)
    assert nearest_cells(rows, centroids, 3).tolist() == near.tolist()
    monkeypatch.setattr(cells, "_SUMMED_ROWS", 30)
    np.testing.assert_allclose(fit_cells(rows, 20, seed=0), centroids, atol=2e-3)


def test_no_more_cells_are_given_than_there_are() -> None:
    centroids = random_rows(2, 32, 8).astype(np.float32)
    assert nearest_cells(random_rows(4, 32, 9), centroids, 4).shape == (4, 2)
    assert nearest_cells(random_rows(0, 32, 9), centroids, 4).shape == (0, 2)


def test_clumps_become_cells() -> None:
    rows, label = clumps(900, 32, seed=10)
    centroids = fit_cells(rows, 24, seed=0)
    near = nearest_cells(rows, centroids, 1)[:, 0]
    assert all(len(set(label[near == cell])) == 1 for cell in range(24))
    np.testing.assert_allclose(np.linalg.norm(centroids, axis=1), 1, atol=1e-3)
    halves = [row.tobytes() for row in centroids.astype(np.float16)]
    assert halves == sorted(set(halves))  # all different, in an order of their own


def test_equal_seeds_give_equal_cells_whatever_the_order() -> None:
    rows, _ = clumps(2000, 48, seed=11)
    centroids = fit_cells(rows, 30, seed=5)
    shuffled = rows[make_rng(11, "order").permutation(2000)]
    assert fit_cells(shuffled, 30, seed=5).tobytes() == centroids.tobytes()
    assert fit_cells(rows, 30, seed=6).tobytes() != centroids.tobytes()


def test_copies_draw_no_cells() -> None:
    rows, _ = clumps(600, 32, seed=12)
    many = np.concatenate([rows, np.repeat(rows[:1], 5000, axis=0)])
    assert fit_cells(many, 20, seed=0).tobytes() == fit_cells(rows, 20, seed=0).tobytes()


def test_all_equal_rows_are_one_cell() -> None:
    rows = np.repeat(random_rows(1, 32, 13), 3000, axis=0)
    centroids = fit_cells(rows, 50, seed=0)
    assert centroids.tobytes() == rows[:1].astype(np.float32).tobytes()
    assert not nearest_cells(rows, centroids, 3).any()


def test_as_many_cells_as_rows_are_the_rows_whatever_the_sign_of_zero() -> None:
    rows = np.pad(random_rows(30, 31, 22), ((0, 0), (3, 0)))[:, 2:]  # a column of zeros
    rows[::2, 0] = np.float16(-0.0)
    both = np.concatenate([rows, rows])
    both[30:, 0] = -both[30:, 0]
    centroids = fit_cells(both, 30, seed=0)
    assert fit_cells(both[::-1], 30, seed=0).tobytes() == centroids.tobytes()
    assert {tuple(row) for row in centroids.tolist()} == {tuple(row) for row in rows.tolist()}


def test_empty_cells_take_from_the_largest_and_leave_none_empty() -> None:
    labels = np.repeat(np.arange(3), (3, 2, 2))
    filled = cells._fill_empty(labels, 7, make_rng(0, "fill"))
    assert sorted(filled.tolist()) == list(range(7))


def test_rows_that_cancel_out_leave_a_centroid_of_norm_1() -> None:
    row = random_rows(1, 32, 14)
    rows = np.concatenate([row, -row, *random_rows(40, 32, 15)[:, None]])
    centroids = fit_cells(rows, 1, seed=0)
    pair = fit_cells(rows[:2], 1, seed=0)
    np.testing.assert_allclose(np.linalg.norm(centroids, axis=1), 1, atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(pair, axis=1), 1, atol=1e-3)


def test_no_cell_is_lost_when_rows_leave_it() -> None:
    rng = make_rng(16, "lopsided")  # one tight clump draws nearly all first centroids
    tight = unit(unit(rng.standard_normal((1, 32))) + 0.02 * rng.standard_normal((900, 32)))
    rows = np.concatenate([tight, unit(rng.standard_normal((60, 32)))]).astype(np.float16)
    centroids = fit_cells(rows, 64, seed=1)
    assert len(centroids) == 64
    assert len(np.unique(nearest_cells(rows, centroids, 1))) >= 60


@pytest.mark.parametrize("seed", range(4))
def test_a_cell_that_lost_its_rows_starts_anew(seed: int) -> None:
    rows = random_rows(200, 2, seed)  # on a circle, means wander off and leave cells empty
    centroids = fit_cells(rows, 60, seed=0)
    assert len(np.unique(nearest_cells(rows, centroids, 1))) == 60


def test_the_number_of_cells_grows_with_the_root_of_the_rows() -> None:
    assert count_cells(0) == count_cells(4096) == 1
    assert count_cells(50_000) == 475
    assert count_cells(440_000_000) == 44_498  # SemDeDup chose 50,000 for so many
    assert count_cells(10**10) == MAX_CELLS
    assert count_sample(MAX_CELLS) == 2**21  # 3.2 GB at 768 half precisions


def test_rows_of_another_model_are_refused() -> None:
    centroids = random_rows(3, 64, 17).astype(np.float32)
    message = "embeddings: must have 64 dimensions as the others have, got 32; embed all samples"
    with pytest.raises(DataError, match=message):
        nearest_cells(random_rows(3, 32, 18), centroids, 2)


def test_unusable_samples_are_refused() -> None:
    rows = random_rows(6, 32, 19)
    rows[4, 0] = np.nan
    for use in (
        lambda: fit_cells(rows, 2, seed=0),
        lambda: nearest_cells(rows, rows[:2].astype(np.float32), 2),
    ):
        with pytest.raises(DataError, match="every value must be finite, got nan in row 4"):
            use()
    with pytest.raises(DataError, match="L2 norm of 1, got 2 in row 0; store normalised"):
        fit_cells(2 * np.eye(3, dtype=np.float32), 2, seed=0)
    with pytest.raises(DataError, match="a sample must have a row, got none"):
        fit_cells(rows[:0], 2, seed=0)


def test_no_cells_are_refused() -> None:
    rows = random_rows(6, 32, 20)
    with pytest.raises(ConfigError, match="num_cells: must be at least 1, got 0"):
        fit_cells(rows, 0, seed=0)
    with pytest.raises(ConfigError, match="cells_per_row: must be at least 1, got 0"):
        nearest_cells(rows, rows.astype(np.float32), 0)
