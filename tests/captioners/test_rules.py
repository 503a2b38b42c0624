"""Rules on texts: each reason has a text that it fires for and a near one that it must not."""

from __future__ import annotations

import time

import pytest

from benchmarks.judge import measure_rules
from benchmarks.planted_captions import REFUSALS, SPOIL, TRAPS, plant
from curate.captioners.rules import RULES, judge_text, judge_texts
from curate.captioners.thresholds import Thresholds, override
from curate.core.errors import ConfigError
from curate.core.seed import make_rng
from pipelines.toyweb.oracle_mistakes import FAULTS, spoil
from pipelines.toyweb.oracle_words import STYLES
from pipelines.toyweb.scene import random_scene

# Words without a pattern: numbered words would compress like a loop.
WORDS = ["".join(row) for row in make_rng(0, "words").choice(list("aeioulmnrst"), (300, 6))]
LOOP = "a dog on a sofa and " * 6


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("", "empty"),
        (" \n\t ", "empty"),
        ("The image shows ", "empty"),
        ("a dog", "too_short"),
        ("a red circle", "ok"),
        (" ".join(WORDS[:256]), "ok"),
        (" ".join(WORDS[:257]), "too_long"),
        (LOOP, "repetition"),
        ("dog dog dog dog dog dog", "repetition"),
        ("A man waits. He has a hat. He has a hat. He has a hat. He has a hat.", "repetition"),
        ("I\u2019m sorry, I can\u2019t describe this picture.", "refusal"),
        ("As an AI language model, I see nothing", "refusal"),
        ("A door with a sign that reads sorry, we are closed", "ok"),
        ("A poster: I cannot describe this picture, it says", "ok"),
        ("a cat on a mat<|im_end|>", "leak"),
        ("USER: what is this? ASSISTANT: a cat", "leak"),
        ("an image tag <img> of a cat", "leak"),
        ("- a dog\n- a cat\n- a bird", "leak"),
        ("- a dog beside a cat", "ok"),
        ("a sign that reads 3 < 4 and 5 > 2", "ok"),
        ("!!!! #### 12345", "garbled"),
        ("A caption that ends in half a letter \ufffd", "garbled"),
        ("A man in a \u84dd\u8272 shirt and \u767d\u8272 shoes", "script"),
        ('A man below a sign "\u84dd\u8272\u84dd\u8272"', "ok"),
        ("It appears to be a dog, possibly a husky, at a beach.", "hedging"),
        ("It appears to be a dog at a beach. It runs.", "ok"),
    ],
)
def test_each_rule_has_its_status(text: str, status: str) -> None:
    assert judge_text(text).status == status


@pytest.mark.parametrize("text", TRAPS)
def test_what_only_looks_like_a_fault_is_accepted_as_it_is(text: str) -> None:
    judgement = judge_text(text)
    assert (judgement.status, judgement.text) == (
        "ok",
        text.strip('"') if text[-1] == '"' else text,
    )


@pytest.mark.parametrize("text", REFUSALS)
def test_refusals_that_models_wrote_are_found(text: str) -> None:
    assert judge_text(text).status == "refusal"


def test_every_rule_finds_planted_faults_and_little_else() -> None:
    found = measure_rules(list(plant(600, 100)))
    for rule, (num_true, num_found, num_right) in found.items():
        assert num_right / num_true >= 0.98, rule
        assert num_right / num_found >= 0.98, rule
    assert set(SPOIL) <= {rule.name for rule in RULES}


REASONS = {
    "refusal": "refusal", "loop": "repetition", "cut_off": "cut_off", "leak": "leak",
    "hedge": "hedging", "markdown": "leak", "empty": "empty", "short": "too_short",
    "language": "ok", "stock": "ok", "error": "captioner_error", "boilerplate": "ok",
}  # fmt: skip


def test_the_faults_of_the_toy_oracle_have_their_reasons() -> None:
    assert set(REASONS) == set(FAULTS)
    given: list[tuple[str, str, str, str]] = []
    for number in range(100):
        rng = make_rng(0, "faults", number)
        scene = random_scene(rng)
        text = STYLES["detailed"](scene.objects, scene.background)
        given += [(text, fault, *spoil(text, fault, rng)) for fault in FAULTS]
    texts, faults, spoilt, ends = zip(*given, strict=True)
    judged = judge_texts(spoilt, [""] * len(spoilt), ends)
    assert [one.status for one in judged] == [REASONS[fault] for fault in faults]
    for text, fault, judgement in zip(texts, faults, judged, strict=True):
        assert fault != "boilerplate" or judgement.text.lower() == text


