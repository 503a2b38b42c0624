import pytest

from curate.annotators.word_overlap import MAX_NEAR_WORDS, is_near, share_found, split_words


def overlap(wanted: str, text: str) -> float:
    return share_found(split_words(wanted), split_words(text))


@pytest.mark.parametrize(
    ("caption", "printed", "share"),
    [
        ("summer sale", "SUMMER SALE", 1.0),
        ("a red bicycle by the river", "OPEN DAILY", 0.0),
        ("fresh coffee and cake", "fresh coffee", 0.5),
        ("sale sale sale shoes", "SALE", 0.5),  # distinct words count, once each
        ("", "SALE", 0.0),
        ("sale", "", 0.0),
        ("a 5", "a 5", 0.0),  # no words of two characters
    ],
)
def test_the_share_is_of_the_distinct_words(caption: str, printed: str, share: float) -> None:
    assert overlap(caption, printed) == pytest.approx(share)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Don't STOP!", "dont-stop"),
        ("Caf\u00e9 Z\u00fcrich", "CAFE ZURICH"),
        ("stra\u00dfe", "STRASSE"),
        ("\uff33\uff21\uff2c\uff25", "sale"),  # full-width letters
        ("e\u0301te\u0301 42", "\u00e9t\u00e9 42"),  # accents apart and joined
        ("\u043f\u0440\u0438\u0432\u0435\u0442", "\u041f\u0420\u0418\u0412\u0415\u0422"),
    ],
)
def test_case_accents_width_and_punctuation_make_no_difference(first: str, second: str) -> None:
    assert split_words(first).distinct == split_words(second).distinct
    assert overlap(first, second) == 1.0


def test_words_without_spaces_between_are_found_in_both_directions() -> None:
    assert overlap("leather and coffee shop", "LEATHERANDCOFFEESHOP") == pytest.approx(3 / 4)
    assert overlap("LEATHERCOFFEE", "leather coffee") == 1.0


def test_a_short_word_is_not_found_inside_another() -> None:
    assert overlap("and", "brand sandals") == 0.0


def test_one_wrong_letter_is_forgiven_in_long_words_only() -> None:
    assert overlap("weddimg", "wedding") == 1.0
    assert overlap("safe", "sale") == 0.0


@pytest.mark.parametrize(
    ("first", "second", "near"),
    [
        ("house", "house", True),
        ("house", "hous", True),
        ("house", "hhouse", True),
        ("house", "mouse", True),
        ("house", "housed", True),
        ("house", "mousy", False),
        ("house", "housing", False),
        ("chart", "harts", False),
    ],
)
def test_near_is_one_edit(first: str, second: str, near: bool) -> None:
    assert is_near(first, second) == is_near(second, first) == near


def test_chinese_is_compared_by_pairs_of_characters() -> None:
    assert split_words("\u7f8e\u5473\u5496\u5561").distinct == {
        "\u7f8e\u5473", "\u5473\u5496", "\u5496\u5561"
    }  # fmt: skip
    assert overlap("\u5496\u5561", "\u65b0\u9c9c\u5496\u5561 open") == 1.0
    assert overlap("\u5496\u5561", "\u7ea2\u8336") == 0.0


def test_beyond_the_bound_a_word_is_found_but_not_a_near_one() -> None:
    many = " ".join(f"w{number:06d}" for number in range(MAX_NEAR_WORDS))
    assert overlap("coffee", f"{many} coffee") == 1.0
    assert overlap("coffee", f"{many} coffoe") == 0.0
    assert overlap("coffee", f"coffoe {many}") == 1.0
