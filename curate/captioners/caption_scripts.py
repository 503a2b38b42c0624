"""Measure what kinds of characters captions are made of: letters at all, and of how many scripts.

Two faults of models show here: noise ("!!!!!!", bytes that are no text) and a slip into another
language in the middle of a sentence, which models trained on two of them make.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

pc: Any = pyarrow.compute  # its functions are made at import, unseen by type checkers

# Scripts that one language is written in count as one. Where words stand between spaces a run of
# letters counts once, else each character does.
_SCRIPTS = (
    r"\p{Latin}[\p{Latin}\p{M}'\x{2019}-]*",
    r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}]",
    r"\p{Hangul}+",
    r"\p{Cyrillic}+",
    r"\p{Greek}+",
    r"\p{Arabic}[\p{Arabic}\p{M}]*",
    r"\p{Hebrew}[\p{Hebrew}\p{M}]*",
    r"\p{Devanagari}[\p{Devanagari}\p{M}]*",
    r"[\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]",
    r"[\p{Bengali}\p{Tamil}\p{Telugu}\p{Gujarati}\p{Gurmukhi}\p{Kannada}\p{Malayalam}]+",
)
_LATIN = 0  # its place in `_SCRIPTS`
# Latin words that begin small: those with a capital are names and brands, which all scripts borrow.
_SMALL_LATIN = r"(?:^|[^\p{Latin}'])(?:[a-z]|\p{Ll})\p{Latin}+"
# What a caption reads off a sign stands in quotes, or behind a word that says so, in whatever
# script the sign has.
_QUOTED = (
    r"\"[^\"]*\"|\x{201c}[^\x{201d}]*\x{201d}|\x{00ab}[^\x{00bb}]*\x{00bb}"
    r"|\x{300c}[^\x{300d}]*\x{300d}|\x{2018}[^\x{2019}]*\x{2019}|'[^']+'|\([^()]*\)"
    r"|(?i:\b(?:reads?|reading|says?|saying|written|labell?ed|spelling|words?|text|characters|titled|"
    r"named|called)):?\s+[^\x00-\x7f]+(?:\s+[^\x00-\x7f]+)*"
)
_BROKEN = "\ufffd"  # what decoders put in place of bytes that are no text


def measure_letters(texts: pa.Array) -> NDArray[np.float32]:
    """Measure the share of letters among visible characters: [N], float32, 0..1; 0 if none.

    Characters beyond ASCII count as letters. 0 too where a broken character stands: half a letter
    at the end of a text that was cut off, or bytes of no letter at all.
    """
    lengths = pc.binary_length(texts).to_numpy(zero_copy_only=False).astype(np.int64)
    ends = np.cumsum(lengths)
    data = np.frombuffer("".join(texts.to_pylist()).encode(), np.uint8)
    is_start = (data & 0xC0) != 0x80  # the first byte of a character
    visible = _sums(is_start & (data > 32) & (data != 127), ends)
    is_ascii_letter = ((data | 32) >= ord("a")) & ((data | 32) <= ord("z"))
    letters = _sums(is_start & (is_ascii_letter | (data >= 0x80)), ends)
    letters[pc.match_substring(texts, _BROKEN).to_numpy(zero_copy_only=False)] = 0
    return (letters / np.maximum(visible, 1)).astype(np.float32)


def measure_script_mix(texts: pa.Array) -> NDArray[np.float32]:
    """Measure the share of words that are not in the text's own script: [N], float32, 0..1.

    The own script is that of most words. Quotes and brackets do not count, nor do Latin words with
    a capital in any other script.
    """
    mix = np.zeros(len(texts), np.float32)
    rows = pc.indices_nonzero(pc.invert(pc.string_is_ascii(texts))).to_numpy()
    if not len(rows):
        return mix
    said = pc.replace_substring_regex(texts.take(pa.array(rows)), _QUOTED, " ")
    counts = np.stack([_count(said, script) for script in _SCRIPTS], axis=1)  # [rows, scripts]
    total = counts.sum(axis=1)
    own = counts.argmax(axis=1)
    strange = total - counts[np.arange(len(rows)), own]
    names = counts[:, _LATIN] - _count(said, _SMALL_LATIN)
    strange -= np.where(own == _LATIN, 0, np.maximum(names, 0))
    mix[rows] = strange / np.maximum(total, 1)
    return mix


def _count(texts: pa.Array, pattern: str) -> NDArray[np.int64]:
    found = pc.count_substring_regex(texts, pattern)
    return found.to_numpy(zero_copy_only=False).astype(np.int64)


def _sums(flags: NDArray[np.bool_], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count the flags of each text: of its bytes, which end at `ends`."""
    below = np.concatenate([[0], np.cumsum(flags)])[ends]
    return np.diff(below, prepend=0)
