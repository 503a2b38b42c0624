"""Hold thresholds in the precision of the column they are held against.

Annotators store scores in single precision, where 0.2 is 0.200000003: against 0.2 in double
precision a score of exactly 0.2 would fail `max=0.2`, though ends are inclusive.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def in_precision_of(
    kind: pa.DataType, thresholds: Sequence[float] | NDArray[np.float64]
) -> NDArray[np.float64]:
    """Round thresholds to single precision where a column is of that type; order stays.

    One beyond all numbers of single precision stays as it is: rounded, it would equal infinity.
    """
    exact = np.asarray(thresholds, np.float64)
    if kind != pa.float32():
        return exact
    with np.errstate(over="ignore"):
        rounded = exact.astype(np.float32).astype(np.float64)
    return np.where(np.isinf(rounded), exact, rounded)