def test_hardly_a_true_description_is_rejected() -> None:
    """Alike objects make a true caption repetitive; that may cost one in a thousand."""
    rng = make_rng(0, "test_judge")
    scenes = [random_scene(rng) for _ in range(1000)]
    texts = [write(one.objects, one.background) for one in scenes for write in STYLES.values()]
    judged = judge_texts(texts, [""] * len(texts), ["stop"] * len(texts))
    rejected = [one for one in judged if one.status != "ok"]
    assert len(rejected) <= len(texts) // 1000, rejected


def test_all_reasons_are_given_and_the_first_is_the_status() -> None:
    judgement = judge_text(f"ASSISTANT: {LOOP * 9}", finish_reason="length")
    assert judgement.reasons == ("leak", "repetition", "cut_off", "too_long")
    assert judgement.status == "leak"
    assert judge_text("Sorry: x", finish_reason="error").reasons == ("captioner_error",)


def test_text_that_repeats_the_prompt_is_a_leak() -> None:
    prompt = "Describe this image in detail."
    text = "describe this image in detail. a cat"
    assert judge_text(text, prompt=prompt).status == "leak"
    assert judge_text(text).status == "ok"
    assert judge_text("A detail of an image", prompt=prompt).status == "ok"


def test_cut_off_text_is_rejected_or_trimmed() -> None:
    text = "A dog lies here. It sleeps on a"
    assert judge_text(text, finish_reason="length").status == "cut_off"
    trimmed = judge_text(text, finish_reason="length", limits=Thresholds(cut_off="trim"))
    assert (trimmed.status, trimmed.text) == ("ok", "A dog lies here.")


def test_a_batch_gives_what_each_text_gives_alone() -> None:
    planted = list(plant(40, 4))
    batch = judge_texts(
        [one.text for one in planted],
        [one.prompt for one in planted],
        [one.finish_reason for one in planted],
    )
    alone = [
        judge_text(one.text, prompt=one.prompt, finish_reason=one.finish_reason)
        for one in planted[:: len(planted) // 12]
    ]
    assert batch[:: len(planted) // 12] == alone


def test_a_threshold_that_is_null_switches_its_rule_off() -> None:
    off = Thresholds(
        min_words=None, max_words=None, max_repeated_frac=None, max_compression=None,
        max_looped_words=None, max_looped_frac=None, max_hedges=None, min_letters=None,
        max_script_mix=None,
    )  # fmt: skip
    texts = ["a dog", LOOP, "!!!! 12345", "It may be perhaps possibly a cat", " ".join(WORDS)]
    judged = judge_texts(texts, [""] * 5, ["stop"] * 5, off)
    assert {one.status for one in judged} == {"ok"}


def test_thresholds_of_a_source_replace_the_common_ones() -> None:
    own = override(Thresholds(max_words=50), "tags", {"min_words": 1})
    assert (own.min_words, own.max_words) == (1, 50)
    with pytest.raises(ConfigError, match=r"judge\.by_source\.tags"):
        override(Thresholds(), "tags", {"cut_off": 1})


HOSTILE = (
    "a" * 100_000,
    "a " * 50_000,
    "<" * 100_000,
    "**" * 50_000,
    "[" * 50_000 + "](" * 25_000,
    "sorry, " * 15_000,
    "| " * 50_000 + "|",
    "\u84dd" * 100_000,
    '"' * 99_999,
    "- x\n" * 25_000,
    "\0\ufffd\u200d\U0001f600" * 20_000,
    "the image shows " * 6_000,
    "i am " + "very " * 20_000 + "sorry",
    "e\u0301" * 50_000,
    "\ud800" * 10_000,
    "it " * 40_000 + "is",
    "{{" * 50_000,
    "Dr. " * 25_000,
)


@pytest.mark.parametrize("text", HOSTILE, ids=[repr(text[:8]) for text in HOSTILE])
def test_any_text_is_judged_in_time_linear_in_its_length(text: str) -> None:
    start = time.process_time()
    judge_text(
        text, finish_reason="length", prompt=text[:50_000], limits=Thresholds(cut_off="trim")
    )
    # Two seconds are 50 times what these take; a quadratic expression would take minutes.
    assert time.process_time() - start < 2


def test_random_texts_of_any_script_are_judged() -> None:
    rng = make_rng(0, "any script")
    points = rng.integers(0, 0x3_0000, (300, 80))
    texts = ["".join(map(chr, row)) for row in points]
    judged = judge_texts(texts, texts, ["stop"] * len(texts))
    assert all(one.status == (one.reasons or ("ok",))[0] for one in judged)
