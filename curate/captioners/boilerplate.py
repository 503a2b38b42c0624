"""Clean captions: white space folded, quotes around the whole taken off, stock openings stripped.

"The image shows" and its like are stripped and not rejected: they say nothing of the picture, and
left in they would mark which arm of a mix a caption comes from. How many texts had one is counted.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute

from curate.captioners.phrase_lists import join, read_phrases

pc: Any = pyarrow.compute  # its functions are made at import, unseen by type checkers

# Chosen by us: "Sure! Here is a caption: The image shows" has three; more is no caption.
_MAX_OPENINGS = 3
_QUOTES = {'"': '"', "\u201c": "\u201d", "\u00ab": "\u00bb", "\u300c": "\u300d"}


class CleanTexts(NamedTuple):
    """Hold clean texts [N], and which of them had an opening [N]."""

    texts: pa.StringArray
    had_opening: pa.BooleanArray


def clean_texts(texts: pa.Array) -> CleanTexts:
    """Clean raw captions: strings [N]; what becomes of an opening alone is ""."""
    folded = pa.array([_fold(text) for text in texts.to_pylist()], pa.string())
    bare = folded
    for _ in range(_MAX_OPENINGS):
        stripped = pc.replace_substring_regex(bare, _pattern(), "")
        rows = pc.indices_nonzero(pc.not_equal(stripped, bare)).to_pylist()
        if not rows:
            break
        rest: list[str] = stripped.to_pylist()
        for row in rows:
            rest[row] = _begin_like(_unquote(rest[row].strip()), folded[row].as_py())
        bare = pa.array(rest, pa.string())
    return CleanTexts(bare, pc.not_equal(bare, folded))


def clean_text(text: str) -> str:
    """Clean one raw caption; see `clean_texts`, which takes many in hardly more time."""
    return clean_texts(pa.array([text], pa.string())).texts[0].as_py()


@functools.cache
def _pattern() -> str:
    openings = [one for own in read_phrases("boilerplate").values() for one in own]
    return rf"(?is)\A(?:{join(openings)})"


def _fold(text: str) -> str:
    """Make every run of white space one space, and take off quotes around the whole."""
    return _unquote(" ".join(text.split()))


def _unquote(text: str) -> str:
    """Take off quotes that stand around the whole text and nowhere in it."""
    closing = _QUOTES.get(text[:1])
    if closing is None or len(text) < 2 or not text.endswith(closing):
        return text
    inside = text[1:-1]
    return text if closing in inside or text[0] in inside else inside.strip()


def _begin_like(text: str, before: str) -> str:
    """Begin with a capital where the text did before its opening was stripped."""
    first = next((letter for letter in before if letter.isalpha()), "")
    return text[:1].upper() + text[1:] if first.isupper() else text
