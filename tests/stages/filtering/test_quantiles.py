"""Shares of scores are cut exactly, in memory and by counting, in our rule and in DataComp's."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from curate.stages.filtering.cuts import find_cuts
from curate.stages.filtering.quantiles import Group, count_measured, rank_of_exact, select

HIGH, LOW = "similarity", "nsfw"  # rules that want high and low scores


class Pieces:
    """Hand out pieces, and count the passes over them."""

    def __init__(self, pieces: Sequence[tuple[Group, Sequence[float]]]) -> None:
        self.pieces = [(group, np.array(values, float)) for group, values in pieces]
        self.passes = 0

    def __call__(self) -> Iterator[tuple[Group, NDArray[np.float64]]]:
        self.passes += 1
        yield from self.pieces


def cut(values: Sequence[float], share: float, mode: str = "exact", rule: str = HIGH) -> float:
    return find_cuts(Pieces([((rule, ""), values)]), {rule: [share]}, mode)[rule][""][0]


def test_counting_finds_what_sorting_finds() -> None:
    rng = np.random.default_rng(0)
    groups = {
        ("a", "en"): rng.normal(size=500),
        ("a", "de"): rng.normal(size=333).astype(np.float32).astype(float),
        ("b", ""): rng.choice([-1.5, 0.0, 2.0, 1e300, -1e-310, math.inf, -math.inf], 200),
    }
    pieces = Pieces([(g, part) for g, values in groups.items() for part in np.split(values, [7])])
    ranks = {g: [0, 1, len(v) // 3, len(v) // 2, len(v) - 1] for g, v in groups.items()}
    expected = {g: np.sort(groups[g])[ranks[g]].tolist() for g in groups}
    assert select(pieces, ranks, hold=True) == expected
    assert pieces.passes == 1
    assert select(pieces, ranks, hold=False) == expected
    assert pieces.passes == 1 + 4


def test_negative_zero_is_zero() -> None:
    pieces = Pieces([(("a", ""), [-0.0, 0.0, -0.0, -1.0])])
    for hold in (True, False):
        values = select(pieces, {("a", ""): [1, 2, 3]}, hold=hold)[("a", "")]
        assert [str(value) for value in values] == ["0.0", "0.0", "0.0"]


def test_the_unmeasured_are_counted_and_never_chosen() -> None:
    pieces = Pieces([(("a", ""), [1.0, math.nan, 3.0]), (("a", ""), [math.nan, 2.0])])
    assert count_measured(pieces) == {("a", ""): (3, 5)}
    for hold in (True, False):
        assert select(pieces, {("a", ""): [2, 0]}, hold=hold) == {("a", ""): [3.0, 1.0]}


def test_an_exact_share_keeps_its_ceiling() -> None:
    values = list(range(1, 11))
    for share, kept in [(0.3, 3), (0.31, 4), (0.01, 1), (1.0, 10), (0.95, 10)]:
        assert sum(value >= cut(values, share) for value in values) == kept
        assert sum(value <= cut(values, share, rule=LOW) for value in values) == kept


def test_the_share_is_the_decimal_that_was_written() -> None:
    assert rank_of_exact(0.1, 30) == 2  # 0.1 * 30 is 3.0000000000000004 in floats
    assert rank_of_exact(0.7, 10) == 6
    assert 0.07 * 100 > 7 and rank_of_exact(0.07, 100) == 6


def test_ties_with_the_last_score_are_all_kept() -> None:
    values = [5, 4, 4, 4, 3, 2, 1, 1, 1, 1]
    assert sum(value >= cut(values, 0.2) for value in values) == 4


@pytest.mark.parametrize("share", [0.001, 0.1, 0.25, 0.3, 0.7, 0.999])
@pytest.mark.parametrize("num_rows", [1, 10, 997, 1000])
def test_datacomp_mode_takes_the_element_after_the_share_of_the_sorted_scores(
    num_rows: int, share: float
) -> None:
    scores = np.random.default_rng(num_rows).normal(size=num_rows).round(1)
    # The rule in other words: of all scores, best first, the one at index int(N * share).
    descending = sorted(scores.tolist(), reverse=True)
    threshold = descending[int(num_rows * share)]
    assert cut(scores.tolist(), share, "datacomp") == threshold
    kept = int((scores >= threshold).sum())
    assert kept >= int(num_rows * share) + 1


def test_datacomp_mode_counts_the_unmeasured_and_keeps_all_where_it_meets_them() -> None:
    values = [4.0, 3.0, math.nan, 2.0, math.nan]
    assert cut(values, 0.5, "datacomp") == 2.0  # int(5 * 0.5) = 2: the third best
    assert cut(values, 1.0, "datacomp") == 2.0


def test_each_language_has_its_own_cut_and_one_without_scores_has_none() -> None:
    pieces = Pieces(
        [
            ((HIGH, "en"), [0.1, 0.2, 0.3, 0.4]),
            ((HIGH, "de"), [0.5]),
            ((HIGH, "fr"), [math.nan]),
            ((HIGH, "en"), [0.9, 0.0]),
        ]
    )
    found = find_cuts(pieces, {HIGH: [0.5, 0.34]}, "exact")
    assert found == {HIGH: {"en": [0.3, 0.3], "de": [0.5, 0.5]}}
    assert find_cuts(pieces, {HIGH: [0.5, 0.34]}, "exact", held=0) == found
