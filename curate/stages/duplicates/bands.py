"""Choose bands of hash bits so that every pair of near hashes agrees on at least one band.

The bits are cut into `radius + 1 + num_parts * (agreeing - 1)` blocks of about equal size, and the
blocks into `num_parts` parts, where part i has `t_i + agreeing` blocks and the t_i add up to
`radius + 1 - num_parts`. Were more than t_i blocks damaged in every part, more than `radius` bits
would differ; so two hashes within the radius agree on `agreeing` blocks of some part. Every choice
of so many blocks of one part is a band. With one part it is the scheme of Manku et al., with one
bit a block that of multi-index hashing with probes, and the best lies between: 256 bits at radius
31 take 160 bands of 16 bits each, in 8 parts of 6 blocks of which 3 agree.

Sources: Manku, Jain, Das Sarma 2007, "Detecting near-duplicates for web crawling", section 3; Qin
et al. 2018, "GPH: similarity search in Hamming space", for thresholds that differ between parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, groupby, pairwise
from math import comb

import numpy as np
from numpy.typing import NDArray

from curate.stages.duplicates.hash_words import WORD_BITS, Words, check_radius, split_words

TYPICAL_HASHES = 1_000_000
MAX_VALUE_BITS = 40
"""Bits of a band that are looked at. Chosen by us: 24 bits of a word are left for a row number, so
that values and rows are sorted as one word, and 2^40 values tell apart more hashes than fit."""

_SORT_COST = 8.0
"""Time to sort one hash into a band, in comparisons of two hashes. Measured: 3.5 with AVX-512, 10
and more without (benchmarks/hamming.py); the choice of bands moves little between them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """Name consecutive bits of one word: `width` bits from `shift` on."""

    word: int
    shift: int
    width: int

    @property
    def ones(self) -> int:
        """Give a number of `width` ones."""
        return (1 << self.width) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Hold some bits of a hash, which agree or do not as a whole."""

    fields: tuple[Field, ...]

    def agrees(self, differences: Words) -> NDArray[np.bool_]:
        """Tell which pairs agree on all bits: words of hash ^ hash, each [P] -> bool [P]."""
        masks = [np.uint64(field.ones << field.shift) for field in self.fields]
        first, *others = zip(self.fields, masks, strict=True)
        damaged = differences[first[0].word] & first[1]
        for field, mask in others:
            damaged = damaged | (differences[field.word] & mask)
        return damaged == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """Choose some blocks of one part; two hashes with equal blocks are worth comparing.

    Args:
        number: among the bands of a scheme, 0 first.
        parts: blocks of the earlier parts and, last, of the part that the band is of.
        chosen: numbers of the blocks of the last part, ascending.
        within: the band whose equal values this one tells apart, if it is a finer one.
    """

    number: int
    parts: tuple[tuple[Block, ...], ...]
    chosen: tuple[int, ...]
    within: Band | None = None

    @property
    def fields(self) -> tuple[Field, ...]:
        """List the bits that must be equal."""
        own = tuple(field for number in self.chosen for field in self.parts[-1][number].fields)
        return own if self.within is None else (*self.within.fields, *own)

    @property
    def num_bits(self) -> int:
        """Count the bits that must be equal."""
        return sum(field.width for field in self.fields)

    def values(self, hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Give the band's bits as numbers below 2^num_bits: uint64 [N] or [N, W] -> uint64 [N]."""
        return self.values_of(split_words(hashes))

    def values_of(self, words: Words) -> NDArray[np.uint64]:
        """Give the band's bits of hashes that are split into words, each [N] -> uint64 [N]."""
        values = np.zeros(len(words[0]), np.uint64)
        for field in self.fields:
            bits = (words[field.word] >> np.uint64(field.shift)) & np.uint64(field.ones)
            values = (values << np.uint64(field.width)) | bits
        return values

    def is_first(self, differences: Words) -> NDArray[np.bool_]:
        """Tell which pairs, all equal on this band, agree on no earlier band of the scheme.

        Args:
            differences: words of hash ^ hash, each [P].

        Returns:
            bool [P]. For a finer band also: no band earlier than the one it is within.
        """
        *earlier, own = self.parts
        alive = np.arange(len(differences[0]))
        if self.within is not None:
            alive = np.flatnonzero(self.within.is_first(differences))
        words = _take(differences, alive)
        for part in earlier:  # most fail early, so each check sees only those that are left
            agreeing = sum(block.agrees(words).astype(np.uint8) for block in part)
            left = np.flatnonzero(agreeing < len(self.chosen))
            alive, words = alive[left], _take(words, left)
        for number in sorted(set(range(self.chosen[-1])) - set(self.chosen)):
            left = np.flatnonzero(~own[number].agrees(words))
            alive, words = alive[left], _take(words, left)
        first = np.zeros(len(differences[0]), np.bool_)
        first[alive] = True
        return first

    def finer(self, radius: int, bits: Sequence[int], num_hashes: int) -> list[Band]:
        """Split the band by bands of other bits; a near pair of this band agrees on one.

        Args:
            radius: bits that may differ.
            bits: numbers of the bits to use (word * 64 + bit), ascending.
            num_hashes: about how many are equal on this band.

        Returns:
            No band when the bits are too few to tell any hashes apart.
        """
        max_value_bits = min(MAX_VALUE_BITS, WORD_BITS - self.num_bits)
        if radius + 1 > len(bits) or max_value_bits < 1:
            return []
        return list(_bands(bits, radius, num_hashes, max_value_bits, self))


