"""Draw every random number of training by (seed, purpose, key, epoch), never by order.

One uniform number is a hash; an array of normals comes from a Philox stream keyed by the hash. So
a sample meets the same timestep, noise and coins whatever the batch, rank or resume, and two runs
that differ in captions alone share all other draws.
"""

from __future__ import annotations

import numpy as np
import xxhash
from numpy.typing import NDArray

from curate.core.seed import derive_seed


class Draws:
    """Draw for one purpose.

    Args:
        seed: the run's seed.
        purpose: another one gives other draws.
    """

    def __init__(self, seed: int, purpose: str) -> None:
        # The cryptographic hash names the purpose once; 0.1 us of xxh3 then names each sample.
        self._salt = derive_seed(seed, "draws", purpose)

    def uniform(self, name: bytes) -> float:
        """Draw from the open interval (0, 1) with 52 bits, so that the largest is still below 1.

        Args:
            name: see `draw_name`.
        """
        return ((xxhash.xxh3_64_intdigest(name, self._salt) >> 12) + 0.5) * 2.0**-52

    def fill_normal(self, name: bytes, out: NDArray[np.float32]) -> None:
        """Fill a contiguous float32 array with standard normal draws."""
        key = xxhash.xxh3_64_intdigest(name, self._salt)
        rng = np.random.Generator(np.random.Philox(key=key))
        rng.standard_normal(out=out, dtype=np.float32)


def draw_name(key: bytes, epoch: int) -> bytes:
    """Name a sample's visit in an epoch."""
    return key + epoch.to_bytes(8, "little")
