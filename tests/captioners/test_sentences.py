"""Sentence cuts: abbreviations, decimals, ellipses, quotes, scripts of their own, long texts."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest

from curate.captioners.sentences import (
    count_words,
    cut_to_words,
    sentence_spans,
    split_sentences,
)
from curate.core.seed import make_rng

# "|" marks the cuts. Many are "golden rules" of the pragmatic segmenter, retold for pictures.
CUTS = (
    "A red circle is on the left.| A blue square is behind it.",
    "Dr. J. Smith is 1.8 m tall.| He holds a sign.",
    "A portrait of George W. Bush in the U.S. Capitol.",
    "A flag of the U.S.| The sky is blue.",
    "The clock says 5 p.m.| It is dark.",
    "It is marked with a letter A.| The other one is not.",
    "Fruit, e.g. The Red Apple, is on sale.",
    "Apples, pears, etc. are on the table.",
    "Apples, pears, etc.| The table is brown.",
    "St. Paul's Cathedral, see Fig. 3 and No. 5 of the list.",
    "Is a dog there?| No.| The yard is empty.",
    "A sign says STOP!| A man waits.",
    "Yahoo! is written on the wall.",
    "The path goes on ... and on.| A hill follows.",
    "The path goes on. . . .| Nobody walks there.",
    "The road ends...| Beyond it lies the sea.",
    'A sign reads "Open."| Two people enter.',
    "A man (in a blue coat.)| A woman (in red) follows.",
    "**A red door.**| *It is closed.*",
    "a sign that says STOP. | a man waits.",
    "The sign says stop. a man waits.",
    "1. A red circle.| 2. A blue square.",
    "It costs $3.50 at www.example.com today.| Cheap.",
    "What is that?!| Nobody knows.",
    "a cat sits on a mat . | a dog barks .",
    "a photo of mr. smith and approx. ten others. | they smile.",
    "a red circle at 5 p.m. and a blue one. | the background is grey.",
    "\u732b\u3002|\u72ac\u304c\u3044\u307e\u3059\uff01|\u300c\u3053\u3093\u306b\u3061\u306f\u3002\u300d|\u306f\u3044",
    "\u91cd\u3055\u306f\uff13\uff0e\uff15\u30ad\u30ed\u3002",
    "\u090f\u0915 \u0932\u093e\u0932 \u0964| \u090f\u0915 \u0928\u0940\u0932\u0940 \u0964",
    "\u0645\u0627 \u0647\u0630\u0627\u061f| \u0643\u0631\u0629.",
    "A title without an end\n\n|A paragraph follows.",
    "Seen are:\n|- a red circle\n|- a blue square",
    "A line that is\nbroken in its middle.",
)


@pytest.mark.parametrize("marked", CUTS)
def test_cuts_are_where_the_marks_are(marked: str) -> None:
    wanted = [part.strip() for part in marked.split("|")]
    assert split_sentences(marked.replace("|", "")) == wanted


@pytest.mark.parametrize("text", ["", " ", "\n\n \t", ".", "...", "\u3002", "?!", "\ud800"])
def test_texts_without_words_do_not_fail(text: str) -> None:
    assert "".join(split_sentences(text)) == text.strip()


@pytest.mark.parametrize("marked", CUTS)
def test_nothing_but_white_space_is_lost(marked: str) -> None:
    text = f"  {marked} \n"
    spans = sentence_spans(text)
    kept = "".join(text[start:end] for start, end in spans)
    assert "".join(kept.split()) == "".join(text.split())
    assert all(a[1] <= b[0] for a, b in pairwise(spans))


def test_any_mixture_of_characters_is_covered_in_order() -> None:
    rng = make_rng(0, "test_sentences")
    pieces = [
        *" .!?\u3002\u0964\u2026\n\"')(*-1a",
        "A ",
        "U.S. ",
        "etc. ",
        "\u732b",
        "\uff0e",
        "No. ",
    ]
    for _ in range(500):
        text = "".join(rng.choice(pieces, size=rng.integers(0, 30)).tolist())
        spans = sentence_spans(text)
        assert [text[start:end].strip() for start, end in spans] == split_sentences(text)
        covered = "".join(text[start:end] for start, end in spans)
        assert "".join(covered.split()) == "".join(text.split())
        assert all(a[1] <= b[0] for a, b in pairwise(spans))
        cuts = [cut_to_words(text, count) for count in (1, 5, 100)]
        assert text.strip() == cuts[2] and cuts[2].startswith(cuts[1])
        assert cuts[1].startswith(cuts[0])


def test_cut_keeps_whole_sentences_up_to_the_limit_itself() -> None:
    text = "One two three. Four five. Six seven eight nine."
    assert cut_to_words(text, 9) == text
    assert cut_to_words(text, 8) == "One two three. Four five."
    assert cut_to_words(text, 5) == "One two three. Four five."
    assert cut_to_words(text, 4) == "One two three."


def test_first_sentence_stays_however_long_it_is() -> None:
    assert cut_to_words(" One two three four. Five.", 2) == "One two three four."
    assert cut_to_words("no end at all", 1) == "no end at all"
    assert cut_to_words("", 5) == ""


def test_short_sentence_behind_a_long_one_is_not_taken() -> None:
    assert cut_to_words("One two. Three four five six. Seven.", 4) == "One two."


def test_cut_text_is_the_start_of_the_text() -> None:
    text = "A red  circle.\nA blue one. A third."
    assert cut_to_words(text, 6) == "A red  circle.\nA blue one."


def test_limit_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"max_words: must be >= 1, got 0"):
        cut_to_words("A text.", 0)


def test_characters_are_words_where_a_script_has_no_spaces() -> None:
    assert count_words("a red circle") == 3
    assert count_words("\u4e00\u53ea\u732b") == 3
    assert count_words("\u4e00\u53ea cat") == 3
    assert count_words("\ud55c\uad6d\uc5b4 \ud14d\uc2a4\ud2b8") == 2
    assert count_words("") == 0
    assert cut_to_words("\u4e00\u53ea\u732b\u3002\u4e00\u53ea\u72d7\u3002", 4) == (
        "\u4e00\u53ea\u732b\u3002"
    )


@pytest.mark.parametrize(
    "piece",
    [
        "A red circle. ",
        "a. ",
        ". ",
        ".",
        "U.S. ",
        "\u3002",
        "etc. A ",
        '"',
        " ",
        "\n",
        "1. ",
        "x" * 50,
    ],
)
def test_a_hundred_thousand_characters_take_linear_time(piece: str) -> None:
    text = (piece * 100_000)[:100_000]
    begin = time.process_time()
    kept = cut_to_words(text, 50)
    assert time.process_time() - begin < 2  # 0.3 s as measured; quadratic time would be minutes
    assert text.strip().startswith(kept)
