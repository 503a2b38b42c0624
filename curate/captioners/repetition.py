"""Measure how much captions repeat themselves: 4-grams, loops, and how well they compress.

Three measures, since each is blind where another sees: the share of repeated 4-grams finds texts
that come back to the same phrases; the loop finds the tail of a good caption that has gone round
and round until the token limit; compression finds repeats of any length, and those inside of words.
"""

from __future__ import annotations

import zlib

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.captioners.caption_words import Words

# Source: the longest n of the "top n-gram" rules of Gopher (Rae et al. 2021, arXiv 2112.11446, A1).
NGRAM = 4
# Chosen by us: sentences that loop have 8 to 20 words; three rounds may be style ("a red chair, a
# red chair and a red chair"), four are not.
MAX_PERIOD = 32
MIN_ROUNDS = 4
MIN_LOOP_WORDS = 5
_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: spreads codes over all bits


def measure_repeated_frac(words: Words) -> NDArray[np.float32]:
    """Measure the share of word 4-grams that were there before: [N], float32, 0 <= share < 1."""
    num_texts = len(words.counts)
    totals = np.maximum(words.counts - NGRAM + 1, 0)
    grams, owners = _hash_ngrams(words)
    order = np.argsort(grams, kind="stable")
    is_first = np.ones(len(grams), bool)
    is_first[1:] = grams[order][1:] != grams[order][:-1]
    distinct = np.bincount(owners[order][is_first], minlength=num_texts)
    return np.where(totals > 0, 1 - distinct / np.maximum(totals, 1), 0).astype(np.float32)


def measure_loops(words: Words, repeated_frac: NDArray[np.float32]) -> NDArray[np.int32]:
    """Measure the longest loop of each text, in words: [N], int32; 0 without any.

    A loop is the same 1..32 words, four times or more one after the other, and five words at least.

    Args:
        words: of the texts.
        repeated_frac: of the texts; a loop repeats 4-grams, so others need no look.
    """
    found = np.zeros(len(words.counts), np.int32)
    rows = np.flatnonzero(repeated_frac > 0)
    some = words.of(rows)
    longest = np.zeros(len(rows), np.int64)
    for period in range(1, MAX_PERIOD + 1):
        if len(some.codes) < MIN_ROUNDS * period:
            break
        np.maximum(longest, _longest_loops(some, period), out=longest)
    found[rows] = longest
    return found


def measure_compression(texts: pa.Array) -> NDArray[np.float32]:
    """Measure how often each zlib-compressed text fits into its UTF-8: [N]; 0 for an empty one.

    Source: Whisper (Radford et al. 2022, arXiv 2212.04356, section 4.5).
    """
    encoded = (text.encode() for text in texts.to_pylist())
    ratios = [len(data) / len(zlib.compress(data)) for data in encoded]
    return np.array(ratios, np.float32)


def _hash_ngrams(words: Words) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Give a hash of each 4-gram of each text, different in different texts, and its owner."""
    last = words.owners[NGRAM - 1 :]
    inside = np.flatnonzero(last == words.owners[: len(last)])
    codes = words.codes.astype(np.uint64)
    owners = words.owners[inside]
    grams = (owners.astype(np.uint64) + np.uint64(1)) * _MIX
    for offset in range(NGRAM):
        grams = _scramble(grams + codes[inside + offset])
    return grams, owners


def _scramble(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Mix bits. Source: one round of MurmurHash3's 64-bit finaliser, public domain."""
    values = (values ^ (values >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    return values ^ (values >> np.uint64(29))


def _longest_loops(words: Words, period: int) -> NDArray[np.int64]:
    """Give the words in the longest loop of one period of each text: [N], 0 without any."""
    same = words.codes[period:] == words.codes[:-period]
    same &= words.owners[period:] == words.owners[:-period]
    edges = np.flatnonzero(np.diff(np.concatenate([[False], same, [False]]).astype(np.int8)))
    starts, ends = edges[::2], edges[1::2]  # runs of words that stood there a period before
    lengths = ends - starts + period
    is_loop = (lengths >= MIN_ROUNDS * period) & (lengths >= MIN_LOOP_WORDS)
    found = np.zeros(len(words.counts), np.int64)
    np.maximum.at(found, words.owners[starts[is_loop]], lengths[is_loop])
    return found
