"""Rules on text: each reason has a text that it fires for and a near one that it must not."""

from __future__ import annotations

import pytest

from curate.captioners.judge import (
    MAX_WORDS,
    judge_caption,
    measure_compression,
    measure_repeated_frac,
    strip_boilerplate,
)
from curate.core.seed import make_rng
from pipelines.toyweb.scene import describe, describe_short, random_scene

# Words without a pattern: numbered words would compress like a loop.
WORDS = ["".join(row) for row in make_rng(0, "words").choice(list("aeioulmnrst"), (300, 6))]
LOOP = "a dog on a sofa and " * 6


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("", "empty"),
        (" \n\t ", "empty"),
        ("a dog", "too_short"),
        ("a red circle", "ok"),
        (" ".join(WORDS[:MAX_WORDS]), "ok"),
        (" ".join(WORDS[: MAX_WORDS + 1]), "too_long"),
        (LOOP, "repetition"),
        ("I'm sorry, I cannot describe this picture.", "refusal"),
        ("As an AI language model, I see nothing", "refusal"),
        ("A door with a sign that reads sorry, we are closed", "ok"),
        ("A poster: I cannot live without books", "ok"),
        ("a cat on a mat<|im_end|>", "leak"),
        ("USER: what is this? ASSISTANT: a cat", "leak"),
        ("[INST] a cat on a mat", "leak"),
        ("an image tag <img> of a cat", "leak"),
        ("a sign that reads 3 < 4 and 5 > 2", "ok"),
    ],
)
def test_each_rule_has_its_status(text: str, status: str) -> None:
    assert judge_caption(text).status == status


def test_text_that_repeats_the_prompt_is_a_leak() -> None:
    prompt = "Describe this image in detail."
    text = "describe this image in detail. a cat"
    assert judge_caption(text, prompt=prompt).status == "leak"
    assert judge_caption(text).status == "ok"


def test_cut_off_text_is_rejected_and_a_cut_off_loop_is_a_repetition() -> None:
    assert judge_caption("a dog on a", is_cut_off=True).status == "cut_off"
    assert judge_caption(LOOP, is_cut_off=True).status == "repetition"


@pytest.mark.parametrize(
    ("text", "stripped"),
    [
        ("The image shows a dog.", "A dog."),
        ("the picture depicts a dog", "a dog"),
        ("In this image, there is a dog.", "A dog."),
        ("In the photo we can see a dog", "A dog"),
        ("Here is a caption of the image: a dog", "A dog"),
        ("A photo of a dog", "A photo of a dog"),
        ("A dog in the image of its mother", "A dog in the image of its mother"),
    ],
)
def test_boilerplate_is_stripped_only_at_the_start(text: str, stripped: str) -> None:
    assert strip_boilerplate(text) == stripped


def test_boilerplate_alone_is_empty() -> None:
    assert judge_caption("The image shows ").status == "empty"
    assert judge_caption("Description:").status == "empty"


def test_repeated_share_counts_later_copies_only() -> None:
    assert measure_repeated_frac("a b c d e f") == 0.0
    assert measure_repeated_frac("a b c d a b c d") == pytest.approx(1 / 5)
    assert measure_repeated_frac("a b") == 0.0


def test_a_loop_compresses_and_prose_does_not() -> None:
    assert measure_compression("word " * 100) > 2.4
    assert measure_compression("Two boats lie on a grey beach below the old lighthouse.") < 1.2


def test_hardly_a_true_description_is_rejected() -> None:
    """Alike objects make a true caption repetitive; that may cost one in a thousand."""
    rng = make_rng(0, "test_judge")
    scenes = [random_scene(rng) for _ in range(2000)]
    texts = [write(scene) for scene in scenes for write in (describe, describe_short)]
    rejected = [text for text in texts if judge_caption(text).status != "ok"]
    assert len(rejected) <= 4, rejected
