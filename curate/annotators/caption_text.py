"""Measure alt text by counting: length, repetition, file names, letters, nouns, stock phrases.

All numbers are of the text as it came; `caption_repair.py` mends it. Not for language and toxicity,
which need models, nor for texts that many pictures share, which is a count over all shards.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import pyarrow as pa

from curate.annotators.annotator import Batch, Column
from curate.annotators.boilerplate import measure_boilerplate
from curate.annotators.characters import measure_characters
from curate.annotators.markup import has_markup
from curate.annotators.nouns import load_noun_counter

# Source: fastText 0.9.2, Dictionary::readWord: it splits at these characters (Unicode's other white
# space does not count) and gives each line feed as a token of its own.
_TOKEN = re.compile(r"[^ \n\r\t\v\f\0]+|\n")
# An address inside a text. Its look-behind keeps long words from being tried at every letter.
_URL = re.compile(
    r"(?:https?://|(?<![\w.-])www\.)[^\s<>\"]+"
    r"|(?<![\w.@-])[\w-]{1,63}(?:\.[\w-]{1,63}){0,5}\.(?:com|org|net|edu|gov|info|io|co\.uk|de|ru)\b"
    r"(?:/[^\s<>\"]*)?",
    re.I,
)
# A whole caption that is an address or names a file by its extension.
_ADDRESS = re.compile(r"(?:https?://|www\.)\S+|[\w-]+(?:\.[\w-]+)*\.(?:com|org|net)(?:/\S*)?", re.I)
_FILE = re.compile(
    r".{0,200}\.(?:jpe?g|png|gif|webp|bmp|tiff?|svg|heic|avif|raw|cr2|nef|pdf|psd)", re.I
)
# Names that devices and programs give. Source: DCF (JEITA CP-3461) names files by four free
# characters and four digits (IMG_1234, DSC01234, P1010001, 100_0001); the others are defaults of
# phones, messengers and screenshots. Digits are taken in one place only (`wa\d`, not `wa\d+`): two
# ways to split them would be tried at every part, 2^63 in a name of 255 characters.
_DEVICE = re.compile(
    r"(?:img|image|dsc[nf]?|pict?|p|photo|picture|screen[ _-]?shot|scan|untitled|unnamed|vid"
    r"|whatsapp image|fb|mvimg|pxl|\d{3})?[ _-]*\d[\d ._:()-]*"
    r"(?:(?:at|copy|wa\d|am|pm)[\d ._:()-]*)*",
    re.I,
)
_HEX = re.compile(
    r"[0-9a-f]{12,}(?:[-_][0-9a-f]+)*|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.I
)
# One "word" of parts joined by _ with a digit among them, e.g. header_bg_02_final
_JOINED = re.compile(r"(?=\S*\d)[^\s_]+(?:_[^\s_]+)+")
_FILENAME_RULES = (_ADDRESS, _FILE, _DEVICE, _HEX, _JOINED)
_MAX_NAME_CHARACTERS = 255  # of a file name on common file systems; longer texts are no names


class CaptionText:
    """Measure sizes, shares of kinds of characters, and signs of text that describes nothing.

    Columns:
        words: parts between white space; characters: of the text as it came. Source: DataComp's
            basic filter counts so (Gadre et al. 2023, arXiv 2304.14108; apply_filter.py:
            `len(text.split()) > 2`, `len(text) > 5`). COYO-700M keeps 3 to 256 words, 6 to 1000
            characters.
        tokens: as `fasttext.tokenize` splits. Source: DataComp's caption filter of image_based
            (`len(fasttext.tokenize(text)) > 1`).
        nouns: nouns and names among the first 256 words, for English; see `nouns.py`. Source:
            COYO-700M removes "texts that do not have a noun form".
        repetition: see `measure_repetition`, 0..1.
        is_filename: the whole text is a file name, a URL, a number or a hash.
        boilerplate_frac: characters in stock phrases, 0..1; see `boilerplate.py`.
        url_frac: characters in web addresses over all characters, 0..1.
        has_markup: HTML tags or entities are left in it.
        alpha_frac, latin_frac, uppercase_frac, digit_frac, punctuation_frac, emoji_frac: 0..1; see
            `CharacterShares`.
    """

    name: str = "caption_text"
    roles: tuple[str, ...] = ()
    columns: Mapping[str, pa.DataType] = {
        "caption_text.words": pa.int32(),
        "caption_text.characters": pa.int32(),
        "caption_text.tokens": pa.int32(),
        "caption_text.nouns": pa.int32(),
        "caption_text.repetition": pa.float32(),
        "caption_text.is_filename": pa.bool_(),
        "caption_text.boilerplate_frac": pa.float32(),
        "caption_text.url_frac": pa.float32(),
        "caption_text.has_markup": pa.bool_(),
        "caption_text.alpha_frac": pa.float32(),
        "caption_text.latin_frac": pa.float32(),
        "caption_text.uppercase_frac": pa.float32(),
        "caption_text.digit_frac": pa.float32(),
        "caption_text.punctuation_frac": pa.float32(),
        "caption_text.emoji_frac": pa.float32(),
    }

    def __init__(self) -> None:
        self._count_nouns: Callable[[str], int] | None = None

    def setup(self) -> None:
        """Load the tables that nouns are told by."""
        self._count_nouns = load_noun_counter()

    def __call__(self, batch: Batch) -> Mapping[str, Column]:
        """Measure every caption."""
        assert self._count_nouns is not None, "setup() comes first"
        rows = [
            measure_text(caption) | {"nouns": self._count_nouns(caption)}
            for caption in batch.captions
        ]
        return {
            name: [row[name.removeprefix("caption_text.")] for row in rows] for name in self.columns
        }


def measure_text(text: str) -> dict[str, Any]:
    """Measure one caption; fields as in `CaptionText`, nouns left out."""
    shares = measure_characters(text)
    return {
        "words": len(text.split()),
        "characters": len(text),
        "tokens": count_tokens(text),
        "repetition": measure_repetition(text),
        "is_filename": is_filename(text),
        "boilerplate_frac": measure_boilerplate(text),
        "url_frac": measure_urls(text),
        "has_markup": has_markup(text),
        "alpha_frac": shares.alpha,
        "latin_frac": shares.latin,
        "uppercase_frac": shares.uppercase,
        "digit_frac": shares.digit,
        "punctuation_frac": shares.punctuation,
        "emoji_frac": shares.emoji,
    }


def count_tokens(text: str) -> int:
    """Count the tokens that `fasttext.tokenize` gives."""
    return sum(1 for _ in _TOKEN.finditer(text))


def measure_urls(text: str) -> float:
    """Give the share of characters in web addresses, 0..1."""
    return sum(len(match.group()) for match in _URL.finditer(text)) / max(len(text), 1)


def measure_repetition(text: str) -> float:
    """Give the share of words in repeats of the most common word or pair of words, 0..1.

    0 when no word comes twice; "buy now buy now buy now" has 2/3. The first occurrence does not
    count, so that "a cat and a dog" (1/5) stays far from spam.

    Source: the top n-gram rules of Gopher (Rae et al. 2021, arXiv 2112.11446, table A1), over words
    instead of characters; without the first occurrence, since captions are short (chosen by us).
    """
    words = text.lower().split()
    if len(words) < 2:
        return 0.0
    repeats_of_word = Counter(words).most_common(1)[0][1] - 1
    repeats_of_pair = Counter(pairwise(words)).most_common(1)[0][1] - 1
    return min(1.0, max(repeats_of_word, 2 * repeats_of_pair) / len(words))


def is_filename(text: str) -> bool:
    """Tell whether the whole caption is a file name, a URL, a number or a hash.

    >>> [is_filename(text) for text in ("IMG_1234", "cat.jpg", "2 cats")]
    [True, True, False]
    """
    text = text.strip()
    if not text or len(text) > _MAX_NAME_CHARACTERS:
        return False
    return any(rule.fullmatch(text) for rule in _FILENAME_RULES)
