"""Tell whether a picture is another, turned or mirrored: by miniatures that are turned alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from curate.stages.duplicates.thumbnails import measure_change
from curate.stages.duplicates.windows import MINIATURE_BYTES

Cells = NDArray[np.uint8]

# [P, N, N, 3] each; Source: the order of `annotators/pdq_hash.measure_turns`.
_TURNS: Sequence[Callable[[Cells], Cells]] = (
    lambda cells: cells,
    lambda cells: np.rot90(cells, 1, (1, 2)),
    lambda cells: np.rot90(cells, 2, (1, 2)),
    lambda cells: np.rot90(cells, 3, (1, 2)),
    lambda cells: cells[:, ::-1],
    lambda cells: cells[:, :, ::-1],
    lambda cells: cells.swapaxes(1, 2),
    lambda cells: np.rot90(cells, 2, (1, 2)).swapaxes(1, 2),
)


def measure_turned(plain: Cells, formed: Cells, form: int) -> NDArray[np.float32]:
    """Measure how much pictures differ from others that are turned.

    Args:
        plain: [P, 32, 32, 3], miniatures.
        formed: [P, 32, 32, 3], to be turned.
        form: number of the turn in PDQ's eight.

    Returns:
        [P], float32: `measure_change`.
    """
    turned = np.ascontiguousarray(_TURNS[form](formed))
    flat = (len(plain), MINIATURE_BYTES)
    return measure_change(plain.reshape(flat), turned.reshape(flat))
