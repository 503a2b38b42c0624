"""Tell how many words two texts share when one of them was read from a picture.

Pure functions of strings. Texts are compared without case, accents, width and punctuation. Words
are runs of letters and digits of `MIN_WORD` characters or more; Chinese characters and kana stand
without spaces and are cut into pairs. Source: Lucene's CJKBigramFilter does the same.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from itertools import islice, takewhile

# All chosen by us, after what the recogniser does to drawn words: it reads the letters and loses
# spaces ("LEATHERCOFFEE SALE" for three words), and now and then it takes one letter for another.
MIN_WORD = 2  # single characters say nothing of a picture
MIN_INSIDE = 4  # a shorter word stands inside others by chance
MIN_NEAR = 5  # one letter of a shorter word is most of its meaning: sale, safe, tale
MAX_NEAR_WORDS = 256  # each is held against each; COYO-700M's longest captions have so many

_RUN = re.compile(r"[^\W_]+")
_ACCENT = re.compile("[\u0300-\u036f'\u2019]")  # combining accents, and apostrophes: don't, dont
_UNSPACED = re.compile("([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """Hold a text's distinct words, and all its letters and digits in one string.

    Args:
        distinct: words.
        long: the first `MAX_NEAR_WORDS` of them that a word of `MIN_NEAR` characters may be near.
        squeezed: all runs of letters and digits.
    """

    distinct: frozenset[str]
    long: tuple[str, ...]
    squeezed: str


def split_words(text: str) -> Words:
    """Split a text into normalised words."""
    plain = _ACCENT.sub("", unicodedata.normalize("NFKD", text).casefold())
    runs = _RUN.findall(unicodedata.normalize("NFKC", plain))
    words = [word for run in runs for part in _UNSPACED.split(run) for word in _words_of(part)]
    long = dict.fromkeys(word for word in words if len(word) >= MIN_NEAR - 1)
    return Words(
        distinct=frozenset(word for word in words if len(word) >= MIN_WORD),
        long=tuple(islice(long, MAX_NEAR_WORDS)),
        squeezed="".join(runs),
    )


def share_found(wanted: Words, text: Words) -> float:
    """Give the share of the distinct words of one text that stand in another; 0 for no words.

    A word stands in a text that has the same word; or, from `MIN_INSIDE` characters on, whose
    squeezed letters contain it; or, from `MIN_NEAR` on, that has a word at most one edit away
    among its `long` ones.
    """
    if not wanted.distinct:
        return 0.0
    return sum(_stands_in(word, text) for word in wanted.distinct) / len(wanted.distinct)


def is_near(first: str, second: str) -> bool:
    """Tell whether two words differ by at most one letter put in, left out or exchanged."""
    if abs(len(first) - len(second)) > 1:
        return False
    pairs = zip(first, second, strict=False)
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    rest, other = first[same:], second[same:]
    return rest[1:] == other[1:] or rest == other[1:] or rest[1:] == other


def _words_of(part: str) -> list[str]:
    if _UNSPACED.fullmatch(part):
        return [part[index : index + 2] for index in range(len(part) - 1)]
    return [part]


def _stands_in(word: str, text: Words) -> bool:
    if word in text.distinct:
        return True
    if len(word) >= MIN_INSIDE and word in text.squeezed:
        return True
    return len(word) >= MIN_NEAR and any(is_near(word, other) for other in text.long)
