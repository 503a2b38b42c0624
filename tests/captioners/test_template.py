"""Captions from metadata."""

from __future__ import annotations

import pytest

from curate.captioners.template import caption_from_metadata, clean_alt_text, words_from_name


@pytest.mark.parametrize(
    ("alt", "text"),
    [
        ("a  red\ncircle", "a red circle"),
        ("cats &amp; dogs", "cats & dogs"),
        ("<b>a cat</b> on a mat", "a cat on a mat"),
        ("a cat https://example.org/x.jpg on a mat", "a cat on a mat"),
        ("3 < 4 and 5 > 2", "3 < 4 and 5 > 2"),
    ],
)
def test_alt_text_is_cleaned(alt: str, text: str) -> None:
    assert clean_alt_text(alt) == text


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("https://example.org/a/red-circle_and%20star.jpg?w=100", "red circle and star"),
        ("folder/old.oak-tree.png", "old oak tree"),
        ("https://example.org/IMG_1234.JPG", ""),
        ("DSC0001.jpg", ""),
        ("0042.png", ""),
        ("", ""),
    ],
)
def test_file_names_become_words_unless_a_camera_wrote_them(url: str, text: str) -> None:
    assert words_from_name(url) == text


def test_file_name_is_used_only_without_alt_text() -> None:
    url = "https://example.org/a-blue-square.png"
    assert caption_from_metadata("a red circle", url).text_raw == "a red circle"
    assert caption_from_metadata(" ", url).text_raw == "a blue square"
    assert caption_from_metadata("", "IMG_1.jpg").text_raw == ""
