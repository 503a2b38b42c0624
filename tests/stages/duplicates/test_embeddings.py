"""Embeddings are checked to their bounds, and equal ones are equal whatever their bytes."""

from __future__ import annotations

import numpy as np
import pytest

from curate.core.errors import DataError
from curate.core.seed import make_rng
from curate.stages.duplicates import embeddings as module
from curate.stages.duplicates.cosine import pairs_above
from curate.stages.duplicates.embeddings import (
    check_embeddings,
    exact_cosines,
    exact_products,
    first_of_equals,
)


def drawn(num: int, dim: int, seed: int) -> np.ndarray:
    rows = make_rng(seed, "embeddings").standard_normal((num, dim))
    return (rows / np.linalg.norm(rows, axis=1)[:, None]).astype(np.float32)


@pytest.mark.parametrize("norm", [0.991, 1.009])
def test_a_norm_within_a_hundredth_of_1_is_taken(norm: float) -> None:
    check_embeddings(drawn(3, 64, 0) * np.float32(norm))


@pytest.mark.parametrize("norm", [0.989, 1.011])
def test_a_norm_beyond_a_hundredth_of_1_is_refused(norm: float) -> None:
    rows = drawn(3, 64, 0)
    rows[2] *= norm
    with pytest.raises(DataError, match=rf"norm of 1, got {norm} in row 2"):
        check_embeddings(rows)


def test_a_wrong_row_is_named_by_its_place_among_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHECKED_ROWS", 4)
    rows = drawn(30, 16, 1)
    rows[21, 3] = np.nan
    with pytest.raises(DataError, match="got nan in row 21"):
        check_embeddings(rows)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_rows_that_differ_in_the_sign_of_zero_are_equal(dtype: type) -> None:
    rows = drawn(6, 16, 2).astype(dtype)
    rows[:, 4:6] = 0
    rows[1:5] = rows[0]
    rows[1:5, 4] = -0.0
    rows[3, 5] = -0.0
    assert first_of_equals(rows).tolist() == [0, 0, 0, 0, 0, 5]
    found = pairs_above(rows / np.linalg.norm(rows, axis=1)[:, None], np.arange(6), 0.99)
    assert found.num_crowded == 1  # the fifth of five equal ones
    assert not found.pairs.distance.any()


def test_no_cosine_is_above_1() -> None:
    rows = drawn(400, 16, 3)
    other = rows.copy()
    other[:, 0] = np.nextafter(rows[:, 0], np.float32(1))
    both = np.concatenate([rows, other])
    left, right = np.arange(400), np.arange(400, 800)
    norms = exact_products(both, both, left, left) * exact_products(both, both, right, right)
    assert (exact_products(both, both, left, right) / np.sqrt(norms)).max() > 1  # by rounding
    assert exact_cosines(both, left, right).max() == 1
    assert pairs_above(both, np.arange(800), 0.99).pairs.distance.min() == 0


def test_products_do_not_depend_on_how_many_are_taken_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = drawn(50, 48, 4)
    left, right = np.triu_indices(50)
    whole = exact_products(rows, rows, left, right)
    monkeypatch.setattr(module, "_GATHERED_ROWS", 7)
    assert exact_products(rows, rows, left, right).tobytes() == whole.tobytes()
    np.testing.assert_allclose(whole, (rows.astype(float) @ rows.T.astype(float))[left, right])
