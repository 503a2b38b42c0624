"""Cut a caption into its sentences, and shorten it to whole sentences: rules, no model.

Path of a text: runs of sentence ends found -> each is kept as a boundary or not, by the word before
and the letter after -> spans of the text. Nothing is rewritten: a shortened text is the start of
the long one. Time is linear in the length.

Two kinds of ends: those that are nothing else (the full stops of Chinese, Hindi or Arabic), after
which no space is needed; and ". ! ? ...", which also end abbreviations, initials and list numbers.
Where it is in doubt a sentence goes on, since half a name is worse than a long sentence. Captions
of some models begin small: then no sentence needs a capital.

Own rules, and not pysbd's: that package cuts before any small letter and takes 67 times as long for
12 times the text (4.3 s for 100,000 characters).
"""

from __future__ import annotations

import re

# Source: Unicode 15.1, property Sentence_Terminal: the ends of Armenian, Arabic, Urdu, the scripts
# of India, Burmese, Amharic, Khmer, Chinese and Japanese.
_ENDS_ALONE = (
    "\u0589\u061f\u06d4\u0964\u0965\u104a\u104b\u1362\u1367\u17d4\u17d5"
    "\u3002\uff01\uff0e\uff1f\uff61"
)
_ENDS_LATIN = ".!?\u2026\u203c\u203d\u2047\u2048\u2049"
_CLOSERS = "\"'\\)\\]}*_\u00bb\u2019\u201d\u203a\u300b\u300d\u300f\u3011\u3015\uff09\uff63"
_OPENERS = "\"'(\\[{*_#\u00ab\u00a1\u00bf\u2018\u201c\u2039\u201e"

_END = re.compile(
    rf"(?P<latin>[{_ENDS_LATIN}]+)[{_CLOSERS}]*(?=\s|$)"
    rf"|[{_ENDS_ALONE}][{_ENDS_ALONE}{_ENDS_LATIN}]*[{_CLOSERS}]*"
    r"|(?=\n[^\S\n]*\n|\n[^\S\n]*(?:[-*\u2022]|\d{1,3}[.)])[^\S\n])"  # a paragraph, a list item
)
_NEXT = re.compile(rf"\s*[{_OPENERS}]*(?P<word>[^\W\d_]*)(?P<stop>[{_ENDS_LATIN}]?)")

# The word before an end is looked for in so many characters; longer ones are no abbreviations.
_MAX_WORD = 24
_WORD_BEFORE = re.compile(rf"[^\s{_OPENERS}{_CLOSERS},;:/-]*$")

# Chosen by us: abbreviations of pictures' captions. Those of the first kind always have something
# behind them; those of the second end a sentence as often as not, like acronyms and initials.
_NEVER_LAST = re.compile(
    r"adm|approx|ave|ca|capt|cf|col|dept|dr|e\.g|figs?|gen|gov|hon|i\.e|lt|messrs|mlle|mme|mr|mrs|ms"
    r"|mt|pres|prof|rep|rev|sen|sgt|viz|vs"
)
_PERHAPS_LAST = re.compile(
    r"al|blvd|bros|cm|co|corp|esq|est|etc|ft|hwy|inc|jr|km|lbs?|ltd|mm|oz|rd|sq|sr|st|yd"
    r"|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec"
    r"|[^\W\d_]|(?:[^\W\d_]{1,2}\.)+[^\W\d_]{1,2}"  # J, U.S, p.m, Ph.D
)
_NUMBERED = re.compile(r"nos?|pp?|vol|ch")
# Chosen by us: words that open sentences of captions and no names; they tell "the U.S. The" from
# "the U.S. Capitol". The first few open one without a capital too, and seldom go on with one.
_OPENING_SURELY = re.compile(r"an?|he|his|it|its|she|the|their|there|these|they|this|those")
_OPENING = re.compile(
    _OPENING_SURELY.pattern
    + r"|above|all|along|also|although|and|another|around|as|at|behind|below|beneath|beside|between"
    r"|beyond|both|but|by|each|every|everything|from|her|here|however|if|in|just|many|most|near|next"
    r"|on|one|others?|our|over|overall|people|several|some|that|though|three|to|two|under|we|what"
    r"|when|where|while|with|you"
)
# Scripts written without spaces: each of their characters is a word. Chosen by us; Chinese has
# about 1.5 characters to a word, and the encoders' tokenizers mostly take them one by one.
_SPACELESS = re.compile(
    "[\u0e01-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
    "\u3041-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"  # kana and Han
)


