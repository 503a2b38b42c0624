"""Measure alt text by counting: length, repetition, file names, letters, script. No model."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pyarrow as pa

from curate.annotators.table import Batch, Column

# A whole caption that is an address or names a file by its extension.
_ADDRESS = re.compile(r"(?:https?://|www\.)\S+|[\w-]+(?:\.[\w-]+)*\.(?:com|org|net)(?:/\S*)?", re.I)
_FILE = re.compile(
    r".{0,200}\.(?:jpe?g|png|gif|webp|bmp|tiff?|svg|heic|avif|raw|cr2|nef|pdf|psd)", re.I
)
# Names that devices and programs give. Source: DCF (JEITA CP-3461) names files by four free
# characters and four digits (IMG_1234, DSC01234, P1010001, 100_0001); the others are defaults of
# phones, messengers and screenshots.
_DEVICE = re.compile(
    r"(?:img|image|dsc[nf]?|pict?|p|photo|picture|screen[ _-]?shot|scan|untitled|unnamed|vid"
    r"|whatsapp image|fb|mvimg|pxl|\d{3})?[ _-]*\d[\d ._:()-]*"
    r"(?:(?:at|copy|wa\d+|am|pm)[\d ._:()-]*)*",
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
    """Measure words, characters, repetition, is_filename, alpha_frac and latin_frac.

    Columns:
        words: parts between white space; characters: of the text as it came. Source: DataComp's
            basic filter counts so (Gadre et al. 2023, arXiv 2304.14108; apply_filter.py:
            `len(text.split()) > 2`, `len(text) > 5`).
        repetition: see `measure_repetition`, 0..1.
        is_filename: the whole text is a file name, a URL, a number or a hash.
        alpha_frac: letters of any script over all characters but white space, 0..1.
        latin_frac: Latin letters over letters, 0..1; 0 when there is no letter.
    """

    name: str = "caption_text"
    roles: tuple[str, ...] = ()
    columns: Mapping[str, pa.DataType] = {
        "caption_text.words": pa.int32(),
        "caption_text.characters": pa.int32(),
        "caption_text.repetition": pa.float32(),
        "caption_text.is_filename": pa.bool_(),
        "caption_text.alpha_frac": pa.float32(),
        "caption_text.latin_frac": pa.float32(),
    }

    def setup(self) -> None:
        """Load nothing."""

    def __call__(self, batch: Batch) -> Mapping[str, Column]:
        """Measure every caption."""
        rows = [measure_text(caption) for caption in batch.captions]
        return {
            name: [row[name.removeprefix("caption_text.")] for row in rows] for name in self.columns
        }


def measure_text(text: str) -> dict[str, Any]:
    """Measure one caption; fields as in `CaptionText`."""
    letters = [character for character in text if character.isalpha()]
    num_visible = sum(not character.isspace() for character in text)
    return {
        "words": len(text.split()),
        "characters": len(text),
        "repetition": measure_repetition(text),
        "is_filename": is_filename(text),
        "alpha_frac": len(letters) / num_visible if num_visible else 0.0,
        "latin_frac": sum(map(_is_latin, letters)) / len(letters) if letters else 0.0,
    }


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


def _is_latin(letter: str) -> bool:
    return letter.isascii() or unicodedata.name(letter, "").startswith("LATIN ")
