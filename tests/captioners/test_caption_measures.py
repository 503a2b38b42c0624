"""Measures of many captions at once are those of each, counted plainly."""

from __future__ import annotations

import zlib
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.planted_captions import TRAPS, plant
from curate.captioners import caption_measures
from curate.captioners.boilerplate import clean_text, clean_texts
from curate.captioners.caption_measures import (
    BATCH_ROWS,
    MEASURES,
    RawCaptions,
    measure_captions,
    whole_sentences,
)
from curate.captioners.caption_scripts import measure_letters, measure_script_mix
from curate.captioners.caption_words import split_words
from curate.captioners.hedges import measure_hedges
from curate.captioners.leaks import split_prompt
from curate.captioners.repetition import (
    measure_compression,
    measure_loops,
    measure_repeated_frac,
)
from curate.captioners.sentences import count_words
from curate.core.seed import make_rng

CHINESE = "\u7ea2\u8272\u7684\u5706"
TEXTS = [
    *TRAPS,
    *(clean_text(one.text) for one in plant(50, 10)),
    "",
    CHINESE * 5,
    f"a{CHINESE}b c",
    "\u0e2b\u0e21\u0e32 dog",
]


def test_words_are_counted_as_sentences_count_them() -> None:
    words = split_words(pa.array(TEXTS))
    assert words.counts.tolist() == [count_words(text) for text in TEXTS]


def plain_repeats(text: str) -> float:
    words = text.lower().split()
    grams = Counter(tuple(words[i : i + 4]) for i in range(len(words) - 3))
    return 1 - len(grams) / grams.total() if grams else 0.0


def test_repeated_4_grams_are_those_of_a_plain_count() -> None:
    spaced = [text for text in TEXTS if text.isascii()]
    found = measure_repeated_frac(split_words(pa.array(spaced)))
    assert found == pytest.approx([plain_repeats(text) for text in spaced], abs=1e-6)
    assert max(found) > 0.8


def plain_loop(text: str) -> int:
    """Find the longest run of one period by trying every start."""
    words = text.lower().split()
    longest = 0
    for period in range(1, 33):
        for start in range(len(words)):
            end = start + period
            while end < len(words) and words[end] == words[end - period]:
                end += 1
            if end - start >= max(4 * period, 5):
                longest = max(longest, end - start)
    return longest


def test_loops_are_those_of_a_plain_search() -> None:
    rng = make_rng(0, "loops")
    texts = [" ".join(rng.choice(["a", "b"], 30)) for _ in range(150)]
    texts += [one.text for one in plant(20, 30) if one.fault in ("", "repetition")]
    texts = [" ".join(text.split()) for text in texts if text.isascii()]
    words = split_words(pa.array(texts))
    found = measure_loops(words, measure_repeated_frac(words))
    assert found.tolist() == [plain_loop(text) for text in texts]


def test_a_loop_has_four_rounds_and_five_words() -> None:
    texts = ["a b a b a b a b", "a b a b a b a", "x x x x x", "x x x x", "a b c " * 4 + "a"]
    words = split_words(pa.array(texts))
    assert measure_loops(words, measure_repeated_frac(words)).tolist() == [8, 0, 5, 0, 13]


def test_compression_is_bytes_over_compressed_bytes() -> None:
    texts = ["word " * 100, "Two boats lie on a grey beach.", CHINESE, ""]
    expected = [len(text.encode()) / len(zlib.compress(text.encode())) for text in texts]
    assert measure_compression(pa.array(texts)) == pytest.approx(expected, rel=1e-6)


def test_hedges_are_counted_per_sentence() -> None:
    texts = [
        "It appears to be a dog. It is perhaps a husky, or possibly a wolf.",
        "A likely story: a dog", "A dog. A cat.", "",
    ]  # fmt: skip
    assert measure_hedges(pa.array(texts)).tolist() == [1.5, 1.0, 0.0, 0.0]


