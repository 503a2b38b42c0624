"""Find captions that are refusals: "I'm sorry, but I cannot describe this image."

Looked for at the start alone: further on, the words stand on signs, covers and speech bubbles that
a caption may well read out. Tools that look anywhere destroy such captions.
"""

from __future__ import annotations

import functools
from typing import Any

import pyarrow as pa
import pyarrow.compute

from curate.captioners.phrase_lists import join, read_phrases

pc: Any = pyarrow.compute  # its functions are made at import, unseen by type checkers

_APOLOGY = "sorry"  # the lines of the list that may stand before all others


def find_refusals(texts: pa.Array) -> pa.BooleanArray:
    """Tell which texts open as refusals: strings [N] with plain apostrophes -> [N]."""
    return pc.match_substring_regex(texts, _pattern())


@functools.cache
def _pattern() -> str:
    phrases = read_phrases("refusals")
    apologies = join(phrases[_APOLOGY])
    refusals = join([one for code, own in phrases.items() if code != _APOLOGY for one in own])
    return rf"(?is)^[\s\"'*_(\[]*(?:(?:{apologies})[\s,.!]*)*(?:{refusals})"
