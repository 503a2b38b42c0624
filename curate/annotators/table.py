"""Say what an annotator is, list them, and run one on a batch without losing it to one sample.

    Batch (keys, pictures, captions) -> annotators in the order of ANNOTATORS -> columns by name

An annotator measures and decides nothing. It may read what earlier ones measured (`Batch.columns`).
Columns are named `<annotator>.<field>`; null means unmeasured, which no filter takes for a pass.
Neither torch nor a model is imported here: builders are cheap, `setup` loads.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from curate.core.errors import SAMPLE_FAULTS, SampleError
from curate.models.packs import ModelRef

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


def runnable(models: Mapping[str, ModelRef]) -> list[str]:
    """Name the annotators that a model pack can run, in table order."""
    built = ((name, build(models)) for name, build in ANNOTATORS.items())
    return [name for name, annotator in built if all(role in models for role in annotator.roles)]


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


def _pixels(models: Mapping[str, ModelRef]) -> Annotator:
    from curate.annotators.pixels import Pixels

    return Pixels()


def _hashes(models: Mapping[str, ModelRef]) -> Annotator:
    from curate.annotators.hashes import Hashes

    return Hashes()


def _phash(models: Mapping[str, ModelRef]) -> Annotator:
    from curate.annotators.phash import PerceptualHash

    return PerceptualHash()


def _caption_text(models: Mapping[str, ModelRef]) -> Annotator:
    from curate.annotators.caption_text import CaptionText

    return CaptionText()


def _clip(models: Mapping[str, ModelRef]) -> Annotator:
    from curate.annotators.clip_score import ClipScore

    return ClipScore(models)


def _aesthetic(models: Mapping[str, ModelRef]) -> Annotator:
    from curate.annotators.head_score import HeadScore

    return HeadScore("aesthetic", models)


def _watermark(models: Mapping[str, ModelRef]) -> Annotator:
    from curate.annotators.head_score import HeadScore

    return HeadScore("watermark", models)


def _text_overlay(models: Mapping[str, ModelRef]) -> Annotator:
    from curate.annotators.head_score import HeadScore

    return HeadScore("text_overlay", models)


def _nsfw(models: Mapping[str, ModelRef]) -> Annotator:
    from curate.annotators.nsfw import Nsfw

    return Nsfw(models)


def _text_area(models: Mapping[str, ModelRef]) -> Annotator:
    from curate.annotators.text_area import TextArea

    return TextArea(models)


ANNOTATORS: Mapping[str, Callable[[Mapping[str, ModelRef]], Annotator]] = {
    "pixels": _pixels,
    "hashes": _hashes,
    "phash": _phash,
    "caption_text": _caption_text,
    "clip": _clip,
    "aesthetic": _aesthetic,  # reads clip.image_embedding
    "watermark": _watermark,  # reads clip.image_embedding
    "text_overlay": _text_overlay,  # reads clip.image_embedding
    "nsfw": _nsfw,
    "text_area": _text_area,
}
"""Name to builder, in the order in which they run; a builder takes the pack and loads nothing."""
