"""Measure what kinds of characters a text is made of; each distinct character is looked at once."""

from __future__ import annotations

import functools
import unicodedata
from collections import Counter
from dataclasses import dataclass

# Source: Unicode 15.1, blocks of emoji-data.txt: Miscellaneous Symbols and Dingbats (2600-27BF) and
# the pictographs of the supplementary plane (1F000-1FAFF: game pieces, flags, faces, signs).
_EMOJI = ((0x2600, 0x27BF), (0x1F000, 0x1FAFF))


@dataclass(frozen=True, slots=True, kw_only=True)
class CharacterShares:
    """Hold shares of a text's characters, each 0..1; 0 where there is nothing to divide by.

    Args:
        alpha: letters of any script, of all characters but white space.
        latin: Latin letters, of letters.
        uppercase: capitals, of letters that have case.
        digit: decimal digits of any script, of all characters but white space.
        punctuation: Unicode categories P*, of all characters but white space.
        emoji: pictographs, of all characters but white space.
    """

    alpha: float
    latin: float
    uppercase: float
    digit: float
    punctuation: float
    emoji: float


def measure_characters(text: str) -> CharacterShares:
    """Measure one text."""
    counts: Counter[str] = Counter()
    for character, times in Counter(text).items():
        for kind in _kinds(character):
            counts[kind] += times
    num_visible = len(text) - counts["space"]
    return CharacterShares(
        alpha=_share(counts["alpha"], num_visible),
        latin=_share(counts["latin"], counts["alpha"]),
        uppercase=_share(counts["upper"], counts["upper"] + counts["lower"]),
        digit=_share(counts["digit"], num_visible),
        punctuation=_share(counts["punctuation"], num_visible),
        emoji=_share(counts["emoji"], num_visible),
    )


@functools.lru_cache(maxsize=65536)
def _kinds(character: str) -> tuple[str, ...]:
    """Name the kinds a character is of; most are of one or two."""
    found = {
        "space": character.isspace(),
        "alpha": character.isalpha(),
        "latin": character.isalpha() and _is_latin(character),
        "upper": character.isupper(),
        "lower": character.islower(),
        "digit": character.isdecimal(),
        "punctuation": unicodedata.category(character).startswith("P"),
        "emoji": any(first <= ord(character) <= last for first, last in _EMOJI),
    }
    return tuple(kind for kind, is_one in found.items() if is_one)


def _is_latin(letter: str) -> bool:
    return letter.isascii() or unicodedata.name(letter, "").startswith("LATIN ")


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
