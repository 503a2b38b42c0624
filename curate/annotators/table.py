"""List the annotators, and build those that a model pack can run.

    Batch (keys, pictures, captions) -> annotators in the order of ANNOTATORS -> columns by name

What an annotator is stands in annotator.py. Neither torch nor a model is imported here: builders
are cheap, `setup` loads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from curate.annotators.annotator import Annotator, Options
from curate.models.packs import EXTRA_IMAGE_TEXT, ModelRef, is_image_text_role


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
