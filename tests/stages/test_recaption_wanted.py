"""An attempt's key tells all that decides the answer; styles are drawn by key and template."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import pytest

from curate.captioners.captioner import Provenance, Sampling
from curate.captioners.instructions import Template
from curate.core.schema import make_key
from curate.stages.recaptioning.wanted import Box, Sample, View, attempt_key, choose_styles

SAMPLE = Sample(key="0" * 20, shard="00000", alt="a page", sha256="ab", height=40, width=60)
VIEW = View(box=Box(top=0.0, left=10.0, height=40.0, width=40.0), height=40, width=40)
PLAIN = Template(id="plain", version=1, text="Describe.", max_new_tokens=8)
ALT = dataclasses.replace(PLAIN, text="Describe {alt}.")
DRAFT = dataclasses.replace(PLAIN, text="Rewrite {draft}.")
MODEL = Provenance(backend="test", model="m", model_digest="d", version="1")


def key(**changes: Any) -> str:
    given: dict[str, Any] = {
        "sample": SAMPLE, "view": VIEW, "template": PLAIN, "provenance": MODEL,
        "sampling": Sampling(), "seed": 7, "number": 0, **changes,
    }  # fmt: skip
    return attempt_key(**given)


def test_a_key_is_the_same_on_every_machine() -> None:
    assert key() == "6fac4a1a8fd4bf82f379"


@pytest.mark.parametrize(
    "changes",
    [
        {"sample": dataclasses.replace(SAMPLE, key="1" * 20)},
        {"sample": dataclasses.replace(SAMPLE, sha256="cd")},
        {"view": dataclasses.replace(VIEW, box=dataclasses.replace(VIEW.box, left=11.0))},
        {"view": dataclasses.replace(VIEW, height=20, width=20)},
        {"template": dataclasses.replace(PLAIN, text="Describe!")},
        {"template": dataclasses.replace(PLAIN, max_new_tokens=9)},
        {"provenance": dataclasses.replace(MODEL, model_digest="e")},
        {"provenance": dataclasses.replace(MODEL, revision="r")},
        {"provenance": dataclasses.replace(MODEL, dtype="bfloat16")},
        {"sampling": Sampling(temperature=0.1)},
        {"seed": 8},
        {"number": 1},
    ],
)
def test_whatever_decides_the_answer_is_in_the_key(changes: dict[str, Any]) -> None:
    assert key(**changes) != key()


@pytest.mark.parametrize(
    "changes",
    [
        {"provenance": dataclasses.replace(MODEL, version="2")},
        {"sample": dataclasses.replace(SAMPLE, alt="another page")},
        {"sample": dataclasses.replace(SAMPLE, shard="00001")},
        {"draft": "a draft"},
    ],
)
def test_what_the_model_does_not_see_is_not_in_the_key(changes: dict[str, Any]) -> None:
    assert key(**changes) == key()


def test_alt_text_and_draft_count_where_the_template_shows_them() -> None:
    other = dataclasses.replace(SAMPLE, alt="another page")
    assert key(template=ALT) != key(template=ALT, sample=other)
    assert key(template=DRAFT, draft="a") != key(template=DRAFT, draft="b")


STYLES = ["a", "b", "c", "d"]
KEYS = [make_key(str(number)) for number in range(2000)]


def draw(count: int, weights: dict[str, float], styles: list[str] = STYLES) -> list[list[str]]:
    return [choose_styles(one, styles, count, weights, 0) for one in KEYS]


def test_without_a_count_every_style_is_taken() -> None:
    assert choose_styles(KEYS[0], STYLES, 0, {}, 0) == STYLES


def test_styles_come_in_the_shares_of_their_weights() -> None:
    shares = Counter(style for chosen in draw(1, {"a": 4.0, "c": 0.0}) for style in chosen)
    # 4 : 1 : 0 : 1 of 2000; the standard deviation of the first is 21.
    assert abs(shares["a"] - 1333) < 85
    assert abs(shares["b"] - 333) < 70
    assert shares["c"] == 0


def test_as_many_as_asked_for_are_taken_in_their_order() -> None:
    for chosen in draw(3, {}):
        assert len(chosen) == 3
        assert chosen == sorted(chosen)


def test_another_style_takes_some_places_and_leaves_the_rest_as_it_was() -> None:
    before, after = draw(1, {}, ["a", "b"]), draw(1, {}, ["a", "b", "c"])
    changed = [new for old, new in zip(before, after, strict=True) if old != new]
    assert {style for chosen in changed for style in chosen} == {"c"}
    assert abs(len(changed) - 667) < 85


def test_another_seed_draws_anew() -> None:
    other = [choose_styles(one, STYLES, 1, {}, 1) for one in KEYS]
    same = sum(old == new for old, new in zip(draw(1, {}), other, strict=True))
    assert abs(same - 500) < 80