def test_letters_are_shares_of_visible_characters() -> None:
    texts = ["ab 12", "", "1 2 3", CHINESE, "ab\ufffd", "a b c"]
    assert measure_letters(pa.array(texts)).tolist() == [0.5, 0.0, 0.0, 1.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("A plain text", 0.0),
        ("A caf\u00e9 na\u00efve", 0.0),
        (f"A red {CHINESE} on it", 0.5),
        (f'A sign "{CHINESE}" on it', 0.0),
        (f"A sign that reads {CHINESE} in red", 0.0),
        (f"{CHINESE} MacBook Pro {CHINESE}", 0.0),
        (f"{CHINESE} stands near {CHINESE}", 0.2),
        ("\u0421\u043e\u0431\u0430\u043a\u0430 \u0438 \u84dd", 1 / 3),
    ],
)
def test_words_of_a_strange_script_are_a_share(text: str, share: float) -> None:
    assert measure_script_mix(pa.array([text]))[0] == pytest.approx(share)


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("The image shows a dog.", "A dog."),
        ("the picture depicts a dog", "a dog"),
        ("In this image, there is a dog.", "A dog."),
        ("In the photo we can see a dog", "A dog"),
        ("Here is a caption of the image: a dog", "A dog"),
        ('Sure! Here\u2019s a detailed description:\n\n"The image features a dog."', "A dog."),
        ("**Caption:** a dog", "A dog"),
        ("An image of a dog", "A dog"),
        ("This is an image of a dog", "A dog"),
        ("  a \n dog\u3000runs ", "a dog runs"),
        ('"A dog."', "A dog."),
        ('"A" and "B"', '"A" and "B"'),
        ("A photo of a dog", "A photo of a dog"),
        ("A dog in the image of its mother", "A dog in the image of its mother"),
        ("Das Bild zeigt einen Hund", "Einen Hund"),
        ("\u8fd9\u5f20\u56fe\u7247\u5c55\u793a\u4e86\u4e00\u53ea\u72d7", "\u4e00\u53ea\u72d7"),
        ("The image shows", ""),
        ("", ""),
    ],
)
def test_openings_are_stripped_at_the_start_alone(text: str, cleaned: str) -> None:
    assert clean_text(text) == cleaned


def test_texts_that_had_an_opening_are_told() -> None:
    texts, had_opening = clean_texts(pa.array(["The image shows a dog", "A  dog", ""]))
    assert texts.to_pylist() == ["A dog", "A dog", ""]
    assert had_opening.to_pylist() == [True, False, False]


def test_a_text_without_a_whole_sentence_cannot_be_trimmed() -> None:
    assert whole_sentences("A dog. It lies on a") == "A dog."
    assert whole_sentences("A dog lies on") == ""
    assert whole_sentences('He says "no."') == 'He says "no."'
    assert whole_sentences(f"{CHINESE}\u3002{CHINESE}") == f"{CHINESE}\u3002"
    assert whole_sentences("") == ""


def test_prompts_are_cut_into_pieces_without_what_frames_them() -> None:
    prompt = "<|im_start|>user\n<image>Describe all of this image. Be brief.<|im_end|>\nassistant"
    assert split_prompt(prompt) == ("describe all of this image",)
    assert split_prompt("USER: Say what you see here ASSISTANT:") == ("say what you see here",)


def test_batches_of_long_texts_are_bounded_by_size(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["a dog " * n for n in (1, 400, 1, 1, 900, 1)]
    raw = RawCaptions(texts=pa.array(texts), is_cut_off=pa.array([False] * 6), prompts=[()] * 6)
    whole = measure_captions(raw, trim=False)
    monkeypatch.setattr(caption_measures, "BATCH_BYTES", 2_500)
    parts = measure_captions(raw, trim=False)
    assert parts["text"].num_chunks > whole["text"].num_chunks == 1
    assert parts.equals(whole)


def test_batches_do_not_show() -> None:
    texts = (TEXTS * (BATCH_ROWS // len(TEXTS) + 2))[: BATCH_ROWS + 7]
    flags = [False] * len(texts)
    raw = RawCaptions(texts=pa.array(texts), is_cut_off=pa.array(flags), prompts=[()] * len(texts))
    table = measure_captions(raw, trim=False)
    assert table.schema == MEASURES
    assert len(table) == len(texts)
    first = table.slice(0, len(TEXTS))
    assert table.slice(BATCH_ROWS // len(TEXTS) * len(TEXTS), 7).equals(first.slice(0, 7))
    none = RawCaptions(texts=pa.array([], pa.string()), is_cut_off=pa.array([]), prompts=[])
    assert len(measure_captions(none, trim=True)) == 0
    assert np.isfinite(table["compression"].to_numpy()).all()
