"""Say what an annotator is, and run one on a batch without losing it to one sample.

An annotator measures and decides nothing. It may read what earlier ones measured (`Batch.columns`).
Columns are named `<annotator>.<field>`; null means unmeasured, which no filter takes for a pass.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from curate.core.errors import SAMPLE_FAULTS, SampleError

logger = logging.getLogger(__name__)

Column = Sequence[Any] | NDArray[Any]
"""One value for each sample of a batch; None where it could not be measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Hold decoded samples and what was measured of them so far.

    Args:
        keys: of the samples.
        images: RGB, upright, sRGB; decoded once for all annotators.
        captions: alt texts; "" where there is none.
        columns: by column name; the caller adds each annotator's result.
    """

    keys: Sequence[str]
    images: Sequence[Image.Image]
    captions: Sequence[str]
    columns: dict[str, Column]

    def take(self, index: int) -> Batch:
        """Give a batch of one sample."""
        part = slice(index, index + 1)
        return Batch(
            keys=self.keys[part],
            images=self.images[part],
            captions=self.captions[part],
            columns={name: values[part] for name, values in self.columns.items()},
        )


HASH_SPECS = ("lm1", "imagehash")
"""Rules by which phash and dhash can be made (`phash.py`); the first is the default."""


Precision = Literal["fp32", "bf16", "fp16"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "fp16")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Choose between the forms of a measurement that has several.

    Args:
        hash_spec: of phash.phash and phash.dhash, among HASH_SPECS.
        miniatures: also measure phash.miniature, for cropped copies.
        pdq_dihedral: also measure pdq.dihedral, the hashes of turned and flipped pictures.
        text_embeddings: also measure text_embedding of every image-text model.
        precision: of image-text models: fp32, bf16 or fp16.
        device: of image-text models: cpu, cuda, or auto.
        threads: that prepare pictures while a network runs.
    """

    hash_spec: str = HASH_SPECS[0]
    miniatures: bool = False
    pdq_dihedral: bool = False
    text_embeddings: bool = False
    precision: Precision = "fp32"
    device: str = "cpu"
    threads: int = 1


class Annotator(Protocol):
    """Measure columns of a batch; deterministic, independent of the other samples in it."""

    @property
    def name(self) -> str:
        """Give the name in ANNOTATORS."""
        ...

    @property
    def roles(self) -> tuple[str, ...]:
        """Give the roles of the model pack that `setup` loads."""
        ...

    @property
    def columns(self) -> Mapping[str, pa.DataType]:
        """Give the columns it measures, with their types; widths are known after `setup`."""
        ...

    def setup(self) -> None:
        """Load models; called once per process."""
        ...

    def __call__(self, batch: Batch) -> Mapping[str, Column]:
        """Measure all columns for every sample; raise if any one cannot be measured."""
        ...


def measure(annotator: Annotator, batch: Batch) -> dict[str, Column]:
    """Run an annotator; a sample it cannot measure gets nulls, the others their values.

    Returns:
        One entry for each of the annotator's columns, as long as the batch.

    Raises:
        OSError, ValueError, ArithmeticError: it failed on every one of several samples, which is a
            fault of the annotator and not of a sample.
    """
    try:
        return dict(annotator(batch))
    except SAMPLE_FAULTS as error:
        fault = error
    rows = [_measure_one(annotator, batch.take(index)) for index in range(len(batch.keys))]
    is_own_fault = len(rows) > 1 and not isinstance(fault, SampleError)
    if is_own_fault and all(row is None for row in rows):
        raise fault
    return {name: [row[name][0] if row else None for row in rows] for name in annotator.columns}


def _measure_one(annotator: Annotator, batch: Batch) -> Mapping[str, Column] | None:
    try:
        return annotator(batch)
    except SAMPLE_FAULTS as error:
        logger.warning("%s could not measure %s: %s", annotator.name, batch.keys[0], error)
        return None
