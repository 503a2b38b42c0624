"""Find values by their rank among more values than fit into memory, exactly.

    values in pieces, group by group -> counts -> ranks wanted -> the values at these ranks

Few values are held and partitioned. More are read four times: each pass counts 16 bits of an
order-preserving form of the float64, among the values that share the bits found before, which
leaves one value after the fourth. Memory: 512 KB for each rank that is looked for.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Group = tuple[str, str]
"""Whose values they are, e.g. (rule, language)."""

Read = Callable[[], Iterable[tuple[Group, NDArray[np.float64]]]]
"""Starts a new pass over all values, NaN among them where nothing was measured; any order."""

HELD_VALUES = 20_000_000  # chosen by us: 160 MB, and as much again while they are joined
_DIGIT_BITS = 16
_SIGN = np.uint64(1 << 63)


def count_measured(read: Read) -> dict[Group, tuple[int, int]]:
    """Count each group's measured values, and all of them: the unmeasured too."""
    measured: Counter[Group] = Counter()
    total: Counter[Group] = Counter()
    for group, values in read():
        measured[group] += int(np.count_nonzero(~np.isnan(values)))
        total[group] += len(values)
    return {group: (measured[group], total[group]) for group in total}


def rank_of_exact(frac: float, num_measured: int) -> int:
    """Give the rank, from the best, of the last score in a share: ceil(frac * N) are kept.

    All that tie with that score are kept too. The product is taken over the decimal that was
    written (0.1 of 30 is 3, not 4). Source: chosen by us; so no group loses all its samples.
    """
    return math.ceil(Fraction(str(frac)) * num_measured) - 1


def rank_of_datacomp(frac: float, num_all: int) -> int:
    """Give the rank, from the best, whose score DataComp takes as its threshold.

    It is int(N * frac), counted from 0, so that n + 1 samples and all ties are kept; N counts the
    unmeasured too. Where that rank falls among the unmeasured, DataComp keeps none; `cuts`
    keeps all measured ones then. Source: DataComp, baselines/apply_filter.py, get_threshold.
    """
    return int(num_all * frac)


def select(
    read: Read, ranks: Mapping[Group, Sequence[int]], *, hold: bool
) -> dict[Group, list[float]]:
    """Give the measured values at some ranks of each group.

    Args:
        read: passes over the values.
        ranks: group -> ranks from the smallest, 0 first, each below the group's measured count.
        hold: keep all values in memory; else they are read four times.
    """
    return _by_holding(read, ranks) if hold else _by_counting(read, ranks)


def _by_holding(read: Read, ranks: Mapping[Group, Sequence[int]]) -> dict[Group, list[float]]:
    parts: dict[Group, list[NDArray[np.float64]]] = {}
    for group, values in read():
        if group in ranks:
            parts.setdefault(group, []).append(values[~np.isnan(values)])
    found: dict[Group, list[float]] = {}
    for group, wanted in ranks.items():
        values = np.concatenate(parts.pop(group)) + 0.0  # -0.0 becomes 0.0
        found[group] = np.partition(values, sorted(set(wanted)))[list(wanted)].tolist()
    return found


def _by_counting(read: Read, ranks: Mapping[Group, Sequence[int]]) -> dict[Group, list[float]]:
    # (group, place in its ranks) -> bits known so far, and the rank among values that share them
    known = {(g, i): (0, rank) for g, wanted in ranks.items() for i, rank in enumerate(wanted)}
    for shift in range(64 - _DIGIT_BITS, -1, -_DIGIT_BITS):
        counts = _count_digits(
            read, {(group, bits) for (group, _), (bits, _) in known.items()}, shift
        )
        for (group, place), (bits, rank) in known.items():
            below = counts[group, bits].cumsum()
            digit = int(np.searchsorted(below, rank, side="right"))
            rank -= int(below[digit - 1]) if digit else 0
            known[group, place] = ((bits << _DIGIT_BITS) | digit, rank)
    return {
        group: [_from_ordered(known[group, place][0]) for place in range(len(wanted))]
        for group, wanted in ranks.items()
    }


def _count_digits(
    read: Read, wanted: set[tuple[Group, int]], shift: int
) -> dict[tuple[Group, int], NDArray[np.int64]]:
    """Count the next digit of the values whose leading bits are wanted."""
    counts = {item: np.zeros(1 << _DIGIT_BITS, np.int64) for item in wanted}
    leading: dict[Group, list[int]] = {}
    for group, bits in sorted(wanted):
        leading.setdefault(group, []).append(bits)
    for group, values in read():
        if group not in leading:
            continue
        digits = _to_ordered(values[~np.isnan(values)]) >> np.uint64(shift)
        fronts = digits >> np.uint64(_DIGIT_BITS)  # 0 in the first pass, as the bits known then
        for bits in leading[group]:
            inside = digits[fronts == np.uint64(bits)] & np.uint64((1 << _DIGIT_BITS) - 1)
            counts[group, bits] += np.bincount(inside.astype(np.int64), minlength=1 << _DIGIT_BITS)
    return counts


def _to_ordered(values: NDArray[np.float64]) -> NDArray[np.uint64]:
    """Turn floats into integers of the same order: negative ones flip all bits, others the sign."""
    bits = (values + 0.0).view(np.uint64)  # -0.0 becomes 0.0
    return np.where(bits & _SIGN, ~bits, bits | _SIGN)


def _from_ordered(bits: int) -> float:
    ordered = np.uint64(bits)
    plain = ordered ^ _SIGN if ordered & _SIGN else ~ordered
    return float(np.array([plain]).view(np.float64)[0])
