"""Captions find the prompts that they are, contain or resemble, whatever the batch."""

from __future__ import annotations

import itertools
import random
import time

import pytest

from curate.core.errors import ConfigError
from curate.stages.matching.prompt_sets import Prompt
from curate.stages.matching.prompts import Match, PromptIndex, PromptRules
from curate.stages.matching.words import words_of

FOX = "A red fox jumps over two lazy dogs near the cold water of a lake."
SHORT = "a photo of a bench"
NINE = "a photo of a brown toaster and a bench"


def index(*texts: str, **rules: float | None) -> PromptIndex:
    prompts = [Prompt(item=str(number), text=text) for number, text in enumerate(texts)]
    return PromptIndex({"toy": prompts}, PromptRules(**rules))  # pyright: ignore[reportArgumentType]


def found(prompts: PromptIndex, *captions: str | None) -> list[tuple[int, str, str, float]]:
    matches = prompts.match(captions)
    return [(match.row, match.item, match.kind, round(match.score, 3)) for match in matches]


@pytest.mark.parametrize(
    "caption",
    [FOX, FOX.upper(), FOX.replace(" two", ",  \u201ctwo\u201d").replace("fox", "\uff46ox\u200b")],
)
def test_case_punctuation_and_spaces_do_not_hide_a_prompt(caption: str) -> None:
    assert found(index(FOX), "a cat", caption) == [(1, "0", "exact", 1.0)]


def test_an_equal_short_caption_is_no_exact_match() -> None:
    assert found(index(SHORT), "A photo of a bench.") == [(0, "0", "ngram", 1.0)]
    assert found(index(SHORT, min_exact_words=5), SHORT) == [(0, "0", "exact", 1.0)]


def test_short_prompts_are_not_compared_by_their_sets() -> None:
    assert found(index("a cat a dog"), "a dog a cat") == []


def test_a_prompt_inside_a_long_caption_is_found_by_its_runs() -> None:
    caption = f"Buy now: {FOX} Printed on canvas, framed, and shipped from our own workshop."
    assert found(index(FOX), caption) == [(0, "0", "ngram", 1.0)]


@pytest.mark.parametrize(("num_words", "is_found"), [(11, False), (12, True)])
def test_the_share_of_runs_is_inclusive(num_words: int, is_found: bool) -> None:
    # 14 words have 7 runs of 8; the first 12 of them hold 5.
    prompt = " ".join(f"w{number}" for number in range(14))
    caption = " ".join(words_of(prompt)[:num_words] + [f"x{number}" for number in range(30)])
    expected = [(0, "0", "ngram", round(5 / 7, 3))] if is_found else []
    assert found(index(prompt, min_overlap=5 / 7), caption) == expected


def test_a_run_that_comes_again_counts_once_on_both_sides() -> None:
    prompt = "a a a a a a a a a a a a b c d e f g h i"  # 1 run of a alone, 8 others
    prompts = index(prompt, min_jaccard=None)
    some = " ".join(prompt.split()[:-2])
    assert found(prompts, f"{some} x y z") == [(0, "0", "ngram", round(7 / 9, 3))]
    assert found(prompts, "a " * 30 + "x y z") == []  # one of nine, however often
    less = " ".join(prompt.split()[:-3])
    assert found(prompts, f"{less} x y z") == []  # 6 of 9; with repeats it were 10 of 13


def test_one_run_is_enough_where_no_share_is_asked() -> None:
    caption = "We saw two lazy dogs near the cold water of it"
    assert found(index(FOX), caption) == []
    assert found(index(FOX, min_overlap=0), caption) == [(0, "0", "ngram", round(1 / 8, 3))]


@pytest.mark.parametrize(
    ("ngram", "min_phrase_words", "expected"),
    [
        (8, 8, [(0, "0", "ngram", 1.0)]),  # 9 words: two runs of 8, both there
        (13, 9, [(0, "0", "ngram", 1.0)]),  # a whole phrase
        (13, 10, []),
    ],
)
def test_a_prompt_shorter_than_a_run_is_found_as_a_whole_phrase(
    ngram: int, min_phrase_words: int, expected: list[tuple[int, str, str, float]]
) -> None:
    prompts = index(NINE, ngram=ngram, min_phrase_words=min_phrase_words)
    far = "and this long text goes on and on about other things that nobody has asked for"
    assert found(prompts, f"{NINE} {far}") == expected
    assert found(prompts, f"{NINE.replace('brown', 'nice brown')} {far}") == []


def test_words_of_two_captions_make_no_run() -> None:
    words = FOX.split()
    assert found(index(FOX, min_overlap=0), " ".join(words[:7]), " ".join(words[8:])) == []


