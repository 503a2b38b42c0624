"""Say how the hashes of a signal are cut for the near wave: by bands, and each band into bins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from curate.stages.duplicates.bands import Band, bands
from curate.stages.duplicates.dedup_config import DedupConfig
from curate.stages.duplicates.windows import WINDOWS

FORMED_SIGNALS = ("pdq", "window")
"""Signals of which a sample may have several hashes."""

PDQ_FORMS = 8  # of a picture: itself, turned and flipped

SIGNAL_BITS = {"phash": 64, "pdq": 256, "window": 64}
"""Signal -> bits of its hashes."""

_MOST_HASHES = {"phash": 100_000_000, "pdq": 10_000_000, "window": 100_000_000}
"""Signal -> hashes that bands are chosen for, at most. Chosen by us: beyond, more bands would cost
more to write than they save in comparisons. A billion pHashes take 112 bands, without it 210."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """Say how the near wave reads a signal's hashes.

    Args:
        num_bits: of a hash.
        radius: bits that may differ.
        bands: none where only equal hashes count, or the signal is off.
        num_bins: of each band.
    """

    num_bits: int
    radius: int
    bands: Sequence[Band]
    num_bins: int


def radius_of(config: DedupConfig, name: str) -> int:
    """Give the bits in which two hashes of a signal may differ; OFF where it is left out."""
    return {
        "phash": config.phash_radius,
        "pdq": config.pdq_radius,
        "window": config.crop_radius,
    }[name]


def count_forms(config: DedupConfig, name: str) -> int:
    """Give the hashes of a signal that a sample has."""
    return {
        "phash": 1,
        "pdq": PDQ_FORMS if config.pdq_dihedral else 1,
        "window": len(WINDOWS),
    }[name]


def find_signal(config: DedupConfig, name: str, num_bins: int, num_hashes: int) -> Signal:
    """Give the bands of a signal.

    Args:
        config: dedup's.
        name: of SIGNAL_BITS.
        num_bins: of each band.
        num_hashes: samples that the bands are chosen for.
    """
    radius = radius_of(config, name)
    num_hashes = min(num_hashes * count_forms(config, name), _MOST_HASHES[name])
    num_bits = SIGNAL_BITS[name]
    scheme = bands(num_bits, radius, num_hashes=num_hashes) if radius > 0 else ()
    return Signal(num_bits=num_bits, radius=radius, bands=scheme, num_bins=num_bins)
