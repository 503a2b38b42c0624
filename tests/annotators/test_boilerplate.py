import pytest

from curate.annotators.boilerplate import PLACEHOLDERS, is_placeholder, measure_boilerplate


@pytest.mark.parametrize(
    "text",
    [
        "click here",
        "Click HERE",
        "image may contain",
        "This image has an empty alt attribute; its file name is",
        "Read more",
        "royalty-free",
        "Image 3 of 12",
        "photo",
        "[Photo]",
        "picture of",
        "N/A",
        "untitled_",
        "stock\u00a0photo",
    ],
)
def test_stock_phrases_alone_are_boilerplate_in_full(text: str) -> None:
    assert measure_boilerplate(text) > 0.9


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a red circle",
        "photo of a cat",
        "a banner above the street",
        "log inside a forest",
        "a copyrighted song",
        "a cat, buy nowhere",
    ],
)
def test_captions_hold_none(text: str) -> None:
    assert measure_boilerplate(text) == 0


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("red circle - stock photo", 10 / 20),
        ("Load image into Gallery viewer, valentine roses", 26 / 41),
        ("cat. Photo by Ann. All rights reserved.", 24 / 33),
    ],
)
def test_the_share_of_characters_is_given(text: str, share: float) -> None:
    assert measure_boilerplate(text) == pytest.approx(share)


def test_every_placeholder_is_known_in_its_own_form() -> None:
    assert all(is_placeholder(text) for text in PLACEHOLDERS)
