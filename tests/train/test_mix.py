from collections import Counter

import numpy as np
import pytest

from train.mix import CaptionChooser, CaptionMix, choose_captions


def make_chooser(weights: dict[str, float]) -> CaptionChooser:
    return CaptionChooser(CaptionMix(weights=weights, dropout_frac=0.0))


def test_sources_are_drawn_in_proportion() -> None:
    chooser = make_chooser({"alt": 1.0, "short": 0.0, "detailed": 3.0})
    assert chooser.sources == ("detailed", "alt", "short")
    drawn = Counter(chooser.draw((np.arange(1000) + 0.5) / 1000).tolist())
    assert drawn == {0: 750, 1: 250}


@pytest.mark.parametrize("weights", [{"a": 0.9, "b": 0.0}, {"a": 1e-300}, {"a": 0.1, "b": 0.2}])
def test_the_largest_coin_never_draws_a_source_without_weight(weights: dict[str, float]) -> None:
    chooser = make_chooser(weights)
    largest, least = chooser.draw(np.array([1 - 2.0**-53, 2.0**-53])).tolist()
    assert weights[chooser.sources[largest]] > 0
    assert least == 0


def test_sources_that_are_not_named_have_no_rank() -> None:
    assert make_chooser({"alt": 1.0, "short": 2.0}).rank(["other", "alt", "short"]) == [-1, 1, 0]


@pytest.mark.parametrize(
    ("ranks", "wanted", "number"),
    [
        ([2, 0, 1], 1, 2),  # the wanted one
        ([2, 0], 1, 1),  # the heaviest that is there
        ([-1, 3], 0, 1),
        ([-1], 0, -1),  # none may be shown
        ([], 0, -1),
    ],
)
def test_absent_captions_are_stood_in_for(ranks: list[int], wanted: int, number: int) -> None:
    owners = np.zeros(len(ranks), np.int64)
    assert choose_captions(owners, np.array(ranks, np.int64), np.array([wanted])) == [number]


def test_samples_are_chosen_for_each_by_its_own_captions() -> None:
    ranks = np.array([0, 1, 1, 0, 0, -1])
    owners = np.array([0, 0, 2, 2, 2, 3])  # the second has none, the last none that may be shown
    chosen = choose_captions(owners, ranks, np.array([1, 0, 0, 0]))
    assert chosen.tolist() == [1, -1, 3, -1]  # of two of one source the first
