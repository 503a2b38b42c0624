"""Texts are cut into words that do not depend on case, punctuation, spacing or encoding."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest

from curate.stages.matching.ngrams import distinct, runs_of
from curate.stages.matching.words import hash_words, in_batches, words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        (" \t\n!?... \u2014 \U0001f600\ufe0f", []),
        ("The DOG's black-and-white TAIL!!", ["the", "dogs", "black", "and", "white", "tail"]),
        ("the dog\u2019s tail", ["the", "dogs", "tail"]),
        ("\uff21 \u24d1\u00a0\ufb01ne", ["a", "b", "fine"]),  # full width, circled, ligature
        ("STRASSE stra\u00dfe", ["strasse", "strasse"]),
        ("cafe\u0301 caf\u00e9 cafe", ["caf\u00e9", "caf\u00e9", "cafe"]),
        ("zero\u200bwidth soft\u00adhyphen", ["zerowidth", "softhyphen"]),
        ("img_1234.jpg", ["img", "1234", "jpg"]),
        ("\u53ea\u732b cat\u3067\u3059", ["\u53ea", "\u732b", "cat", "\u3067", "\u3059"]),
        ("broken \ud83d half", ["broken", "half"]),
        ("a\x00b", ["a", "b"]),
        ("\u0939\u093f\u0928\u094d\u0926\u0940", ["\u0939\u093f\u0928\u094d\u0926\u0940"]),  # marks
        ("1\ufe0f\u20e3 first", ["1", "first"]),
    ],
)  # fmt: skip
def test_words(text: str, words: list[str]) -> None:
    assert words_of(text) == words


def test_words_do_not_change_when_cut_again() -> None:
    for character in map(chr, range(0x20000)):
        once = words_of(character)
        assert words_of(" ".join(once)) == once


def test_composed_and_decomposed_texts_are_equal() -> None:
    text = "Cr\u00e8me br\u00fbl\u00e9e \u00c5ngstr\u00f6m \ud55c\uad6d\uc5b4 \u1e9e"
    assert words_of(unicodedata.normalize("NFD", text)) == words_of(text)


def test_hashes_are_equal_where_words_are() -> None:
    words = hash_words(["a cat", "", "A  CAT!", "cat a", "a"])
    assert words.counts.tolist() == [2, 0, 2, 2, 1]
    assert words.texts[0] == words.texts[2] != words.texts[3]
    assert words.hashes[0] == words.hashes[2] == words.hashes[5] == words.hashes[6]


def test_words_are_cut_at_a_number_if_asked() -> None:
    words = hash_words(["a b c d", "a b c e", "a"], max_words=3)
    assert words.counts.tolist() == [3, 3, 1]
    assert words.texts[0] == words.texts[1]


@pytest.mark.parametrize("n", [1, 2, 3, 13])
def test_runs_are_those_of_a_plain_loop(n: int) -> None:
    rng = np.random.default_rng(3)
    texts = [" ".join(rng.choice(list("abc"), size=rng.integers(0, 20))) for _ in range(50)]
    runs = distinct(runs_of(hash_words(texts), n))
    expected = [
        {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}
        for words in (text.split() for text in texts)
    ]
    counts = np.bincount(runs.rows, minlength=len(texts))
    assert counts.tolist() == [len(some) for some in expected]
    assert len(set(runs.hashes.tolist())) == len(set().union(*expected))


def test_batches_are_bounded_by_texts_and_by_characters() -> None:
    texts = ["aa", None, "b" * 100, "cc", "dd", "e"]
    found = list(in_batches(iter(texts), max_texts=3, max_characters=5))
    assert found == [["aa", ""], ["b" * 100], ["cc", "dd", "e"]]
    assert list(in_batches(iter([]))) == []
