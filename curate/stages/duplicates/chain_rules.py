"""Remove near rows of a cell as SemDeDup and NeMo Curator do, for runs that must match theirs.

Both sort a cell's rows by their distance to its centroid and remove a row when its largest cosine
to ANY earlier row is too large: above 1 - eps at SemDeDup, at least 1 - eps at NeMo Curator. Here
one says `min_cosine` = 1 - eps: larger is stricter and removes less. (SemDeDup's README has eps the
wrong way round: a lower eps removes less, as its code shows.)

The trap: the earlier row may itself be removed. Of a chain a, b, c, where a is near b, b is near c
and a and c are strangers, b goes because of a and c because of b; nothing that resembles c is left.
Stars (`stars.py`), this project's own rule, keep c. Both rules keep a row that is near nothing, and
of rows that are all near each other they keep one.

Decided exactly, where theirs is in float32: cosines within 1e-7 of the threshold may differ. A row
belongs to one cell only here (`nearest_cells` with a count of 1), as it does there.

Sources: SemDeDup 6b41945, clustering/sort_clusters.py (order) and semdedup.py (rule), Abbas et al.
2023, arXiv 2303.09540; NeMo Curator 1e2e427, stages/deduplication/semantic, pairwise.py (order and
maximum) and identify_duplicates.py (threshold); reference curation.md, section 1.7.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from curate.core.errors import ConfigError
from curate.core.seed import make_rng
from curate.stages.duplicates.cosine import pairs_above
from curate.stages.duplicates.embeddings import Embeddings, check_embeddings, exact_cosines

Keep = Literal["hard", "easy", "random"]
KEEPS: tuple[Keep, ...] = ("hard", "easy", "random")
"""Which rows come first and stay: far from the centroid, near it, or any."""


def semdedup_removed(
    embeddings: Embeddings,
    centroid: NDArray[np.float32],
    min_cosine: float,
    *,
    keep: Keep = "hard",
    seed: int = 0,
) -> NDArray[np.bool_]:
    """Tell which rows of a cell SemDeDup removes: cosine to an earlier row > `min_cosine`.

    Rows of equal distance stay in the order given for `hard` and are turned round for `easy`, as
    Python's sort and the reversal do it there. `random` is a draw of ours: theirs depends on how
    cells were dealt out to jobs.

    Args:
        embeddings: [N, D], norm 1, the rows of one cell.
        centroid: [D], the cell's.
        min_cosine: 1 - eps, in (0, 1]; at 1 nothing is above.
        keep: which rows come first.
        seed: of the cell, e.g. `derive_seed(seed, "semdedup", cell)`; for `random`.

    Returns:
        [N].

    Raises:
        ConfigError: `keep` is none of the three, or `min_cosine` out of range.
        DataError: `check_embeddings` refuses the rows, or the centroid has another D.
    """
    order = np.argsort(-_distances(embeddings, centroid), kind="stable")
    return _removed(embeddings, _arrange(order, keep, seed), min_cosine, is_strict=True)


def nemo_removed(
    embeddings: Embeddings,
    centroid: NDArray[np.float32],
    min_cosine: float,
    *,
    keep: Keep = "hard",
    seed: int = 0,
) -> NDArray[np.bool_]:
    """Tell which rows of a cell NeMo Curator removes: cosine to an earlier row >= `min_cosine`.

    Rows of equal distance are ordered by their ids there, descending for `hard` and ascending for
    `easy`; the order given stands for that of the ids.

    Args:
        embeddings: [N, D], norm 1, the rows of one cell in ascending order of their ids.
        centroid: [D], the cell's.
        min_cosine: 1 - eps, in (0, 1].
        keep: which rows come first.
        seed: of the cell; for `random`.

    Returns:
        [N].

    Raises:
        ConfigError: `keep` is none of the three, or `min_cosine` out of range.
        DataError: `check_embeddings` refuses the rows, or the centroid has another D.
    """
    order = np.argsort(_distances(embeddings, centroid), kind="stable")[::-1]
    return _removed(embeddings, _arrange(order, keep, seed), min_cosine, is_strict=False)


def _distances(embeddings: Embeddings, centroid: NDArray[np.float32]) -> NDArray[np.float64]:
    """Give 1 - cosine to the centroid: [N]."""
    check_embeddings(embeddings, len(centroid))
    rows = np.arange(len(embeddings))
    both = np.concatenate([embeddings.astype(np.float32), centroid[None]])
    return 1 - exact_cosines(both, rows, np.full_like(rows, len(rows)))


def _arrange(hard_first: NDArray[np.int64], keep: Keep, seed: int) -> NDArray[np.int64]:
    if keep == "random":
        return make_rng(seed, "chain_rules").permutation(hard_first)
    if keep not in KEEPS:
        raise ConfigError(
            f"dedup.keep: must be one of {', '.join(KEEPS)}, got {keep!r}; choose one"
        )
    return hard_first if keep == "hard" else hard_first[::-1]


def _removed(
    embeddings: Embeddings, order: NDArray[np.int64], min_cosine: float, *, is_strict: bool
) -> NDArray[np.bool_]:
    """Mark rows with an earlier one that is too near: one such neighbour is enough."""
    removed = np.zeros(len(order), bool)
    if is_strict and min_cosine == 1:
        return removed
    least = float(np.nextafter(min_cosine, 2)) if is_strict else min_cosine
    ranks = np.arange(len(order))
    found = pairs_above(embeddings[order], ranks, least, max_neighbours=1)
    removed[order[found.pairs.right]] = True
    return removed
