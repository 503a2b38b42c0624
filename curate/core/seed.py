"""Derive every random draw of the project from names, never from order, worker, rank or clock.

`derive_seed(seed, purpose, key, epoch)` hashes the names; `make_rng` keys a counter-based generator
(Philox) with the hash, so equal names give equal draws on every machine and in any order.
"""

from __future__ import annotations

import hashlib

import numpy as np


def derive_seed(seed: int, *names: str | int) -> int:
    """Hash a seed and names to 64 bits.

    Args:
        seed: the run's seed.
        names: purpose first, then key, epoch or whatever distinguishes the draw.

    Returns:
        An integer in [0, 2**64).
    """
    text = "\x1f".join([str(seed), *(f"{type(name).__name__}:{name}" for name in names)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def make_rng(seed: int, *names: str | int) -> np.random.Generator:
    """Make the generator that belongs to these names."""
    return np.random.Generator(np.random.Philox(key=derive_seed(seed, *names)))
