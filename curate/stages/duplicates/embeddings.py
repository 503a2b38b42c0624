"""Check stored embeddings and compare them exactly; what is common to cells and cosine pairs.

Legend: N rows, D dimensions, B rows of a block, P pairs. An embedding is stored as float16 with an
L2 norm of 1 before rounding (`clip.image_embedding`); float32 works too.

Why exact: a matrix product in float32 gives other last bits for another block size, thread count or
processor, and output bytes must not depend on these. The product of two float16 numbers is a
multiple of 2^-48, and so is any sum of them; a dot product of unit vectors is at most about 1, so
it fits into float64's 53 bits without rounding, in any order of summation. So products in float32
only choose what is worth looking at, and whatever lies within `slack` of a decision is decided in
float64. For embeddings stored as float32 the sums round at 1e-16, which is as good in practice.

Rounding to float16 moves a cosine: by at most 2^-10 (each part by 2^-11 of itself), for 768
dimensions typically by 1e-5, for the roundings of the parts are independent. Every cosine
here is that of the stored vectors, divided by their own norms.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from curate.core.errors import DataError

Embeddings = NDArray[np.float16] | NDArray[np.float32]

MAX_NORM_ERROR = 0.01  # chosen by us: 20 times what float16 does to a norm, 5 times bfloat16
_CHECKED_ROWS = 4096
_GATHERED_ROWS = 4096  # chosen by us: 2 x 25 MB in float64 at 768 dimensions


def check_embeddings(embeddings: Embeddings, num_dimensions: int | None = None) -> None:
    """Refuse what no cosine can be taken of.

    Args:
        embeddings: [N, D].
        num_dimensions: D that is wanted; None takes any.

    Raises:
        DataError: not a table of float16 or float32; another D; a value that is not finite; a norm
            that is not 1.
    """
    kind = f"{embeddings.dtype} {list(embeddings.shape)}"
    if embeddings.ndim != 2 or embeddings.dtype.name not in ("float16", "float32"):
        raise DataError(
            f"embeddings: must be float16 or float32 [rows, dimensions], got {kind};"
            " store them as annotate does"
        )
    if num_dimensions is not None and embeddings.shape[1] != num_dimensions:
        raise DataError(
            f"embeddings: must have {num_dimensions} dimensions as the others have, got"
            f" {embeddings.shape[1]}; embed all samples by one model"
        )
    for start, block in blocks(embeddings, _CHECKED_ROWS):
        norms = np.sqrt(np.einsum("nd,nd->n", block, block))
        wrong = np.flatnonzero(~(np.abs(norms - 1) <= MAX_NORM_ERROR))  # also where it is NaN
        if len(wrong):
            _refuse(block[wrong[0]], int(wrong[0]) + start)


def blocks(embeddings: Embeddings, num_rows: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield (number of the first row, float32 [B, D]) of one block after the other."""
    for start in range(0, len(embeddings), num_rows):
        yield start, embeddings[start : start + num_rows].astype(np.float32)


def slack(num_dimensions: int) -> float:
    """Give how far a float32 product of two checked embeddings may lie from the exact one.

    Source: Higham 2002, Accuracy and Stability of Numerical Algorithms, section 3.1: at most
    D u / (1 - D u) times the product of the norms, u = 2^-24, in any order of summation. Doubled,
    since the norms by which rows may have been divided are sums of D products too.
    """
    rounding = 2 * (num_dimensions + 8) * 2.0**-24
    return rounding / (1 - rounding) * (1 + MAX_NORM_ERROR) ** 2


def exact_products(
    lefts: Embeddings,
    rights: Embeddings,
    left: NDArray[np.int64],
    right: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Give dot products of stored embeddings, the same on every machine.

    Args:
        lefts: [N, D].
        rights: [M, D].
        left: [P], rows of `lefts`.
        right: [P], rows of `rights`.

    Returns:
        [P].
    """
    products = np.empty(len(left), np.float64)
    for start in range(0, len(left), _GATHERED_ROWS):
        here = slice(start, start + _GATHERED_ROWS)
        x, y = lefts[left[here]].astype(np.float32), rights[right[here]].astype(np.float32)
        products[here] = np.einsum("pd,pd->p", x, y, dtype=np.float64)
    return products


def exact_cosines(
    embeddings: Embeddings, left: NDArray[np.int64], right: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Give the cosines of pairs of stored embeddings; exactly 1 for equal ones.

    Args:
        embeddings: [N, D].
        left: [P], rows.
        right: [P], rows.

    Returns:
        [P], at most 1.
    """
    rows, ends = np.unique(np.stack([left, right]), return_inverse=True)
    squares = exact_products(embeddings, embeddings, rows, rows)[ends.reshape(2, -1)]  # [2, P]
    products = exact_products(embeddings, embeddings, left, right)
    return np.minimum(products / np.sqrt(squares[0] * squares[1]), 1.0)


def first_of_equals(embeddings: Embeddings) -> NDArray[np.int64]:
    """Give each row the number of the first row that has the same values: [N, D] -> int64 [N]."""
    _, first, group = np.unique(void_view(embeddings), return_index=True, return_inverse=True)
    return first[group]


def void_view(embeddings: Embeddings) -> NDArray[np.void]:
    """See each row as one value that sorts by its bytes, equal rows as equal: [N, D] -> [N]."""
    bits = np.ascontiguousarray(embeddings).view(f"u{embeddings.dtype.itemsize}")
    minus_zero = np.array(-0.0, embeddings.dtype).view(bits.dtype)
    plain = np.where(bits == minus_zero, bits.dtype.type(0), bits)
    return plain.view(np.dtype((np.void, plain.shape[1] * plain.itemsize)))[:, 0]


def _refuse(embedding: NDArray[np.float32], row: int) -> None:
    bad = embedding[~np.isfinite(embedding)]
    if len(bad):
        raise DataError(
            f"embeddings: every value must be finite, got {bad[0]} in row {row};"
            " leave out samples that could not be embedded"
        )
    norm = np.linalg.norm(embedding.astype(np.float64))
    raise DataError(
        f"embeddings: every row must have an L2 norm of 1, got {norm:.4g} in row {row};"
        " store normalised embeddings"
    )
