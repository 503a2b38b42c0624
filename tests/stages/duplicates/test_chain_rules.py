"""SemDeDup's and NeMo Curator's rules agree with a plain reading of what they publish."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from curate.core.errors import ConfigError, DataError
from curate.core.seed import make_rng
from curate.stages.duplicates.chain_rules import Keep, nemo_removed, semdedup_removed
from curate.stages.duplicates.cosine import pairs_above
from curate.stages.duplicates.stars import choose_keepers


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def one_cell(num: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Rows of one cell, many of them near copies of others, and its centroid."""
    rng = make_rng(seed, "cell")
    centre = unit(rng.standard_normal((1, 32)))
    rows = unit(centre + 0.9 * unit(rng.standard_normal((num // 4, 32))))
    for _ in range(2):  # copies, then copies of copies too
        noise = unit(rng.standard_normal(rows.shape))
        near = unit(rng.permutation(rows) * rng.uniform(2, 9, (len(rows), 1)) + noise)
        rows = np.concatenate([rows, near])
    rows = rng.permutation(rows).astype(np.float32)
    return rows, unit(rows.mean(axis=0, keepdims=True))[0].astype(np.float32)


def largest_earlier(rows: np.ndarray) -> list[float]:
    """Give each row's largest similarity to an earlier one, 0 where there is none or all are less.

    The published step of both: similarities, diagonal and lower triangle to 0, column maximum.
    """
    return np.triu(rows @ rows.T, k=1).max(axis=0).tolist()


def read_semdedup(rows: np.ndarray, centroid: np.ndarray, eps: float, keep: str) -> list[int]:
    """Follow sort_clusters.py, then semdedup.py: which rows are removed."""
    distances = (1 - rows @ centroid).tolist()
    items = sorted(zip(range(len(rows)), distances, strict=True), key=lambda x: x[1], reverse=True)
    order = [item for item, _ in items]
    if keep == "easy":
        order = order[::-1]
    largest = largest_earlier(rows[order])
    return sorted(row for row, value in zip(order, largest, strict=True) if value > 1 - eps)


def read_nemo(rows: np.ndarray, centroid: np.ndarray, eps: float, keep: str) -> list[int]:
    """Follow pairwise.py, then identify_duplicates.py: which ids are removed."""
    distances = (1 - rows @ centroid).tolist()
    order = sorted(range(len(rows)), key=lambda id_: (distances[id_], id_), reverse=keep == "hard")
    largest = largest_earlier(rows[order])
    return sorted(row for row, value in zip(order, largest, strict=True) if value >= 1 - eps)


@pytest.mark.parametrize("keep", ["hard", "easy"])
@pytest.mark.parametrize("eps", [0.03, 0.05, 0.2])
def test_removed_rows_are_those_of_a_plain_reading(keep: Keep, eps: float) -> None:
    rows, centroid = one_cell(400, seed=1)
    for ours, plain in ((semdedup_removed, read_semdedup), (nemo_removed, read_nemo)):
        expected = plain(rows, centroid, eps, keep)
        assert np.flatnonzero(ours(rows, centroid, 1 - eps, keep=keep)).tolist() == expected
        assert 20 < len(expected) < 380


def test_hard_and_easy_keep_the_two_ends_of_a_pair() -> None:
    centroid = np.array([1, 0, 0], np.float32)
    rows = unit(np.array([[1, 0.1, 0], [1, 0.2, 0], [1, 0, -9]])).astype(np.float32)
    for removed in (semdedup_removed, nemo_removed):
        assert removed(rows, centroid, 0.95, keep="hard").tolist() == [True, False, False]
        assert removed(rows, centroid, 0.95, keep="easy").tolist() == [False, True, False]


def test_random_keeps_one_of_each_group_and_follows_the_seed() -> None:
    rows = np.repeat(np.eye(8, dtype=np.float32), 5, axis=0)
    centroid = unit(np.ones((1, 8)))[0].astype(np.float32)
    kept = set()
    for seed in range(6):
        removed = semdedup_removed(rows, centroid, 0.95, keep="random", seed=seed)
        assert removed.reshape(8, 5).sum(axis=1).tolist() == [4] * 8
        again = semdedup_removed(rows, centroid, 0.95, keep="random", seed=seed)
        assert again.tolist() == removed.tolist()
        kept.add(tuple(np.flatnonzero(~removed)))
    assert len(kept) == 6


def test_at_the_threshold_nemo_removes_and_semdedup_keeps() -> None:
    rows = np.array([[1, 0, 0, 0], [0.5, 0.5, 0.5, 0.5]], np.float32)
    for keep in ("hard", "easy"):
        assert nemo_removed(rows, rows[0], 0.5, keep=keep).sum() == 1
        assert semdedup_removed(rows, rows[0], 0.5, keep=keep).sum() == 0
    equal = rows[[0, 0, 0]]
    assert nemo_removed(equal, rows[0], 1.0).sum() == 2
    assert semdedup_removed(equal, rows[0], 1.0).sum() == 0


def test_equally_far_rows_are_ordered_as_published() -> None:
    rows, centroid = np.eye(4, dtype=np.float32)[[0, 0, 0, 1]], np.float32([0.5] * 4)
    assert semdedup_removed(rows, centroid, 0.9, keep="hard").tolist() == [False, True, True, False]
    assert semdedup_removed(rows, centroid, 0.9, keep="easy").tolist() == [True, True, False, False]
    assert nemo_removed(rows, centroid, 0.9, keep="hard").tolist() == [True, True, False, False]
    assert nemo_removed(rows, centroid, 0.9, keep="easy").tolist() == [False, True, True, False]


def chain(num: int, degrees: float) -> NDArray[np.float32]:
    """Rows on an arc, each so many degrees from the one before."""
    angle = np.deg2rad(degrees) * np.arange(num)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)


def test_a_chain_leaves_one_where_stars_leave_every_second() -> None:
    rows = chain(5, degrees=20)
    near, far = np.cos(np.deg2rad(21)), np.cos(np.deg2rad(39))
    assert rows[0] @ rows[1] > near > far > rows[0] @ rows[2]
    for removed in (semdedup_removed, nemo_removed):
        # The centroid lies beyond the last: the first is farthest. Each goes because of the one
        # before it, though that one goes too.
        assert removed(rows, rows[4], float(near)).tolist() == [False, True, True, True, True]
    pairs = pairs_above(rows, np.arange(5), float(near)).pairs
    keepers = choose_keepers(pairs.left.astype(np.int32), pairs.right.astype(np.int32), 5)
    assert keepers.tolist() == [True, False, True, False, True]


def test_stars_keep_all_that_the_chain_rule_keeps() -> None:
    rows, centroid = one_cell(400, seed=2)
    order = np.argsort(rows @ centroid, kind="stable")  # hard ones first, for both
    pairs = pairs_above(rows[order], np.arange(400), 0.85).pairs
    keepers = choose_keepers(pairs.left.astype(np.int32), pairs.right.astype(np.int32), 400)
    chained = semdedup_removed(rows, centroid, 0.85)[order]
    assert keepers[~chained].all()
    assert keepers.sum() > (~chained).sum()


def test_an_unknown_choice_or_centroid_is_refused() -> None:
    rows, centroid = one_cell(10, seed=3)
    with pytest.raises(ConfigError, match="keep: must be one of hard, easy, random, got 'first'"):
        semdedup_removed(rows, centroid, 0.9, keep="first")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match="must be above 0 and at most 1, got 1"):
        nemo_removed(rows, centroid, 1.2)
    with pytest.raises(DataError, match="must have 16 dimensions"):
        nemo_removed(rows, centroid[:16], 0.9)
