"""Repair the Unicode of captions; the caption as it came stays in ingest's table.

    first MAX_CHARACTERS -> encodings and entities (ftfy) -> tags and invisible characters out
        -> one space for any white space -> again, until nothing changes

What is repaired are mistakes, not style: quotes, ligatures' meaning, full-width punctuation of
Chinese and Japanese and the joiners of Persian, Indic scripts and emoji stay.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

import pyarrow as pa
from ftfy import TextFixerConfig, fix_text

from curate.annotators.annotator import Batch, Column
from curate.annotators.markup import strip_tags

TEXT = "caption_repair.text"

# Chosen by us: four times COYO's 1000. What is cut is no caption, and ftfy takes 0.1 ms for each
# thousand characters that are broken.
MAX_CHARACTERS = 4096
_MAX_ROUNDS = 16  # chosen by us: every round of a text that changes is shorter; two are common

# Source: ftfy 6.3, TextFixerConfig. Entities are always decoded: alt text is no HTML any more.
_CONFIG = TextFixerConfig(
    unescape_html=True,
    uncurl_quotes=False,
    fix_character_width=False,
    fix_latin_ligatures=True,
    normalization="NFC",
    explain=False,
)
# `&amp;amp;lt;`: all layers of one entity go in one round.
_ESCAPED_AMPERSAND = re.compile(r"&(?:amp;)+(?=[#\w])", re.I)
# Soft hyphen, zero-width space and joiner of words, byte order mark, direction marks, invisible
# operators, interlinear marks. Not the zero-width (non-)joiners U+200C and U+200D, which spell.
# Source: Unicode 15.1, category Cf; UAX 9 for directions.
_INVISIBLE = re.compile(
    "[\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ufffc]"
)
# Tag characters hide text from people, but not from models; in flags (England's) they spell.
_HIDDEN_TAGS = re.compile("(\U0001f3f4[\U000e0020-\U000e007e]+\U000e007f)|[\U000e0000-\U000e007f]")
_CONTROL = re.compile("[\x00-\x08\x0b\x0e-\x1b\x7f-\x84\x86-\x9f]")  # but white space


class CaptionRepair:
    """Measure text, the caption to use in place of the one that came, and was_broken.

    Columns:
        text: repaired, at most `MAX_CHARACTERS`; equal to the caption where there was nothing to
            repair.
        was_broken: more than white space and canonical form (NFC) was changed: a wrong encoding,
            entities, tags, control or invisible characters, or it was cut.
    """

    name: str = "caption_repair"
    roles: tuple[str, ...] = ()
    columns: Mapping[str, pa.DataType] = {
        TEXT: pa.string(),
        "caption_repair.was_broken": pa.bool_(),
    }

    def setup(self) -> None:
        """Load nothing."""

    def __call__(self, batch: Batch) -> Mapping[str, Column]:
        """Repair every caption."""
        repaired = [repair_caption(caption) for caption in batch.captions]
        return {
            TEXT: repaired,
            "caption_repair.was_broken": [
                after != _normalize(before)
                for before, after in zip(batch.captions, repaired, strict=True)
            ],
        }


def repair_caption(text: str) -> str:
    """Repair one caption; to repair the result changes nothing.

    >>> repair_caption("Caf\\u00c3\\u00a9 &amp;amp; <b>bar</b>\\u200b")
    'Caf\\u00e9 & bar'
    """
    for _ in range(_MAX_ROUNDS):
        repaired = _repair_once(text)
        if repaired == text:
            break
        text = repaired
    return text


def _repair_once(text: str) -> str:
    text = _ESCAPED_AMPERSAND.sub("&", text[:MAX_CHARACTERS])
    text = strip_tags(fix_text(text, _CONFIG))
    text = _HIDDEN_TAGS.sub(r"\1", _INVISIBLE.sub("", _CONTROL.sub("", text)))
    return _normalize(text)[:MAX_CHARACTERS]


def _normalize(text: str) -> str:
    """Bring to NFC, and any run of white space to one space."""
    return " ".join(unicodedata.normalize("NFC", text).split())
