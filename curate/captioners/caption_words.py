"""Cut many captions into words at once, and count what is in them, without a loop over texts.

Words are those of `sentences.count_words`: runs between spaces, and in scripts that are written
without spaces (Chinese, Japanese, Thai) each character.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

pc: Any = pyarrow.compute  # its functions are made at import, unseen by type checkers

# The characters of `sentences.count_words`, in RE2's spelling; a test holds the two together.
_SPACELESS = (
    r"[\x{0e01}-\x{0eff}\x{1000}-\x{109f}\x{1780}-\x{17ff}\x{3041}-\x{30ff}\x{3400}-\x{9fff}"
    r"\x{f900}-\x{faff}\x{20000}-\x{3ffff}]"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """Hold the words of N texts in a row.

    Args:
        codes: [W], int64; equal words of any text have equal codes, case apart.
        owners: [W], int64, ascending: whose word it is, 0..N-1.
        starts: [N + 1], int64: where each text's words begin, and the end.
    """

    codes: NDArray[np.int64]
    owners: NDArray[np.int64]
    starts: NDArray[np.int64]

    @property
    def counts(self) -> NDArray[np.int64]:
        """Give the number of words of each text: [N]."""
        return np.diff(self.starts)

    def of(self, rows: NDArray[np.int64]) -> Words:
        """Give the words of some texts alone, which are numbered anew in the order of `rows`."""
        counts = self.counts[rows]
        starts = np.concatenate([[0], np.cumsum(counts)])
        owners = np.repeat(np.arange(len(rows)), counts)
        places = np.arange(starts[-1]) - starts[owners] + self.starts[rows][owners]
        return Words(codes=self.codes[places], owners=owners, starts=starts)


def split_words(texts: pa.Array) -> Words:
    """Cut clean texts (white space folded, none at the ends) into words."""
    listed = pc.utf8_split_whitespace(pc.utf8_lower(_space_out(texts)))
    lengths = pc.list_value_length(listed).to_numpy(zero_copy_only=False)
    words = listed.flatten()
    owners = np.repeat(np.arange(len(texts)), lengths)
    is_word = pc.not_equal(words, "").to_numpy(zero_copy_only=False)
    codes = words.dictionary_encode().indices.to_numpy(zero_copy_only=False)
    owners = owners[is_word]
    counts = np.bincount(owners, minlength=len(texts))
    return Words(
        codes=codes[is_word].astype(np.int64),
        owners=owners,
        starts=np.concatenate([[0], np.cumsum(counts)]),
    )


def _space_out(texts: pa.Array) -> pa.Array:
    """Put spaces around each character that is a word."""
    is_plain = pc.string_is_ascii(texts)
    if pc.all(is_plain).as_py() or not len(texts):
        return texts
    return pc.if_else(is_plain, texts, pc.replace_substring_regex(texts, _SPACELESS, r" \0 "))
