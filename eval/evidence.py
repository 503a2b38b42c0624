"""Gather what the metrics look at: generated pictures, their readings, features and controls.

    sample shards -> SampleRecord (prompt, variant, expected scene) -> Evidence per variant
                                                                    -> Evidence per control

A control is scored like a model: `shuffled` hands every prompt the picture of another prompt,
`noise` and `blank` are no pictures at all. A metric on which a control scores well is no metric.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from curate.core.errors import DataError
from curate.core.image import to_array
from curate.core.schema import KEY, OK, STATUS
from curate.core.seed import make_rng
from curate.core.shard import ShardSet
from eval.clip_alignment import shuffle_pictures
from eval.compositional import Expected, Reading
from eval.features import (
    Features,
    embed_images,
    embed_texts,
    iterate_pictures,
    resize_to,
)

if TYPE_CHECKING:
    from curate.models.clip import ImageTextModel

Read = Callable[[npt.NDArray[np.uint8]], Reading]


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneReader:
    """Read scenes out of pictures and prompts; handed in by pipelines.

    Args:
        read: uint8 [H, W, 3] -> what is seen; objects have the keys shape, color, size, place.
        parse: prompt -> {"objects": [...], "background": ...}, or None where the prompt names no
            scene; asked when a sample carries no scene of its own.
    """

    read: Read
    parse: Callable[[str], Mapping[str, Any] | None] | None = None


CONTROLS = ("shuffled", "noise", "blank")
DEFAULT_VARIANT = "model"


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRecord:
    """Hold what was asked of one generated picture; `expected` None without a known scene."""

    key: str
    variant: str
    prompt: str
    expected: Expected | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evidence:
    """Hold one variant's pictures as the metrics see them; all sequences are aligned.

    Args:
        images: [N, D] float32 features of the pictures.
        texts: [N, D] float32 features of the prompts.
        is_truncated: whether the text tower cut the prompt.
        expected: None unless every prompt has a known scene.
        readings: None without a reader.
        is_control: not a model's own pictures.
        own_pictures: False where the set of pictures equals another variant's (shuffled), so that
            metrics of sets would repeat themselves.
    """

    variant: str
    keys: Sequence[str]
    prompts: Sequence[str]
    images: Features
    texts: Features
    is_truncated: Sequence[bool]
    expected: Sequence[Expected] | None
    readings: Sequence[Reading] | None
    is_control: bool = False
    own_pictures: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSet:
    """Hold the rows of a sample stage: those with a picture and, by status, those without."""

    records: Sequence[SampleRecord]
    failed: Mapping[str, Counter[str]]

    @property
    def variants(self) -> list[str]:
        """List the variants in order of first appearance."""
        return list(dict.fromkeys(record.variant for record in self.records))


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureFacts:
    """Hold what one pass over the pictures found: features by key, readings, sizes, formats."""

    features: Mapping[str, Features]
    readings: Mapping[str, Reading]
    sizes: Counter[tuple[int, int]]
    formats: Counter[str]


def read_samples(shards: ShardSet, reader: SceneReader | None = None) -> SampleSet:
    """Read prompts and scenes of a sample stage's shards.

    The scene is JSON ({"objects": [...], "background": ...}) in the table's column `scene` or in
    the member `json` under "scene"; failing both, the reader parses the prompt. A table without
    `variant` holds one variant, "model".

    Raises:
        DataError: there is no picture at all.
    """
    records: list[SampleRecord] = []
    failed: dict[str, Counter[str]] = {}
    for shard, table in shards.tables():
        metadata = dict[str, dict[str, Any]]()
        if "scene" not in table.column_names:
            metadata = {key: _load_json(members) for key, members in shards.members(shard)}
        for row in table.to_pylist():
            variant = str(row.get("variant") or DEFAULT_VARIANT)
            if row[STATUS] != OK:
                failed.setdefault(variant, Counter())[row[STATUS]] += 1
                continue
            prompt = str(row.get("prompt") or "")
            scene = row.get("scene") or metadata.get(row[KEY], {}).get("scene")
            if scene is None and reader is not None and reader.parse is not None:
                scene = reader.parse(prompt)
            records.append(
                SampleRecord(
                    key=row[KEY], variant=variant, prompt=prompt, expected=parse_scene(scene)
                )
            )
    if not records:
        raise DataError(f"{shards.url}: must hold at least one picture, got none; run sample")
    return SampleSet(records=records, failed=failed)


def parse_scene(scene: Any) -> Expected | None:
    """Read an expected scene from JSON text or a mapping; None when there is none."""
    value = json.loads(scene) if isinstance(scene, str) and scene else scene
    if not isinstance(value, Mapping):
        return None
    objects = [{str(k): str(v) for k, v in item.items()} for item in value.get("objects", ())]
    background = value.get("background")
    return Expected(objects=objects, background=str(background) if background else None)


def examine_pictures(
    shards: ShardSet,
    keys: Sequence[str],
    model: ImageTextModel,
    reader: SceneReader | None,
    batch_size: int,
    size: tuple[int, int] | None = None,
) -> PictureFacts:
    """Decode, read and embed the pictures with these keys in one pass.

    Args:
        shards: where they are.
        keys: which ones.
        model: embeds them.
        reader: reads them; None for none.
        batch_size: pictures embedded at once.
        size: (height, width) in pixels they are brought to before; None leaves them as they are.
    """
    order: list[str] = []
    readings: dict[str, Reading] = {}
    sizes: Counter[tuple[int, int]] = Counter()
    formats: Counter[str] = Counter()

    def stream() -> Iterator[Image.Image]:
        for picture in iterate_pictures(shards, keys):
            order.append(picture.key)
            sizes[(picture.image.height, picture.image.width)] += 1
            formats[picture.extension] += 1
            if reader is not None:
                readings[picture.key] = _read(reader, picture.image)
            yield resize_to(picture.image, size)

    features = embed_images(stream(), model, batch_size)
    return PictureFacts(
        features=dict(zip(order, features, strict=True)),
        readings=readings,
        sizes=sizes,
        formats=formats,
    )


def gather_evidence(
    records: Sequence[SampleRecord], facts: PictureFacts, model: ImageTextModel, batch_size: int
) -> Evidence:
    """Join one variant's records with what was found in its pictures."""
    prompts = [record.prompt for record in records]
    keys = [record.key for record in records]
    expected = [record.expected for record in records if record.expected is not None]
    return Evidence(
        variant=records[0].variant,
        keys=keys,
        prompts=prompts,
        images=np.stack([facts.features[key] for key in keys]),
        texts=embed_texts(prompts, model, batch_size),
        is_truncated=model.is_truncated(prompts),
        expected=expected if len(expected) == len(records) else None,
        readings=[facts.readings[key] for key in keys] if facts.readings else None,
    )