def _take(words: Words, places: NDArray[np.int64]) -> Words:
    return tuple(word[places] for word in words)


def bands(num_bits: int, radius: int, *, num_hashes: int = TYPICAL_HASHES) -> Sequence[Band]:
    """List bands such that two hashes within the radius agree on at least one.

    Args:
        num_bits: of a hash: 64 or 256.
        radius: bits that may differ, 0..num_bits / 4.
        num_hashes: about how many will be compared; more hashes take more and finer bands. The
            pairs that are found do not depend on it.

    Raises:
        ConfigError: the radius is out of range.
    """
    check_radius(radius, num_bits)
    return list(_bands(list(range(num_bits)), radius, num_hashes, MAX_VALUE_BITS, None))


def _bands(
    bits: Sequence[int],
    radius: int,
    num_hashes: int,
    max_value_bits: int,
    within: Band | None,
) -> Iterator[Band]:
    """Yield the bands of the cheapest scheme over some bits of a hash."""
    num_parts, agreeing = _choose_scheme(len(bits), radius, num_hashes, max_value_bits)
    parts = _cut(bits, radius, num_parts, agreeing, max_value_bits)
    number = 0
    for own, blocks in enumerate(parts, start=1):
        for chosen in combinations(range(len(blocks)), agreeing):
            yield Band(
                number=number,
                parts=tuple(parts[:own]),
                chosen=chosen,
                within=within,
            )
            number += 1


def _choose_scheme(
    num_bits: int, radius: int, num_hashes: int, max_value_bits: int
) -> tuple[int, int]:
    """Choose (number of parts, agreeing blocks) with the least expected time on random hashes."""
    costs: dict[tuple[int, int], float] = {}
    for num_parts in range(1, radius + 2):
        for agreeing in range(1, max_value_bits + 1):
            num_blocks = _num_blocks(radius, num_parts, agreeing)
            if num_blocks > num_bits:
                break
            value_bits = min(agreeing * num_bits / num_blocks, max_value_bits)
            compared = num_hashes**2 / 2 / 2**value_bits
            num_bands = sum(
                comb(most + agreeing, agreeing) for most in _thresholds(radius, num_parts)
            )
            costs[num_parts, agreeing] = num_bands * (num_hashes * _SORT_COST + compared)
    return min(costs, key=lambda scheme: (costs[scheme], scheme))


def _num_blocks(radius: int, num_parts: int, agreeing: int) -> int:
    return radius + 1 + num_parts * (agreeing - 1)


def _thresholds(radius: int, num_parts: int) -> list[int]:
    """Give how many blocks of each part may be damaged."""
    share, more = divmod(radius + 1 - num_parts, num_parts)
    return [share + (part < more) for part in range(num_parts)]


def _cut(
    bits: Sequence[int], radius: int, num_parts: int, agreeing: int, max_value_bits: int
) -> list[tuple[Block, ...]]:
    """Cut bits into parts of blocks; of a large block the first bits are enough."""
    num_blocks = _num_blocks(radius, num_parts, agreeing)
    edges = [number * len(bits) // num_blocks for number in range(num_blocks + 1)]
    most = max_value_bits // agreeing
    blocks = [_block(bits[low : min(high, low + most)]) for low, high in pairwise(edges)]
    ends = np.cumsum([0, *(most + agreeing for most in _thresholds(radius, num_parts))]).tolist()
    return [tuple(blocks[low:high]) for low, high in pairwise(ends)]


def _block(bits: Sequence[int]) -> Block:
    """Gather bits into fields of consecutive ones of one word."""
    fields: list[Field] = []
    for _, run in groupby(
        enumerate(bits), key=lambda item: (item[1] - item[0], item[1] // WORD_BITS)
    ):
        first, *others = [bit for _, bit in run]
        word, shift = divmod(first, WORD_BITS)
        fields.append(Field(word=word, shift=shift, width=1 + len(others)))
    return Block(fields=tuple(fields))
