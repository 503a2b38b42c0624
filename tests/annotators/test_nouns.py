from collections.abc import Callable

import pytest

from curate.annotators.nouns import MAX_WORDS, load_noun_counter


@pytest.fixture(scope="module")
def count() -> Callable[[str], int]:
    return load_noun_counter()


@pytest.mark.parametrize(
    ("text", "nouns"),
    [
        ("a red circle", 1),
        ("A man covers himself with algae as he poses for photographs", 3),
        ("sunset over the sea in Rome, Italy", 4),
        ("A rainbow appears on the Auckland skyline", 3),
        ("read more", 0),
        ("buy now", 0),
        ("see all", 0),
        ("very beautiful and nice", 0),
        ("red and blue", 0),
        ("2024-01-01", 0),
        ("_ | \U0001f600", 0),
        ("", 0),
    ],
)
def test_nouns_and_names_are_counted(count: Callable[[str], int], text: str, nouns: int) -> None:
    assert count(text) == nouns


def test_words_beyond_the_bound_are_not_looked_at(count: Callable[[str], int]) -> None:
    assert count("cat " * 1000) == MAX_WORDS
    assert count("very " * MAX_WORDS + "cat") == 0


def test_equal_texts_have_equal_counts_whatever_came_before(
    count: Callable[[str], int],
) -> None:
    first = [count(text) for text in ("a cat", "click here", "a dog runs")]
    assert [count(text) for text in ("a dog runs", "click here", "a cat")] == first[::-1]
