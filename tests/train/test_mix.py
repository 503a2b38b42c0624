from collections import Counter

import pytest

from train.mix import CaptionChooser, CaptionMix, choose_caption


def make_chooser(weights: dict[str, float]) -> CaptionChooser:
    return CaptionChooser(CaptionMix(weights=weights, dropout_frac=0.0))


def test_sources_are_drawn_in_proportion() -> None:
    chooser = make_chooser({"alt": 1.0, "short": 0.0, "detailed": 3.0})
    assert chooser.sources == ("detailed", "alt", "short")
    drawn = Counter(chooser.draw((i + 0.5) / 1000) for i in range(1000))
    assert drawn == {0: 750, 1: 250}


@pytest.mark.parametrize("weights", [{"a": 0.9, "b": 0.0}, {"a": 1e-300}, {"a": 0.1, "b": 0.2}])
def test_the_largest_coin_never_draws_a_source_without_weight(weights: dict[str, float]) -> None:
    chooser = make_chooser(weights)
    assert weights[chooser.sources[chooser.draw(1 - 2.0**-53)]] > 0
    assert chooser.draw(2.0**-53) == 0


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
    assert choose_caption(ranks, wanted) == number
