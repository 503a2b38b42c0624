"""Say how well a score ranks one kind of sample above another."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata


def auc(positive: npt.ArrayLike, negative: npt.ArrayLike) -> float:
    """Estimate P(positive > negative) + P(tie) / 2 over all pairs, exactly.

    Args:
        positive: [N] scores.
        negative: [M] scores.

    Raises:
        ValueError: one of the two is empty.

    Source: Mann and Whitney 1947; equals the area under the ROC curve (Hanley and McNeil 1982).
    """
    high, low = np.asarray(positive, np.float64), np.asarray(negative, np.float64)
    if not high.size or not low.size:
        raise ValueError(f"auc needs both classes, got {high.size} and {low.size} scores")
    ranks = rankdata(np.concatenate([high, low]))
    above = ranks[: high.size].sum() - high.size * (high.size + 1) / 2
    return float(above / (high.size * low.size))
