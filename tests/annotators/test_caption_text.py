import time

import pytest
from PIL import Image

from curate.annotators.annotator import Batch
from curate.annotators.caption_text import (
    CaptionText,
    count_tokens,
    is_filename,
    measure_repetition,
    measure_text,
    measure_urls,
)


@pytest.mark.parametrize(
    "text",
    [
        "IMG_1234",
        "IMG_1234.JPG",
        "DSC01234",
        "DSCN0042",
        "P1010001",
        "100_0001",
        "image001",
        "photo 12",
        "Screenshot 2023-05-01 at 10.22.33",
        "WhatsApp Image 2021-03-04 at 12.00.01",
        "IMG-20210304-WA0012",
        "20210304_120001",
        "https://example.org/a.jpg",
        "www.example.com",
        "example.com/photos/12",
        "my holiday photo.png",
        "header_bg_02_final",
        "d41d8cd98f00b204e9800998ecf8427e",
        "123e4567-e89b-12d3-a456-426614174000",
        " 12345 ",
    ],
)
def test_file_names_and_addresses_are_recognised(text: str) -> None:
    assert is_filename(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a red circle",
        "2 cats on a sofa",
        "Boeing 747 at the airport",
        "photo of a cat",
        "the cafe, see www.example.com for more",
        "St. Peter's Square in Rome",
        "ein roter Kreis",
        "cat",
        "A4 paper",
        "facade",
        "red_and_blue",
        "3d printed part",
    ],
)
def test_captions_are_no_file_names(text: str) -> None:
    assert not is_filename(text)


def test_words_and_characters_are_counted_as_datacomp_does() -> None:
    found = measure_text(" a red  circle\n")
    assert (found["words"], found["characters"]) == (3, 15)


def test_an_empty_caption_has_zeros() -> None:
    found = measure_text("  ")
    assert (found["words"], found["repetition"], found["alpha_frac"]) == (0, 0.0, 0.0)
    assert found["latin_frac"] == 0.0


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("cat", 0.0),
        ("a red circle", 0.0),
        ("a cat and a dog", 1 / 5),
        ("sale sale sale sale", 1.0),
        ("buy now buy now buy now", 4 / 6),
        ("Cat cat dog", 1 / 3),
    ],
)
def test_repetition_is_the_share_of_repeats(text: str, share: float) -> None:
    assert measure_repetition(text) == pytest.approx(share)


def test_alpha_frac_ignores_white_space() -> None:
    assert measure_text("ab 12")["alpha_frac"] == 0.5


def test_letters_of_other_scripts_are_letters_but_not_latin() -> None:
    found = measure_text("\u043a\u043e\u0442 cat")  # Cyrillic "kot"
    assert (found["alpha_frac"], found["latin_frac"]) == (1.0, 0.5)


def test_accented_letters_are_latin() -> None:
    assert measure_text("caf\u00e9 \u0142\u00f3d\u017a")["latin_frac"] == 1.0


@pytest.mark.parametrize(
    "text",
    ["a " * 50_000, "1-" * 50_000, "a." * 50_000, "_" * 100_000, "wa1" * 80 + "x", "<b " * 30_000],
)
def test_absurd_captions_are_measured_quickly(text: str) -> None:
    start = time.process_time()
    measure_text(text)
    assert time.process_time() - start < 2


@pytest.mark.parametrize(
    "text",
    [
        "1" + "wa11" * 63 + "x",
        "1" + "am1" * 84 + "x",
        "1" * 254 + "x",
        "a-a." * 63 + "x",
        "0123456789ab" + "-0" * 121 + "x",
        "1_" * 127 + " ",
    ],
)
def test_a_name_is_never_tried_in_many_ways(text: str) -> None:
    start = time.process_time()
    is_filename(text[:255])
    assert time.process_time() - start < 0.05


def test_names_of_messengers_keep_all_their_digits() -> None:
    assert is_filename("IMG-20210304-WA0012 copy 2") and not is_filename("IMG-20210304-WA")


# Counts of `fasttext.tokenize` with Facebook's own fasttext 0.9.2.
@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("a red circle", 3),
        ("", 0),
        ("  ", 0),
        ("a\tb\x0bc", 3),
        ("x\0y", 2),
        ("\n", 1),
        ("a\n\nb", 4),
        ("a\u00a0b\u3000c", 1),  # no white space for fastText
    ],
)
def test_tokens_are_counted_as_fasttext_does(text: str, count: int) -> None:
    assert count_tokens(text) == count


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("a cat", 0.0),
        ("https://a.org/b.jpg", 1.0),
        ("see www.cat.com", 11 / 15),
        ("by CaliforniaWatercolor.com - art", 24 / 33),
        ("St. Peter in Rome.In May", 0.0),
        ("mail me@cat.com", 0.0),
        ("cat.jpg", 0.0),
    ],
)
def test_addresses_are_told(text: str, share: float) -> None:
    assert measure_urls(text) == pytest.approx(share)


def test_the_annotator_gives_every_column() -> None:
    annotator = CaptionText()
    annotator.setup()
    captions = ["IMG_0001", "A man on a beach", "read more", ""]
    batch = Batch(
        keys=list("abcd"), images=[Image.new("RGB", (8, 8))] * 4, captions=captions, columns={}
    )
    found = annotator(batch)
    assert set(found) == set(annotator.columns)
    assert list(found["caption_text.is_filename"]) == [True, False, False, False]
    assert list(found["caption_text.nouns"]) == [1, 2, 0, 0]
    assert list(found["caption_text.boilerplate_frac"]) == [0, 0, 1, 0]
