"""Measure PDQ hashes, the ones that lists of known abuse material hold, and their quality."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from curate.annotators.annotator import Batch, Column
from curate.annotators.pdq_hash import measure_spectrum, measure_turns, pack_hash
from curate.core.image import to_array

HASH_BYTES = 32


class Pdq:
    """Measure pdq.hash (32 bytes, hex as in ThreatExchange) and pdq.quality (0..100).

    Two pictures match up to 31 bits apart; hashes of quality 49 and less are not to be matched.
    Source: ThreatExchange, pdq/README.md, "Matching".

    Args:
        dihedral: also measure pdq.dihedral, the hashes of the picture turned and flipped in all
            eight ways, itself first (order: `measure_turns`), so that a turned copy is found by
            comparing its eight with the plain hashes of the others.
    """

    name: str = "pdq"
    roles: tuple[str, ...] = ()
    # Of the full canonical picture (`pdq_hash.py`); others hash copies of 512 px.
    metadata: Mapping[str, str] = {"spec": "full"}

    def __init__(self, *, dihedral: bool = False) -> None:
        self.columns: Mapping[str, pa.DataType] = {
            "pdq.hash": pa.binary(HASH_BYTES),
            "pdq.quality": pa.int32(),
        }
        if dihedral:
            self.columns |= {"pdq.dihedral": pa.list_(pa.binary(HASH_BYTES))}

    def setup(self) -> None:
        """Load nothing."""

    def __call__(self, batch: Batch) -> Mapping[str, Column]:
        """Hash every picture."""
        pictures = [to_array(image) for image in batch.images]
        spectra = [measure_spectrum(pixels) for pixels in pictures]
        found: dict[str, Column] = {
            "pdq.hash": [pack_hash(spectrum.frequencies) for spectrum in spectra],
            "pdq.quality": [spectrum.quality for spectrum in spectra],
        }
        if "pdq.dihedral" in self.columns:
            found["pdq.dihedral"] = [
                [pack_hash(turned) for turned in measure_turns(pixels)] for pixels in pictures
            ]
        return found