def split_sentences(text: str) -> list[str]:
    """Cut a text into sentences, in order, without the white space between them.

    >>> split_sentences("Dr. J. Smith is 1.8 m tall. Behind him... a dog! It barks.")
    ['Dr. J. Smith is 1.8 m tall.', 'Behind him... a dog!', 'It barks.']
    """
    return [text[start:end] for start, end in sentence_spans(text)]


def cut_to_words(text: str, max_words: int) -> str:
    """Keep as many whole sentences from the start as have at most `max_words` words together.

    The first sentence stays whatever its length: a caption is never cut inside of one, nor emptied.

    Args:
        text: any.
        max_words: as `count_words` counts them, at least 1.

    Raises:
        ValueError: `max_words` is below 1.
    """
    if max_words < 1:
        raise ValueError(f"max_words: must be >= 1, got {max_words}; raise it")
    spans = sentence_spans(text)
    if not spans:
        return ""
    (start, kept), num_words = spans[0], 0
    for first, last in spans:
        num_words += count_words(text[first:last])
        if num_words > max_words:
            break
        kept = last
    return text[start:kept]


def count_words(text: str) -> int:
    """Count words: runs between spaces; where a script has no spaces, its characters."""
    return len((text if text.isascii() else _SPACELESS.sub(" x ", text)).split())


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Give start and end of each sentence; white space at the borders is in none."""
    opening = _NEXT.match(text)
    is_small = opening is not None and opening["word"][:1].islower()
    spans: list[tuple[int, int]] = []
    start = 0
    for end in _END.finditer(text):
        if _is_boundary(text, start, end, is_small=is_small):
            spans.append(_strip(text, start, end.end()))
            start = end.end()
    spans.append(_strip(text, start, len(text)))
    return [span for span in spans if span[0] < span[1]]


def _is_boundary(text: str, start: int, end: re.Match[str], *, is_small: bool) -> bool:
    """Tell whether a sentence that begins at `start` ends at `end`.

    Args:
        text: all of it.
        start: of the sentence.
        end: what may be its end.
        is_small: sentences of this text may begin with small letters.
    """
    if end["latin"] is None:
        return not _is_inside_number(text, end)
    following = _NEXT.match(text, end.end())
    assert following is not None, "every part of the pattern may be empty"
    word, stop = following["word"], following["stop"]
    if stop and not word:
        return False  # dots with spaces between: ". . ."
    if not is_small and word[:1].islower():
        return False
    if end["latin"] != ".":
        return True
    return not (_is_list_number(text, start, end.start()) or _is_abbreviation(text, end, following))


def _is_inside_number(text: str, end: re.Match[str]) -> bool:
    """Tell a full-width point between digits from one that ends a sentence."""
    before, after = text[end.start() - 1 : end.start()], text[end.end() : end.end() + 1]
    return before.isdigit() and after.isdigit()


def _is_list_number(text: str, start: int, stop: int) -> bool:
    """Tell whether all there is of the sentence is a number: "2." of a list."""
    return stop - start <= _MAX_WORD and text[start:stop].strip().isdigit()


def _is_abbreviation(text: str, end: re.Match[str], following: re.Match[str]) -> bool:
    """Tell whether the full stop belongs to the word before it, and no sentence ends."""
    found = _WORD_BEFORE.search(text, max(0, end.start() - _MAX_WORD), end.start())
    word = found.group().lower() if found else ""
    first = following.start("word")
    if _NUMBERED.fullmatch(word) and text[first : first + 1].isdigit():
        return True
    if _NEVER_LAST.fullmatch(word):
        return True
    return _PERHAPS_LAST.fullmatch(word) is not None and not _opens_sentence(following)


def _opens_sentence(following: re.Match[str]) -> bool:
    """Tell whether a sentence begins: with one of its usual words, or there is nothing more."""
    word = following["word"]
    if not word:
        return following.end() == len(following.string)
    openings = _OPENING_SURELY if word[0].islower() else _OPENING
    return openings.fullmatch(word.lower()) is not None and following["stop"] != "."


def _strip(text: str, start: int, end: int) -> tuple[int, int]:
    piece = text[start:end]
    return start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip())
