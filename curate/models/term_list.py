"""Find listed terms in captions: whole words, folded, in any script.

A list is a text file in UTF-8 with one term a line; lines that start with "# " are comments. A term
may hold spaces. `da:slut` counts only in texts of that language: the same letters are innocent in
others (here Danish for "end"). Reports give counts, never the words.

    text -> fold (case, accents, invisible characters) -> words -> longest listed run from each word
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from curate.core.errors import ModelError
from curate.models.packs import ModelRef

_LANGUAGE = re.compile(r"([a-z]{2,3}):(\S.*)")
# Accents of Latin, Greek and Cyrillic letters; soft hyphen, zero-width and direction marks, which
# are put into words to hide them. Marks of other scripts are letters in all but name and stay.
_DROPPED = re.compile("[\u0300-\u036f\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]+")
# Not \w: vowel signs of Indic scripts and of Arabic are none in Python's re. So: everything but
# white space and the punctuation of ASCII, Latin-1, Arabic, Devanagari and the general blocks.
_WORD = re.compile(
    r"[^\s\x00-/:-@\[-`{-\xa9\xab-\xb4\xb6-\xb9\xbb-\xbf\xd7\xf7\u060c\u061b\u061f\u06d4\u0964\u0965"
    r"\u2000-\u206f\u2190-\u2bff\u3000-\u3004\u3008-\u3020\u30fb\ufe10-\ufe6f\uff00-\uff0f]+"
)
_JOINER = re.compile(r"[\s_\-\u2010-\u2015]*")  # between the words of a term: "a b", "a-b", "a_b"
# Thai, Lao, Myanmar, Khmer, kana and Han, which are written without spaces. Korean has them.
_SPACELESS = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """Hold one listed term.

    Args:
        text: folded.
        language: code of the texts it counts in; "" means all.
    """

    text: str
    language: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TermCount:
    """Hold what was found in one text.

    Args:
        num_terms: occurrences, each counted once by its longest term.
        terms_frac: their characters over all characters but white space, 0..1.
    """

    num_terms: int
    terms_frac: float


class TermList:
    """Count terms: by words, or anywhere for terms in a script without spaces or with symbols."""

    def __init__(self, terms: Sequence[Term]) -> None:
        self._by_word: dict[str, list[tuple[tuple[str, ...], str]]] = defaultdict(list)
        self._anywhere: dict[str, set[str]] = defaultdict(set)  # term -> its languages
        for term in terms:
            if _SPACELESS.search(term.text) or not _is_plain(term.text):
                self._anywhere[term.text].add(term.language)
            else:
                words = tuple(_WORD.findall(term.text))
                self._by_word[words[0]].append((words, term.language))
        for same_start in self._by_word.values():
            same_start.sort(key=lambda entry: -len(entry[0]))  # the longest is tried first
        self._pattern = _compile(self._anywhere)

    def __len__(self) -> int:
        """Count the terms."""
        return len(self._anywhere) + sum(map(len, self._by_word.values()))

    def count(self, text: str, language: str | None = None) -> TermCount:
        """Count the terms in one text.

        Args:
            text: as it came.
            language: its code; None where nobody measured it, then the terms of all languages
                count.
        """
        folded = fold(text)
        found = [*self._find_words(folded, language), *self._find_anywhere(folded, language)]
        num_visible = sum(map(len, folded.split()))
        num_found = sum(len("".join(term.split())) for term in found)
        return TermCount(
            num_terms=len(found),
            terms_frac=min(1.0, num_found / num_visible) if num_visible else 0.0,
        )

    def _find_words(self, folded: str, language: str | None) -> Iterator[str]:
        matches = list(_WORD.finditer(folded))
        words = [match.group() for match in matches]
        index = 0
        while index < len(words):
            length = self._longest(folded, matches, words, index, language)
            if length:
                yield folded[matches[index].start() : matches[index + length - 1].end()]
            index += max(length, 1)

    def _longest(
        self,
        folded: str,
        matches: Sequence[re.Match[str]],
        words: Sequence[str],
        index: int,
        language: str | None,
    ) -> int:
        """Count the words of the longest term that starts at a word; 0 if none does."""
        for term, term_language in self._by_word.get(words[index], ()):
            end = index + len(term)
            gaps = zip(matches[index : end - 1], matches[index + 1 : end], strict=True)
            if (
                _counts_in(term_language, language)
                and tuple(words[index:end]) == term
                and all(_JOINER.fullmatch(folded, a.end(), b.start()) for a, b in gaps)
            ):
                return len(term)
        return 0

    def _find_anywhere(self, folded: str, language: str | None) -> Iterator[str]:
        if self._pattern is None:
            return
        for match in self._pattern.finditer(folded):
            if any(_counts_in(of_term, language) for of_term in self._anywhere[match.group()]):
                yield match.group()


def fold(text: str) -> str:
    """Fold case, compatibility forms, accents and invisible characters away."""
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return unicodedata.normalize("NFC", _DROPPED.sub("", decomposed)).casefold()


def load_term_list(ref: ModelRef) -> TermList:
    """Load the word lists that a reference of kind "term_list" points to.

    Raises:
        ModelError: the kind is unknown; a file is missing, not UTF-8, or holds no term.
    """
    if ref.kind != "term_list":
        raise ModelError(f"toxic_terms: kind must be 'term_list', got {ref.kind!r}; choose that")
    return TermList([term for path in ref.paths for term in read_terms(path)])


def read_terms(path: Path) -> list[Term]:
    """Read one file, one term a line.

    Raises:
        ModelError: the file is missing, not UTF-8, or holds no term.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(
            f"{path}: must be a text file in UTF-8, one term a line, got {error}; give such a file"
        ) from error
    terms = [_read_term(line.strip()) for line in lines if not line.startswith("# ")]
    terms = [term for term in terms if term.text]
    if not terms:
        raise ModelError(f"{path}: must hold a term a line, got none; give another file")
    return terms


def _read_term(line: str) -> Term:
    match = _LANGUAGE.fullmatch(line)
    language, text = match.groups() if match else ("", line)
    return Term(text=" ".join(fold(text).split()), language=language)


def _is_plain(text: str) -> bool:
    """Tell whether a term is words of letters, joined by spaces, hyphens and nothing else."""
    words = _WORD.findall(text)
    letters = "".join(words)
    is_spelt = all(unicodedata.category(letter)[0] in "LMN" for letter in letters)
    return bool(words) and is_spelt and len(letters) == len(re.sub(r"[\s_-]", "", text))


def _counts_in(of_term: str, of_text: str | None) -> bool:
    return not of_term or of_text is None or of_term == of_text


def _compile(terms: dict[str, set[str]]) -> re.Pattern[str] | None:
    """Make a pattern of terms that are not words; one with letters at its ends stands alone."""
    if not terms:
        return None
    longest_first = sorted(terms, key=lambda term: (-len(term), term))
    return re.compile("|".join(_bounded(term) for term in longest_first))


def _bounded(term: str) -> str:
    if _SPACELESS.search(term):
        return re.escape(term)
    start = r"(?<![^\W_])" if term[0].isalnum() else ""
    end = r"(?![^\W_])" if term[-1].isalnum() else ""
    return start + re.escape(term) + end
