"""Find captions that are, contain or resemble the prompts of evaluation sets.

    prompts -> words -> tables of hashes        (once; memory and time grow with the prompts' words)
    captions -> words -> hashes -> look-ups     (streamed; memory of one batch)

Three kinds, strongest first; a caption and a prompt meet in the first that holds:

    exact     the same words in the same order                                     score 1
    minhash   sets of words and neighbouring pairs with Jaccard >= min_jaccard     score Jaccard
    ngram     >= min_overlap of the prompt's runs of n words are in the caption    score that share

A prompt of fewer than n words has no run: it is found by ngram only as a whole, as one contiguous
phrase, and only from `min_phrase_words` on. Source: GPT-3 (Brown et al. 2020, arXiv 2005.14165,
section 4): an item leaks by "a 13-gram overlap ... or that overlap with the whole example when it
is shorter than 13-grams"; appendix C: N from 8 to 13, since below 8 collisions are spurious.
PaLM (Chowdhery et al. 2022, arXiv 2204.02311, section 8): by 70 % of an item's 8-grams. datatrove
(decont/n_grams.py) drops by one common run, 12 words by default.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curate.core.errors import ConfigError
from curate.stages.matching.key_table import KeyTable
from curate.stages.matching.minhash import NUM_BANDS, bands_of, jaccard, word_sets
from curate.stages.matching.ngrams import distinct, runs_of
from curate.stages.matching.prompt_sets import Prompt
from curate.stages.matching.words import Words, hash_words, in_batches

EXACT, MINHASH, NGRAM = KINDS = ("exact", "minhash", "ngram")
_PAIRS_AT_ONCE = 100_000  # compared by their sets; chosen by us: 100 MB for texts of 30 words


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptRules:
    """Say when a caption meets a prompt.

    Args:
        ngram: words of a run, 8..13. Source: GPT-3, appendix C; PaLM has 8.
        min_overlap: share of a prompt's different runs that a caption must hold, 0..1; 0: one is
            enough, as for GPT-3. Source: PaLM, section 8.
        min_phrase_words: that a prompt of fewer than `ngram` words must have to be found inside a
            caption, 1..13. Source: GPT-3, appendix C.
        min_exact_words: of a prompt; one that is shorter is not compared by its set, and a caption
            that equals it is of kind ngram: "a cat" leaks nothing. Source: the same.
        min_jaccard: in (0, 1]; null compares no sets. Source: .8 is what NeMo Curator and
            SlimPajama call near-duplicates.
    """

    ngram: int = 8
    min_overlap: float = 0.7
    min_phrase_words: int = 8
    min_exact_words: int = 8
    min_jaccard: float | None = 0.8

    def __post_init__(self) -> None:
        for name, low, high in (
            ("ngram", 8, 13),
            ("min_overlap", 0, 1),
            ("min_phrase_words", 1, 13),
            ("min_exact_words", 1, 1000),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(
                    f"decontaminate.texts.{name}: must be in [{low}, {high}], got {value}; "
                    "change it"
                )
        if self.min_jaccard is not None and not 0 < self.min_jaccard <= 1:
            raise ConfigError(
                "decontaminate.texts.min_jaccard: must be in (0, 1] or null, "
                f"got {self.min_jaccard}; change it"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Say that a caption meets a prompt.

    Args:
        row: number of the caption, from 0.
        benchmark: name of the prompt's set.
        items: names of the prompts in it that have these words, the first one first.
        kind: of `KINDS`.
        score: 0..1, see above.
    """

    row: int
    benchmark: str
    items: tuple[str, ...]
    kind: str
    score: float

    @property
    def item(self) -> str:
        """Name the first prompt that has these words."""
        return self.items[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """Hold the prompts of one benchmark that have the same words."""

    benchmark: str
    text: str
    items: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Hits:
    """Hold pairs of a text and an entry that meet in one way: [H] each."""

    texts: NDArray[np.int64]
    entries: NDArray[np.int64]
    kinds: NDArray[np.int64]
    scores: NDArray[np.float64]


class PromptIndex:
    """Hold the prompts of evaluation sets so that captions find them.

    Args:
        benchmarks: name -> its prompts.
        rules: when a caption meets a prompt.

    Attributes:
        wordless: benchmark -> items without a word ("!!!"), which nothing can meet.
    """

    def __init__(
        self, benchmarks: Mapping[str, Sequence[Prompt]], rules: PromptRules | None = None
    ) -> None:
        self.rules = rules or PromptRules()
        self._entries, self.wordless = _collapse(benchmarks)
        words = hash_words([entry.text for entry in self._entries])
        numbers = np.arange(len(self._entries))
        self._num_words = words.counts
        self._exact = KeyTable(words.texts, numbers)
        runs = distinct(runs_of(words, self.rules.ngram))
        self._runs = KeyTable(runs.hashes, runs.rows)
        self._num_runs = np.bincount(runs.rows, minlength=len(numbers))
        self._phrases = {
            n: _whole_runs(words, n) for n in range(self.rules.min_phrase_words, self.rules.ngram)
        }
        self._sets = word_sets(words)
        is_long = words.counts >= self.rules.min_exact_words
        bands = bands_of(self._sets)[is_long]
        self._bands = [KeyTable(bands[:, band], numbers[is_long]) for band in range(NUM_BANDS)]

    def match(self, captions: Iterable[str | None]) -> Iterator[Match]:
        """Yield the matches of captions, by row, then by the order of the prompts.

        Args:
            captions: any number; None and texts without words meet nothing.
        """
        start = 0
        for batch in in_batches(iter(captions)):
            numbers = {text: number for number, text in enumerate(dict.fromkeys(batch))}
            found = self._match_texts(list(numbers))
            for place, text in enumerate(batch):
                for entry, kind, score in found.get(numbers[text], ()):
                    yield Match(
                        row=start + place,
                        benchmark=self._entries[entry].benchmark,
                        items=self._entries[entry].items,
                        kind=KINDS[kind],
                        score=score,
                    )
            start += len(batch)

    def _match_texts(self, texts: Sequence[str]) -> dict[int, list[tuple[int, int, float]]]:
        """Give text -> (entry, kind, score) of the strongest kind of each pair that meets."""
        words = hash_words(texts)
        parts = [self._find_exact(words), self._find_alike(words), self._find_runs(words)]
        parts += [self._find_phrases(words, n) for n in self._phrases]
        joined = [
            np.concatenate([getattr(part, name) for part in parts]) for name in _Hits.__slots__
        ]
        rows, entries, kinds, scores = joined
        order = np.lexsort((-scores, kinds, entries, rows))
        found: dict[int, list[tuple[int, int, float]]] = {}
        previous = (-1, -1)
        for row, entry, kind, score in zip(*(part[order].tolist() for part in joined), strict=True):
            if (row, entry) != previous:
                found.setdefault(row, []).append((entry, kind, score))
            previous = (row, entry)
        return found

    def _find_exact(self, words: Words) -> _Hits:
        known = np.flatnonzero(words.counts)
        places, entries = self._exact.find(words.texts[known])
        is_long = self._num_words[entries] >= self.rules.min_exact_words
        kinds = np.where(is_long, KINDS.index(EXACT), KINDS.index(NGRAM))
        return _Hits(
            texts=known[places], entries=entries, kinds=kinds, scores=np.ones(len(entries))
        )

    def _find_alike(self, words: Words) -> _Hits:
        if self.rules.min_jaccard is None:
            return _hits(MINHASH, np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
        sets = word_sets(words)
        bands = bands_of(sets)
        found = [table.find(bands[:, band]) for band, table in enumerate(self._bands)]
        pairs = np.unique(np.concatenate([self._paired(*some) for some in found]))
        rows, entries = self._parted(pairs)
        blocks = range(0, len(pairs), _PAIRS_AT_ONCE)
        places = [slice(start, start + _PAIRS_AT_ONCE) for start in blocks]
        shares = [jaccard(sets.take(rows[some]), self._sets.take(entries[some])) for some in places]
        shares = np.concatenate([np.empty(0), *shares])
        is_near = shares >= self.rules.min_jaccard
        return _hits(MINHASH, rows[is_near], entries[is_near], shares[is_near])

    def _find_runs(self, words: Words) -> _Hits:
        runs = distinct(runs_of(words, self.rules.ngram))
        places, entries = self._runs.find(runs.hashes)
        pairs, counts = np.unique(self._paired(runs.rows[places], entries), return_counts=True)
        rows, entries = self._parted(pairs)
        shares = counts / self._num_runs[entries]
        is_enough = shares >= self.rules.min_overlap
        return _hits(NGRAM, rows[is_enough], entries[is_enough], shares[is_enough])

    def _find_phrases(self, words: Words, n: int) -> _Hits:
        runs = distinct(runs_of(words, n))
        places, entries = self._phrases[n].find(runs.hashes)
        return _hits(NGRAM, runs.rows[places], entries, np.ones(len(entries)))

    def _paired(self, texts: NDArray[np.int64], entries: NDArray[np.int64]) -> NDArray[np.int64]:
        """Give one number for each pair: int64 [H]."""
        return texts * len(self._entries) + entries

    def _parted(self, pairs: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Give texts and entries again: int64 [H] each."""
        return np.divmod(pairs, max(len(self._entries), 1))


def _collapse(
    benchmarks: Mapping[str, Sequence[Prompt]],
) -> tuple[list[_Entry], dict[str, tuple[str, ...]]]:
    """Join the prompts of a benchmark that have the same words; set those without words apart."""
    entries: list[_Entry] = []
    wordless: dict[str, tuple[str, ...]] = {}
    for name, prompts in benchmarks.items():
        words = hash_words([prompt.text for prompt in prompts])
        items: dict[int, list[str]] = {}
        texts: dict[int, str] = {}
        has_words = words.counts > 0
        for prompt, whole, has in zip(prompts, words.texts.tolist(), has_words, strict=True):
            if has:
                items.setdefault(whole, []).append(prompt.item)
                texts.setdefault(whole, prompt.text)
        entries += [
            _Entry(benchmark=name, text=texts[whole], items=tuple(found))
            for whole, found in items.items()
        ]
        if not has_words.all():
            wordless[name] = tuple(
                prompt.item for prompt, has in zip(prompts, has_words, strict=True) if not has
            )
    return entries, wordless


def _whole_runs(words: Words, n: int) -> KeyTable:
    """Index the texts of n words by their one run."""
    runs = runs_of(words, n)
    is_whole = words.counts[runs.rows] == n
    return KeyTable(runs.hashes[is_whole], runs.rows[is_whole])


def _hits(
    kind: str, texts: NDArray[np.int64], entries: NDArray[np.int64], scores: NDArray[np.float64]
) -> _Hits:
    kinds = np.full(len(texts), KINDS.index(kind))
    return _Hits(texts=texts, entries=entries, kinds=kinds, scores=scores)
