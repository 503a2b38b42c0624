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
from typing import Any, Literal, Protocol

import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from curate.core.errors import SAMPLE_FAULTS, SampleError
from curate.models.packs import EXTRA_IMAGE_TEXT, ModelRef, is_image_text_role

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


def runnable(models: Mapping[str, ModelRef]) -> list[str]:
    """Name the annotators that a model pack can run, in table order.

    The pack's further image-text models come right after the main one, under their roles' names.
    """
    names: list[str] = []
    for name in ANNOTATORS:
        if all(role in models for role in build_annotator(name, models, Options()).roles):
            names.append(name)
        if name == "clip":
            names += [role for role in models if role.startswith(EXTRA_IMAGE_TEXT)]
    return names


def build_annotator(name: str, models: Mapping[str, ModelRef], options: Options) -> Annotator:
    """Build an annotator of the table, or that of a further image-text model; load nothing."""
    if name in ANNOTATORS:
        return ANNOTATORS[name](models, options)
    from curate.annotators.clip_score import ClipScore

    return ClipScore(models, name, options)


def is_annotator(name: str) -> bool:
    """Tell whether an annotator may have such a name, whatever the pack."""
    return name in ANNOTATORS or is_image_text_role(name.replace("image_text", ""))


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


def _pixels(models: Mapping[str, ModelRef], options: Options) -> Annotator:
    from curate.annotators.pixels import Pixels

    return Pixels()


def _hashes(models: Mapping[str, ModelRef], options: Options) -> Annotator:
    from curate.annotators.hashes import Hashes

    return Hashes()


def _phash(models: Mapping[str, ModelRef], options: Options) -> Annotator:
    from curate.annotators.phash import PerceptualHash

    return PerceptualHash(options.hash_spec, miniatures=options.miniatures)


def _pdq(models: Mapping[str, ModelRef], options: Options) -> Annotator:
    from curate.annotators.pdq import Pdq

    return Pdq(dihedral=options.pdq_dihedral)


def _caption_text(models: Mapping[str, ModelRef], options: Options) -> Annotator:
    from curate.annotators.caption_text import CaptionText

    return CaptionText()


def _caption_repair(models: Mapping[str, ModelRef], options: Options) -> Annotator:
    from curate.annotators.caption_repair import CaptionRepair

    return CaptionRepair()


def _language(models: Mapping[str, ModelRef], options: Options) -> Annotator:
    from curate.annotators.language import LanguageId

    return LanguageId(models)


def _toxicity(models: Mapping[str, ModelRef], options: Options) -> Annotator:
    from curate.annotators.toxicity import Toxicity

    return Toxicity(models)


def _clip(models: Mapping[str, ModelRef], options: Options) -> Annotator:
    from curate.annotators.clip_score import ClipScore

    return ClipScore(models, options=options)


def _aesthetic(models: Mapping[str, ModelRef], options: Options) -> Annotator:
    from curate.annotators.head_score import HeadScore

    return HeadScore("aesthetic", models)


def _aesthetic_v1(models: Mapping[str, ModelRef], options: Options) -> Annotator:
    from curate.annotators.head_score import HeadScore

    return HeadScore("aesthetic_v1", models)


def _watermark(models: Mapping[str, ModelRef], options: Options) -> Annotator:
    return _head_or_picture_score("watermark", models)


def _text_overlay(models: Mapping[str, ModelRef], options: Options) -> Annotator:
    from curate.annotators.head_score import HeadScore

    return HeadScore("text_overlay", models)


def _nsfw(models: Mapping[str, ModelRef], options: Options) -> Annotator:
    return _head_or_picture_score("nsfw", models)


def _nudenet(models: Mapping[str, ModelRef], options: Options) -> Annotator:
    from curate.annotators.picture_score import PictureScore

    return PictureScore("nudenet", models)


def _head_or_picture_score(name: str, models: Mapping[str, ModelRef]) -> Annotator:
    """Build what the pack's model needs: a head reads embeddings, any other model pictures."""
    from curate.annotators.head_score import HeadScore
    from curate.annotators.picture_score import PictureScore
    from curate.models.picture_scores import LOADERS

    scores_pictures = name in models and models[name].kind in LOADERS
    return PictureScore(name, models) if scores_pictures else HeadScore(name, models)


def _text_area(models: Mapping[str, ModelRef], options: Options) -> Annotator:
    from curate.annotators.text_area import TextArea

    return TextArea(models)


def _ocr(models: Mapping[str, ModelRef], options: Options) -> Annotator:
    from curate.annotators.ocr import Ocr

    return Ocr(models)


def _faces(models: Mapping[str, ModelRef], options: Options) -> Annotator:
    from curate.annotators.faces import Faces

    return Faces(models)


def _descriptor(models: Mapping[str, ModelRef], options: Options) -> Annotator:
    from curate.annotators.descriptor import Descriptor

    return Descriptor(models)


ANNOTATORS: Mapping[str, Callable[[Mapping[str, ModelRef], Options], Annotator]] = {
    "pixels": _pixels,
    "hashes": _hashes,
    "phash": _phash,
    "pdq": _pdq,
    "caption_text": _caption_text,
    "caption_repair": _caption_repair,
    "language": _language,
    "toxicity": _toxicity,  # reads language.code
    "clip": _clip,
    "aesthetic": _aesthetic,  # the heads read clip.image_embedding or that of another model
    "aesthetic_v1": _aesthetic_v1,
    "watermark": _watermark,  # a head, or a network of its own
    "text_overlay": _text_overlay,
    "nsfw": _nsfw,  # a head, or a network of its own
    "nudenet": _nudenet,
    "text_area": _text_area,
    "ocr": _ocr,  # reads text_area.boxes
    "faces": _faces,
    "descriptor": _descriptor,
}
"""Name to builder, in the order in which they run; a builder takes the pack and the
options and loads nothing."""
