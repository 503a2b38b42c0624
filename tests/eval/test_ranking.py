"""A score that ranks better has the larger area under its curve."""

from __future__ import annotations

import numpy as np
import pytest

from eval.ranking import auc


def test_auc_is_the_share_of_pairs_in_order():
    rng = np.random.default_rng(0)
    positive = rng.integers(0, 6, 40).tolist()
    negative = rng.integers(0, 5, 30).tolist()
    pairs = [(p > n) + 0.5 * (p == n) for p in positive for n in negative]
    assert auc(positive, negative) == pytest.approx(np.mean(pairs))
    assert auc([1.0], [0.0]) == 1.0
    assert auc([0.0], [0.0]) == 0.5


def test_auc_refuses_an_empty_class():
    with pytest.raises(ValueError, match="both classes, got 1 and 0"):
        auc([1.0], [])
