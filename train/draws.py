"""Draw every random number of training by (seed, purpose, key, epoch), never by order.

A visit (a sample in an epoch) has a number, which is a hash of key and epoch; a purpose has a salt.
Both mixed are a uniform draw, or the key of a Philox stream of normals. So a sample meets the same
timestep, noise and coins whatever the batch, rank or resume, and two runs that differ in captions
alone share all other draws.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from curate.core.seed import derive_seed

Visits = NDArray[np.uint64]


class Draws:
    """Draw for one purpose.

    Args:
        seed: the run's seed.
        purpose: another one gives other draws.
    """

    def __init__(self, seed: int, purpose: str) -> None:
        self._salt = np.uint64(derive_seed(seed, "draws", purpose))

    def uniform(self, visits: Visits) -> NDArray[np.float64]:
        """Draw from the open interval (0, 1) with 52 bits, so that the largest is still below 1.

        Args:
            visits: [N], see `number_visits`.
        """
        return ((_mix(visits ^ self._salt) >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52

    def below(self, visits: Visits, frac: float) -> NDArray[np.bool_]:
        """Toss a coin for each visit: [N], true with a probability of `frac`."""
        if frac <= 0:
            return np.zeros(len(visits), np.bool_)
        return self.uniform(visits) < frac

    def fill_normal(self, visits: Visits, out: NDArray[np.float32]) -> None:
        """Fill [N, ...], contiguous float32, with normal draws, a stream for each visit."""
        for key, one in zip(_mix(visits ^ self._salt).tolist(), out, strict=True):
            rng = np.random.Generator(np.random.Philox(key=key))
            rng.standard_normal(out=one, dtype=np.float32)


def number_visits(keys: NDArray[np.uint8], epochs: NDArray[np.int64]) -> Visits:
    """Number samples' visits: [N], uint64, as good as distinct.

    Args:
        keys: [N, 10], of the samples; hashes themselves.
        epochs: [N].
    """
    head = np.ascontiguousarray(keys[:, :8]).view("<u8")[:, 0]
    tail = np.ascontiguousarray(keys[:, 8:]).view("<u2")[:, 0].astype(np.uint64)
    return _mix(head ^ _mix(epochs.astype(np.uint64) << np.uint64(16) | tail))


def _mix(values: Visits) -> Visits:
    """Scatter 64-bit numbers: one to one, every bit of the result hangs on every bit given.

    Source: splitmix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators",
    figure 17, with the constants of variant 13 of Stafford's mixer).
    """
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ values >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ values >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return values ^ values >> np.uint64(31)
