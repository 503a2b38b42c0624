"""Claims are cut out of captions, asked about one by one, and counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from curate.captioners.captioner import (
    CaptionAttempt,
    Captioner,
    CaptionRequest,
    Provenance,
    Sampling,
)
from curate.captioners.verify import (
    MAX_CLAIMS,
    QUESTION,
    Verifier,
    confirm_objects,
    extract_claims,
    name_objects,
    read_answer,
)
from curate.core.seed import make_rng
from pipelines.toyweb.oracle_captioner import OracleCaptioner
from pipelines.toyweb.oracle_mistakes import OracleSettings, make_slips
from pipelines.toyweb.scene import describe, random_scene, render

PICTURE = Image.new("RGB", (8, 8))


class Says:
    """Answer each claim by a table; whatever is not in it is an error."""

    provenance = Provenance(backend="test", model="says")

    def __init__(self, answers: dict[str, str]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def caption(
        self, requests: Sequence[CaptionRequest], sampling: Sampling
    ) -> list[CaptionAttempt]:
        assert sampling.temperature == 0
        self.asked += [one.template.fill(draft=one.draft) for one in requests]
        return [self.answer(one.draft) for one in requests]

    def answer(self, claim: str) -> CaptionAttempt:
        text = self.answers.get(claim, "")
        return CaptionAttempt(
            text_raw=text or "yes", prompt="", finish_reason="stop" if text else "error"
        )


@pytest.mark.parametrize(
    ("text", "claims"),
    [
        ("A man with a red hat and two dogs. It rains.",
         ["A man", "a red hat", "two dogs", "It rains"]),
        ("a black and white dog", ["a black and white dog"]),
        ("A dog, a cat; the sun.", ["A dog", "a cat", "the sun"]),
        ("A dog. A dog.", ["A dog"]),
        ("\u4e00\u72d7\u3002\u4e00\u732b\u3002", ["\u4e00\u72d7\u3002", "\u4e00\u732b\u3002"]),
        ("", []),
        ("x" * 9000, []),
    ],
)  # fmt: skip
def test_claims_are_parts_that_can_be_asked_about(text: str, claims: list[str]) -> None:
    assert extract_claims(text) == claims


def test_claims_are_bounded() -> None:
    assert len(extract_claims(" ".join(f"Dog {n} runs." for n in range(99)))) == MAX_CLAIMS
    assert len(extract_claims("A dog and a cat. " * 9000)) == 2


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Yes.", True), ("yes, it is", True), ("**No**", False), (" no", False),
        ("Nothing", None), ("yesterday", None), ("", None), ("I think so: yes", None),
    ],
)  # fmt: skip
def test_an_answer_is_its_first_word(text: str, answer: bool | None) -> None:
    assert read_answer(text) is answer


def test_the_share_is_of_questions_that_were_answered() -> None:
    model = Says({"A dog": "Yes", "a cat": "no", "the sun": "maybe"})
    texts = ["A dog, a cat, the sun", "A dog", "A fish", ""]
    found = Verifier(model).confirm([PICTURE] * 4, texts, ["k"] * 4)
    np.testing.assert_array_equal(found, np.array([0.5, 1, np.nan, np.nan], np.float32))
    assert model.asked[1] == (
        'Look at the image. Is this true of it: "a cat"? Answer with yes or no.'
    )
    assert Verifier(model).confirm([], [], []).shape == (0,)


def test_hallucinations_lower_the_share_of_confirmed_claims() -> None:
    oracle: Captioner = OracleCaptioner(OracleSettings())
    verifier = Verifier(oracle)
    for number in range(20):
        rng = make_rng(number, "verify")
        scene = random_scene(rng)
        wrong, slips = make_slips(scene, {"object": 1.0}, rng)
        if len(scene.objects) in (0, 4) or not slips:
            continue
        image = Image.fromarray(render(scene, 72, 72))
        texts = [describe(scene), describe(wrong)]
        right, bad = verifier.confirm([image, image], texts, ["a", "a"])
        assert right == 1.0
        assert bad < 1.0


class Finds:
    """Find the same classes in every picture."""

    words: ClassVar = {"dog": "dog", "puppy": "dog", "bus": "bus", "fire hydrant": "hydrant"}

    def __init__(self, *classes: str) -> None:
        self.classes = frozenset(classes)

    def find(self, images: Sequence[Image.Image]) -> Sequence[frozenset[str]]:
        return [self.classes for _ in images]


def test_objects_are_named_by_synonyms_and_plurals() -> None:
    assert name_objects("Two Puppies, buses and fire hydrants", Finds.words) == {
        "dog", "bus", "hydrant"
    }  # fmt: skip
    assert name_objects("A busy hotdog stand, on fire", Finds.words) == frozenset()
    assert name_objects("dog", {}) == frozenset()


def test_named_objects_are_confirmed_where_the_detector_finds_them() -> None:
    texts = ["A dog and a bus", "A puppy", "A cat"]
    found = confirm_objects(Finds("dog", "hydrant"), [PICTURE] * 3, texts)
    np.testing.assert_array_equal(found, np.array([0.5, 1, np.nan], np.float32))
    assert confirm_objects(Finds(), [], []).shape == (0,)


def test_a_question_must_hold_the_claim() -> None:
    model = Says({})
    template = replace(QUESTION, text="Is it true?")
    with pytest.raises(AssertionError, match="claim"):
        Verifier(model, template)