def shuffled_control(evidence: Evidence, seed: int) -> Evidence | None:
    """Hand every prompt the picture of another prompt; None when one prompt dominates."""
    order = shuffle_pictures(evidence.prompts, make_rng(seed, "evaluate", "shuffled"))
    if order is None:
        return None
    readings = evidence.readings
    return dataclasses.replace(
        evidence,
        variant="shuffled",
        keys=[evidence.keys[index] for index in order],
        images=evidence.images[order],
        readings=None if readings is None else [readings[index] for index in order],
        is_control=True,
        own_pictures=False,
    )


def drawn_control(
    kind: str,
    evidence: Evidence,
    size: tuple[int, int],
    model: ImageTextModel,
    reader: SceneReader | None,
    seed: int,
    batch_size: int,
) -> Evidence:
    """Score no pictures at all under the same prompts: uniform colour noise, or plain white.

    Args:
        kind: "noise" or "blank".
        evidence: whose prompts and scenes are used.
        size: (height, width) in pixels.
        model: embeds the pictures.
        reader: reads them; None for none.
        seed: the run's seed; each prompt's noise is drawn by its position.
        batch_size: pictures embedded at once.
    """
    readings: list[Reading] = []

    def stream() -> Iterator[Image.Image]:
        for index in range(len(evidence.prompts)):
            image = Image.fromarray(_draw(kind, size, make_rng(seed, "evaluate", kind, index)))
            if reader is not None:
                readings.append(_read(reader, image))
            yield image

    images = embed_images(stream(), model, batch_size)
    return dataclasses.replace(
        evidence,
        variant=kind,
        images=images,
        readings=readings if reader is not None else None,
        is_control=True,
    )


def _draw(kind: str, size: tuple[int, int], rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    if kind == "noise":
        return rng.integers(0, 256, size=(*size, 3), dtype=np.uint8)
    return np.full((*size, 3), 255, dtype=np.uint8)


def _read(reader: SceneReader, image: Image.Image) -> Reading:
    return reader.read(to_array(image))


def _load_json(members: Mapping[str, bytes]) -> dict[str, Any]:
    value = json.loads(members["json"]) if "json" in members else {}
    return value if isinstance(value, dict) else {}
