"""Bins show the middle of the scores, whatever their tails and the sharding."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from curate.core.schema import make_key
from curate.stages.filtering import score_bins
from curate.stages.filtering.score_bins import NUM_BINS, ScoreBins


def bins_of(scores: np.ndarray, parts: int = 1) -> ScoreBins:
    bins = ScoreBins()
    keys = np.array([make_key(str(row)) for row in range(len(scores))])
    for rows in np.array_split(np.arange(len(scores)), parts):
        bins.add(pa.chunked_array([keys[rows]]), scores[rows])
    return bins


def test_one_giant_score_does_not_squeeze_the_others() -> None:
    scores = np.r_[np.linspace(0, 1, 999), 20_000.0]
    edges = bins_of(scores).edges([])
    counts, _ = np.histogram(scores, edges)
    assert len(counts) == NUM_BINS and counts.sum() == 1000
    assert counts.max() < 60
    assert edges[-1] == 20_000 and edges[-2] < 1


def test_a_near_threshold_is_inside_and_a_far_one_is_not() -> None:
    scores = np.linspace(0, 1, 500)
    assert bins_of(scores).edges([1.5])[-1] == 1.5
    assert bins_of(scores).edges([1e9])[-1] == 1.0


def test_whole_numbers_stand_in_the_middle_of_whole_bins() -> None:
    edges = bins_of(np.arange(10.0).repeat(20)).edges([3])
    assert edges.tolist() == [x - 0.5 for x in range(11)]


def test_equal_scores_fill_one_bin_and_no_scores_have_none() -> None:
    counts, _ = np.histogram(np.full(5, 0.25), bins_of(np.full(5, 0.25)).edges([]))
    assert counts[0] == counts.sum() == 5
    assert bins_of(np.full(3, 7.0)).edges([]).tolist() == [6.5, 7.5]
    assert bins_of(np.array([np.nan, np.inf])).edges([0.3]).size == 0


def test_sharding_does_not_move_the_bins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_bins, "_MAX_SAMPLED", 50)
    scores = np.random.default_rng(0).normal(size=400)
    first = bins_of(scores, parts=1)
    other = bins_of(scores, parts=7)
    assert first.edges([0.0]).tolist() == other.edges([0.0]).tolist()
