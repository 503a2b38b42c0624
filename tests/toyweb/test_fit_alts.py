"""The trainer's alt texts: what a text states decides which pictures it is true of."""

from __future__ import annotations

import pytest

from curate.core.seed import make_rng
from pipelines.toyweb.alt_text import write_alt as write_site_alt
from pipelines.toyweb.fit_alts import (
    LEVELS,
    state_of,
    vocabulary,
    write_alt,
    write_hard_negative,
    write_noise,
)
from pipelines.toyweb.scene import Scene, SceneObject, describe, random_scene


def _item(color: str, place: str, size: str = "small") -> SceneObject:
    return SceneObject(shape="circle", color=color, size=size, place=place)


RED_LEFT = Scene(objects=(_item("red", "left"), _item("blue", "right")), background="white")
BLUE_LEFT = Scene(objects=(_item("blue", "left"), _item("red", "right")), background="white")


@pytest.mark.parametrize(
    ("level", "equal"), [("short", True), ("sized", True), ("placed", False), ("detailed", False)]
)
def test_a_level_states_no_more_than_it_names(level: str, equal: bool) -> None:
    first, second = state_of(RED_LEFT, level), state_of(BLUE_LEFT, level)  # type: ignore[arg-type]
    assert (first == second) is equal


def test_levels_never_share_a_statement() -> None:
    assert len({state_of(RED_LEFT, level) for level in LEVELS}) == len(LEVELS)


def test_an_alt_states_its_scene() -> None:
    rng = make_rng(0, "test_fit_alts")
    for _ in range(200):
        scene = random_scene(rng)
        assert write_alt(scene, rng).state in {state_of(scene, level) for level in LEVELS}
        assert write_noise(rng).state is None


def test_most_hard_negatives_are_false() -> None:
    rng = make_rng(1, "test_fit_alts")
    scenes = [random_scene(rng) for _ in range(300)]
    true = [
        write_hard_negative(scene, rng).state in {state_of(scene, level) for level in LEVELS}
        for scene in scenes
    ]
    assert sum(true) / len(true) < 0.5


def test_the_vocabulary_covers_descriptions_and_good_site_alts() -> None:
    rng = make_rng(2, "test_fit_alts")
    known = set(vocabulary())
    for _ in range(300):
        scene = random_scene(rng)
        for text in (describe(scene), write_site_alt("good", scene, "fit", rng)):
            words = "".join(c if c.isalnum() else " " for c in text.lower()).split()
            assert set(words) <= known


def test_words_are_listed_once_with_the_grammar_first() -> None:
    words = vocabulary()
    assert len(words) == len(set(words))
    assert {"red", "circle", "small", "background", "and"} <= set(words[:40])
