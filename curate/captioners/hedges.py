"""Measure how unsure captions sound: "appears to be", "possibly", "it is hard to tell"."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from curate.captioners.phrase_lists import join, read_phrases

pc: Any = pyarrow.compute  # its functions are made at import, unseen by type checkers

# Every run of marks that ends a sentence. Coarser than sentences.py, which a rate does not need.
_ENDS = r"[.!?\x{2026}]+[\"')\x{201d}\x{2019}]*(?:\s|$)|[\x{3002}\x{ff01}\x{ff1f}\x{0964}]"


def measure_hedges(texts: pa.Array) -> NDArray[np.float32]:
    """Measure hedging phrases per sentence: strings [N] -> [N], float32, >= 0. English only."""
    hedges = pc.count_substring_regex(texts, _pattern()).to_numpy(zero_copy_only=False)
    sentences = pc.count_substring_regex(texts, _ENDS).to_numpy(zero_copy_only=False)
    return (hedges / np.maximum(sentences, 1)).astype(np.float32)


@functools.cache
def _pattern() -> str:
    phrases = [one for own in read_phrases("hedges").values() for one in own]
    return rf"(?i)\b(?:{join(phrases)})\b"