def test_nearly_equal_captions_are_found_with_their_jaccard() -> None:
    caption = FOX.replace("cold ", "")
    assert found(index(FOX), caption) == [(0, "0", "minhash", round(25 / 29, 3))]
    assert found(index(FOX, min_jaccard=25 / 29), caption) == [(0, "0", "minhash", 0.862)]
    assert found(index(FOX, min_jaccard=0.87), caption) == []
    assert found(index(FOX, min_jaccard=None), caption) == []


def test_prompts_of_equal_words_are_one_match_of_all_items() -> None:
    prompts = PromptIndex(
        {
            "one": [Prompt(item="a", text=FOX), Prompt(item="b", text=FOX.upper())],
            "two": [Prompt(item="c", text=FOX)],
        }
    )
    assert list(prompts.match([FOX])) == [
        Match(row=0, benchmark="one", items=("a", "b"), kind="exact", score=1.0),
        Match(row=0, benchmark="two", items=("c",), kind="exact", score=1.0),
    ]


def test_empty_captions_and_wordless_prompts_meet_nothing() -> None:
    prompts = index("!!!", FOX, "\U0001f600")
    assert prompts.wordless == {"toy": ("0", "2")}
    assert found(prompts, "", None, "...", "\U0001f600", FOX) == [(4, "1", "exact", 1.0)]


def test_no_prompts_and_no_captions_give_nothing() -> None:
    assert found(index(), FOX) == []
    assert found(PromptIndex({}), FOX) == []
    assert found(index(FOX)) == []


def test_matches_are_those_of_a_plain_search() -> None:
    draw = random.Random(1)
    vocabulary = [f"w{number}" for number in range(30)]
    prompts = [" ".join(draw.choices(vocabulary, k=draw.randint(1, 16))) for _ in range(60)]
    captions = [" ".join(draw.choices(vocabulary, k=draw.randint(0, 30))) for _ in range(200)]
    for number in range(0, 200, 2):
        words = draw.choice(prompts).split()
        captions[number] += " " + " ".join(words[draw.choice([0, 0, 2]) : draw.randint(3, 16)])
    rules = PromptRules(ngram=8, min_overlap=0.3, min_phrase_words=3, min_jaccard=None)
    toy = [Prompt(item=text, text=text) for text in dict.fromkeys(prompts)]
    matches = PromptIndex({"toy": toy}, rules).match(captions)
    got = {(match.row, match.item): (match.kind, round(match.score, 6)) for match in matches}
    assert got == {
        (row, prompt): hit
        for row, caption in enumerate(captions)
        for prompt in prompts
        if (hit := plain_match(prompt.split(), caption.split(), rules))
    }
    assert len(got) > 40


def plain_match(
    prompt: list[str], caption: list[str], rules: PromptRules
) -> tuple[str, float] | None:
    def runs(words: list[str], n: int) -> set[tuple[str, ...]]:
        return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}

    if prompt == caption:
        return ("exact" if len(prompt) >= rules.min_exact_words else "ngram"), 1.0
    n = min(rules.ngram, len(prompt))
    wanted = runs(prompt, n)
    share = len(wanted & runs(caption, n)) / len(wanted)
    if n < rules.ngram:
        return ("ngram", 1.0) if share == 1 and n >= rules.min_phrase_words else None
    return ("ngram", round(share, 6)) if share and share >= rules.min_overlap else None


def test_rows_count_through_batches() -> None:
    captions = ["a cat"] * 9000 + [FOX] + ["a dog"] * 9000 + [FOX]
    assert [row for row, *_ in found(index(FOX), *captions)] == [9000, 18001]


def test_equal_captions_cost_once_a_batch() -> None:
    prompts = index(*(f"{FOX} {number}" for number in range(300)))
    start = time.process_time()
    matches = sum(1 for _ in prompts.match(itertools.repeat(FOX, 3000)))
    assert matches == 300 * 3000
    assert time.process_time() - start < 10  # matching each caption anew takes minutes


def test_a_caption_of_a_million_words_is_read_to_its_end() -> None:
    caption = " ".join([*map(str, range(1_000_000)), FOX])
    assert found(index(FOX), caption) == [(0, "0", "ngram", 1.0)]


@pytest.mark.parametrize(
    ("rule", "value"),
    [("ngram", 7), ("ngram", 14), ("min_overlap", 1.1), ("min_phrase_words", 0),
     ("min_exact_words", 0), ("min_jaccard", 0), ("min_jaccard", 1.5)],
)  # fmt: skip
def test_rules_outside_their_range_are_refused(rule: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"decontaminate\.texts\.{rule}: must be in .*{value}"):
        PromptRules(**{rule: value})  # pyright: ignore[reportArgumentType]
