"""Rules on captions find planted faults; looser rules find fewer, and the score says so."""

from __future__ import annotations

from curate.captioners.thresholds import Thresholds
from pipelines.toyweb.planted_faults import EVERY, judge_planted


def test_the_default_rules_find_planted_faults() -> None:
    score = judge_planted(0, 24, {EVERY: Thresholds()})
    assert score.rejected.recall >= 0.98
    assert score.rejected.precision >= 0.98
    assert score.rejected.num_true == 24 * 5 * 9
    assert (score.num_opened, score.num_stripped) == (24 * 5, 24 * 5)


def test_rules_that_are_too_loose_or_too_strict_show() -> None:
    loose = Thresholds(max_hedges=None, max_repeated_frac=None, max_compression=None,
                       max_looped_words=None, max_looped_frac=None)  # fmt: skip
    assert judge_planted(0, 8, {EVERY: loose}).rejected.recall < 0.95
    strict = Thresholds(min_words=9)
    assert judge_planted(0, 8, {EVERY: strict}).rejected.precision < 0.98


def test_a_source_is_judged_by_its_own_thresholds() -> None:
    common = judge_planted(1, 4, {EVERY: Thresholds()}).rejected
    own = judge_planted(1, 4, {EVERY: Thresholds(), "tags": Thresholds(min_words=100)}).rejected
    assert own.num_found > common.num_found
