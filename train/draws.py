"""Draw every random number of training by (seed, purpose, key, epoch), never by order.

One uniform number is the hash itself; an array of normals comes from a Philox stream keyed by the
hash. So a sample meets the same timestep, noise and coins whatever the batch, rank or resume, and
two runs that differ in captions alone share all other draws.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from curate.core.seed import derive_seed, make_rng


def draw_uniform(seed: int, purpose: str, key: str, epoch: int) -> float:
    """Draw from the open interval (0, 1) with 52 bits, so that the largest is still below 1."""
    return ((derive_seed(seed, purpose, key, epoch) >> 12) + 0.5) * 2.0**-52


def fill_normal(seed: int, purpose: str, key: str, epoch: int, out: NDArray[np.float32]) -> None:
    """Fill a contiguous float32 array with standard normal draws."""
    make_rng(seed, purpose, key, epoch).standard_normal(out=out, dtype=np.float32)
