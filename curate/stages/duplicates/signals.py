"""Say how the hashes of a signal are cut for the near wave: by bands, and each band into bins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from curate.stages.duplicates.bands import Band, bands
from curate.stages.duplicates.dedup_config import DedupConfig

SIGNAL_BITS = {"phash": 64, "pdq": 256}
"""Signal -> bits of its hashes."""

_MOST_HASHES = {"phash": 100_000_000, "pdq": 10_000_000}
"""Signal -> hashes that bands are chosen for, at most. Chosen by us: beyond, more bands would cost
more to write than they save in comparisons. A billion pHashes take 112 bands, without it 210."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """Say how the near wave reads a signal's hashes.

    Args:
        radius: bits that may differ.
        bands: none where only equal hashes count, or the signal is off.
        num_bins: of each band.
    """

    radius: int
    bands: Sequence[Band]
    num_bins: int


def find_signal(config: DedupConfig, name: str, num_bins: int, num_hashes: int) -> Signal:
    """Give the bands of a signal.

    Args:
        config: dedup's.
        name: of SIGNAL_BITS.
        num_bins: of each band.
        num_hashes: that the bands are chosen for.
    """
    radius = {"phash": config.phash_radius, "pdq": config.pdq_radius}[name]
    num_hashes = min(num_hashes, _MOST_HASHES[name])
    scheme = bands(SIGNAL_BITS[name], radius, num_hashes=num_hashes) if radius > 0 else ()
    return Signal(radius=radius, bands=scheme, num_bins=num_bins)
