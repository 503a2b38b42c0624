from __future__ import annotations

import pytest

from curate.core.seed import make_rng
from eval.compositional import Expected, Rate, Reading, score_picture, summarise


def item(text: str) -> dict[str, str]:
    size, color, shape, place = text.split(maxsplit=3)
    return {"shape": shape, "color": color, "size": size, "place": place}


RED = item("large red circle top left")
BLUE = item("small blue star center")
ASKED = Expected(objects=[RED, BLUE], background="white")


def seen(*objects: dict[str, str], background: str | None = "white", clutter: int = 0) -> Reading:
    return Reading(readable=True, objects=objects, background=background, clutter=clutter)


def rates(expected: Expected, *readings: Reading) -> dict[str, Rate]:
    scores = [score_picture(expected, reading) for reading in readings]
    prompts = [str(index) for index in range(len(scores))]
    return summarise(scores, prompts, make_rng(0, "test"), 50)


def test_a_perfect_picture_scores_one_everywhere():
    found = rates(ASKED, seen(BLUE, RED))
    assert found.pop("unreadable").value == 0
    assert {rate.value for rate in found.values()} == {1.0}


def test_a_wrong_shape_keeps_colour_and_place():
    square = {**BLUE, "shape": "square"}
    score = score_picture(ASKED, seen(RED, square))
    assert (score.matches["color"].hits, score.matches["object"].hits) == (2, 1)
    assert score.matches["color_object"].false_alarms == 1
    assert score.matches["position"].hits == 2
    assert score.count and score.background and not score.exact


def test_swapped_colours_keep_colour_and_lose_what_binds_it():
    score = score_picture(ASKED, seen({**RED, "color": "blue"}, {**BLUE, "color": "red"}))
    assert score.matches["color"].hits == 2
    assert score.matches["color_object"].hits == 0
    assert score.matches["position"].hits == 0


def test_a_wrong_size_alone_spoils_only_the_exact_scene():
    score = score_picture(ASKED, seen(RED, {**BLUE, "size": "large"}))
    assert all(matches.misses == 0 for matches in score.matches.values())
    assert not score.exact


def test_repeated_objects_count_as_often_as_they_are_asked_for():
    expected = Expected(objects=[RED, {**RED, "place": "right"}])
    score = score_picture(expected, seen(RED))
    assert (score.matches["color"].hits, score.matches["color"].misses) == (1, 1)


def test_extra_objects_cost_precision_and_not_recall():
    found = rates(Expected(objects=[RED]), seen(RED, BLUE))
    assert found["color.recall"].value == 1.0
    assert found["color.precision"].value == 0.5
    assert found["color.f1"].value == pytest.approx(2 / 3)
    assert found["count.accuracy"].value == 0.0


def test_every_colour_everywhere_does_not_pay():
    clutter = [item(f"small {c} star center") for c in ("red", "blue", "green", "yellow")] * 2
    found = rates(ASKED, seen(*clutter))
    assert found["color.recall"].value == 1.0
    assert found["color.f1"].value == pytest.approx(0.4)


def test_clutter_of_a_readable_picture_counts_as_false_alarms():
    score = score_picture(ASKED, seen(RED, BLUE, clutter=1))
    assert score.matches["color"].false_alarms == 1
    assert not score.count and not score.exact


def test_an_unreadable_picture_misses_all_and_its_clutter_is_false():
    score = score_picture(ASKED, Reading(readable=False, objects=[], background=None))
    assert all(m.hits == 0 and m.misses == 2 for m in score.matches.values())
    assert all(m.false_alarms == 2 for m in score.matches.values())
    assert not (score.count or score.background or score.exact)
    cluttered = Reading(readable=False, objects=[RED] * 3, background="white", clutter=4)
    assert score_picture(ASKED, cluttered).matches["color"].false_alarms == 7


def test_half_unreadable_halves_precision_too():
    noise = Reading(readable=False, objects=[], background=None)
    found = rates(ASKED, seen(RED, BLUE), noise)
    assert found["color.precision"].value == 0.5
    assert found["unreadable"].value == 0.5


def test_an_empty_scene_is_right_when_nothing_is_read():
    score = score_picture(Expected(objects=[], background="white"), seen())
    assert score.exact and score.count
    assert rates(Expected(objects=[]), seen())["color.f1"].value == 0.0


def test_background_is_scored_only_where_a_prompt_names_one():
    assert "background.accuracy" not in rates(Expected(objects=[RED]), seen(RED))
    assert score_picture(Expected(objects=[RED]), seen(RED, background=None)).exact
    assert not score_picture(ASKED, seen(RED, BLUE, background="black")).exact


def test_intervals_hold_their_value_and_do_not_depend_on_repeated_runs():
    readings = [seen(RED, BLUE), seen(RED), seen(BLUE, background="black")] * 5
    found, again = rates(ASKED, *readings), rates(ASKED, *readings)
    assert found == again
    for rate in found.values():
        assert rate.interval.low <= rate.value <= rate.interval.high


def test_pictures_of_one_prompt_are_resampled_together():
    scores = [score_picture(ASKED, seen(RED, BLUE))] * 8 + [score_picture(ASKED, seen())] * 8
    apart = summarise(scores, [str(i) for i in range(16)], make_rng(0, "test"), 400)
    together = summarise(scores, [str(i // 4) for i in range(16)], make_rng(0, "test"), 400)

    def width(rate: Rate) -> float:
        return rate.interval.high - rate.interval.low

    assert width(together["exact_scene"]) > 1.4 * width(apart["exact_scene"])
    assert width(together["color.f1"]) > 1.4 * width(apart["color.f1"])
