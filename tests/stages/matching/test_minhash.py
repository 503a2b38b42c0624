"""Sets of words are compared exactly; bands find nearly all pairs above the threshold."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys

import numpy as np
import pytest

from curate.stages.matching.minhash import NUM_BANDS, algorithm, bands_of, jaccard, word_sets
from curate.stages.matching.words import hash_words, words_of


def plain_set(text: str) -> set[tuple[str, ...]]:
    words = words_of(text)
    return {(word,) for word in words} | set(itertools.pairwise(words))


def plain_jaccard(left: str, right: str) -> float:
    one, other = plain_set(left), plain_set(right)
    return len(one & other) / max(len(one | other), 1)


def varied_pairs(num_pairs: int) -> list[tuple[str, str]]:
    """Give texts of 1..30 words and the same ones with some words replaced."""
    draw = random.Random(5)
    vocabulary = [f"w{number}" for number in range(500)]
    pairs: list[tuple[str, str]] = []
    for _ in range(num_pairs):
        words = draw.choices(vocabulary, k=draw.randint(1, 30))
        share = draw.random() / 2
        other = [draw.choice(vocabulary) if draw.random() < share else word for word in words]
        pairs.append((" ".join(words), " ".join(other)))
    return pairs


def test_jaccard_is_that_of_plain_sets() -> None:
    pairs = [*varied_pairs(400), ("", ""), ("a", ""), ("a a a", "a"), ("a b", "B a!")]
    left, right = (word_sets(hash_words(list(texts))) for texts in zip(*pairs, strict=True))
    expected = [plain_jaccard(*pair) for pair in pairs]
    np.testing.assert_allclose(jaccard(left, right), expected)


def test_one_word_of_ten_leaves_three_quarters() -> None:
    one = "a red fox jumps over two lazy dogs near water"
    other = one.replace("lazy", "tired")
    assert plain_jaccard(one, other) == pytest.approx(16 / 22)
    assert plain_jaccard(one, one.replace("water", "fire")) == pytest.approx(17 / 21)


@pytest.mark.parametrize("share", [0.8, 0.5, 0.2])
def test_bands_agree_as_often_as_the_formula_says(share: float) -> None:
    pairs = [
        (" ".join(f"{n}s{i}" for i in range(40)), " ".join(f"{n}s{i + k}" for i in range(40)))
        for n in range(3000)
        for k in [round(40 * (1 - share) / (1 + share))]
    ]
    left, right = (word_sets(hash_words(list(texts))) for texts in zip(*pairs, strict=True))
    true = jaccard(left, right).mean()
    agree = (bands_of(left) == bands_of(right)).any(axis=1).mean()
    expected = 1 - (1 - true**5) ** NUM_BANDS
    deviation = (expected * (1 - expected) / len(pairs)) ** 0.5
    assert abs(agree - expected) < 4 * deviation + 0.01  # .01: 80 minima are few


def test_rows_are_taken_in_any_order() -> None:
    sets = word_sets(hash_words(["a b", "", "c", "d e f"]))
    some = sets.take(np.array([3, 0, 0, 1]))
    assert some.sizes.tolist() == [5, 3, 3, 0]
    assert some.values[5:8].tolist() == some.values[8:11].tolist() == sets.values[:3].tolist()


def test_bands_are_the_same_in_another_process() -> None:
    texts = ["a red fox", "", "a red fox jumps over two lazy dogs"]
    code = (
        "from curate.stages.matching.minhash import bands_of, word_sets\n"
        "from curate.stages.matching.words import hash_words\n"
        f"print(bands_of(word_sets(hash_words({texts!r}))).tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(bands_of(word_sets(hash_words(texts))).tolist())


def test_bands_do_not_depend_on_the_texts_around() -> None:
    texts = [text for pair in varied_pairs(50) for text in pair]
    together = bands_of(word_sets(hash_words(texts)))
    for row, text in enumerate(texts):
        assert bands_of(word_sets(hash_words([text]))).tolist() == [together[row].tolist()]


def test_the_algorithm_has_a_version() -> None:
    assert algorithm() >= 1


def test_no_texts_have_no_bands() -> None:
    sets = word_sets(hash_words([]))
    assert bands_of(sets).shape == (0, NUM_BANDS)
    assert jaccard(sets, sets).shape == (0,)
