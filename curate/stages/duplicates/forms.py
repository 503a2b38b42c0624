"""Make edges of near hashes of forms: of one picture as it is, of the other turned or cut.

    pairs of (row, form) -> one end as it is -> miniatures laid over each other -> the best edge

A sample has up to 16 forms: the eight turned and flipped ones of PDQ, or the sixteen windows of
a miniature. Form 0 is the picture as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.core.shard import ShardSet
from curate.stages.duplicates.edge_table import make_edges
from curate.stages.duplicates.edges import Kind
from curate.stages.duplicates.miniatures import read_miniatures

_SLOTS = 16  # of a row's places, one for each form
_AT_ONCE = 8192  # pairs whose miniatures are held; chosen by us: 50 MB

Cells = NDArray[np.uint8]
Measure = Callable[[Cells, Cells, int], NDArray[np.float32]]
"""Miniatures as they are, those of the other ends, the form -> changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FormPairs:
    """Hold pairs of different samples whose hashes are near.

    Args:
        plain: [P], row numbers; these match as they are.
        formed: [P], row numbers.
        form: [P], of `formed`.
        bits: [P], float32, that differ.
    """

    plain: NDArray[np.int64]
    formed: NDArray[np.int64]
    form: NDArray[np.int64]
    bits: NDArray[np.float32]

    def take(self, some: NDArray[np.int64] | NDArray[np.bool_]) -> FormPairs:
        """Keep some pairs."""
        return FormPairs(
            plain=self.plain[some], formed=self.formed[some], form=self.form[some],
            bits=self.bits[some],
        )  # fmt: skip


def pack_forms(rows: NDArray[np.int64], num_forms: int) -> NDArray[np.int64]:
    """Name the forms of samples: [N] row numbers -> [N * num_forms] places."""
    return (rows[:, None] * _SLOTS + np.arange(num_forms)).reshape(-1)


def are_plain(places: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell which places are of pictures as they are."""
    return places % _SLOTS == 0


def rows_of(places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give the row numbers of places."""
    return places // _SLOTS


def split_forms(places: NDArray[np.int64], bits: NDArray[np.float32]) -> FormPairs:
    """Put the end that is a picture as it is first: [P, 2] places, [P] bits that differ."""
    rows, forms = np.divmod(places, _SLOTS)
    is_swapped = forms[:, 0] != 0
    rows[is_swapped] = rows[is_swapped][:, ::-1]
    return FormPairs(plain=rows[:, 0], formed=rows[:, 1], form=forms.max(axis=1), bits=bits)


def verify_forms(
    own: ShardSet,
    groups: Sequence[tuple[str, int]],
    pairs: FormPairs,
    measure: Measure,
    most_change: float,
) -> FormPairs:
    """Keep the pairs whose miniatures agree.

    Args:
        own: dedup's shard set.
        groups: (name, first row) of all groups that the rows are of.
        pairs: to be verified.
        measure: how miniatures of a form are compared.
        most_change: inclusive.
    """
    is_right = np.zeros(len(pairs.bits), np.bool_)
    order = np.lexsort((pairs.formed, pairs.plain))  # neighbours share miniatures
    for low in range(0, len(order), _AT_ONCE):
        some = order[low : low + _AT_ONCE]
        ends = np.stack([pairs.plain[some], pairs.formed[some]])
        rows, places = np.unique(ends, return_inverse=True)
        cells = read_miniatures(own, groups, rows)
        plain, formed = places.reshape(ends.shape)
        for form, here in _by_form(pairs.form[some]):
            changes = measure(cells[plain[here]], cells[formed[here]], form)
            is_right[some[here]] = changes <= np.float32(most_change)
    return pairs.take(is_right)


def edges_of_forms(pairs: FormPairs, kind: Kind) -> pa.Table:
    """Make one edge of all pairs of two samples, with the fewest bits."""
    rows = np.sort(np.stack([pairs.plain, pairs.formed], axis=1), axis=1)
    order = np.lexsort((pairs.bits, rows[:, 1], rows[:, 0]))
    rows, bits = rows[order], pairs.bits[order]
    first = np.ones(len(rows), bool)
    first[1:] = (rows[1:] != rows[:-1]).any(axis=1)
    return make_edges(rows[first, 0], rows[first, 1], kind, bits[first])


def _by_form(forms: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yield (form, places of it)."""
    for form in np.unique(forms).tolist():
        yield form, np.flatnonzero(forms == form)
