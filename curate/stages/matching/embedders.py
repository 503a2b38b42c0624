"""Name the models whose embeddings are compared, and run them on the pictures of a benchmark."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import pyarrow as pa

from curate.core.errors import ConfigError, StageError
from curate.core.model_ref import ModelRef
from curate.stages.matching.benchmark_config import DecontaminateConfig
from curate.stages.matching.benchmark_pictures import Embed
from curate.stages.matching.picture_index import Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedder:
    """Say where the embeddings of a kind come from.

    Args:
        role: of the model in the pack.
        column: of annotate, which holds the samples' own; its first part is the annotator.
        load: gives the function that embeds pictures.
    """

    role: str
    column: str
    load: Callable[[ModelRef], Embed]


def _load_clip(ref: ModelRef) -> Embed:
    from curate.models.clip import load_image_text

    return load_image_text(ref).embed_images


def _load_descriptor(ref: ModelRef) -> Embed:
    from curate.models.copy_descriptor import load_copy_descriptor

    return load_copy_descriptor(ref).embed_images


EMBEDDERS: Mapping[str, Embedder] = {
    "clip": Embedder(role="image_text", column="clip.image_embedding", load=_load_clip),
    "descriptor": Embedder(role="descriptor", column="descriptor.embedding", load=_load_descriptor),
}
"""Kind of match to what measures it."""


def find_limits(config: DecontaminateConfig, models: Mapping[str, ModelRef]) -> Limits:
    """Say how near is a match: a copy detector is used where the pack has one, CLIP if asked for.

    Raises:
        ConfigError: a threshold is set for a model that the pack lacks.
        ModelError: what is known of the copy detector is malformed.
    """
    least: dict[str, float | None] = {
        "clip": config.clip_min_cosine,
        "descriptor": config.descriptor_min_cosine,
    }
    for kind, threshold in least.items():
        if threshold is not None and EMBEDDERS[kind].role not in models:
            raise ConfigError(
                f"decontaminate.{kind}_min_cosine: needs a model of role {EMBEDDERS[kind].role}, "
                f"got a pack with {', '.join(sorted(models)) or 'none'}; choose another `models=`"
            )
    if "descriptor" in models and least["descriptor"] is None:
        from curate.models.copy_descriptor import read_family

        least["descriptor"] = read_family(models["descriptor"]).min_cosine
    return Limits(
        pdq_radius=config.pdq_radius,
        pdq_min_quality=config.pdq_min_quality,
        phash_radius=config.phash_radius,
        thumbnail_change=config.thumbnail_change,
        min_cosine={kind: value for kind, value in least.items() if value is not None},
    )


def load_embedders(kinds: Collection[str], models: Mapping[str, ModelRef]) -> dict[str, Embed]:
    """Load the models of some kinds."""
    return {kind: EMBEDDERS[kind].load(models[EMBEDDERS[kind].role]) for kind in kinds}


def check_model(schema: pa.Schema, kind: str, models: Mapping[str, ModelRef]) -> None:
    """Refuse embeddings of samples that another model made.

    Args:
        schema: of annotate's table, whose metadata names the digests of its models.
        kind: of match.
        models: the pack.

    Raises:
        StageError: the digests differ.
    """
    embedder = EMBEDDERS[kind]
    fact = f"annotate.{embedder.column.partition('.')[0]}.digest"
    measured = (schema.metadata or {}).get(fact.encode(), b"").decode()
    wanted = models[embedder.role].digest
    if measured != wanted:
        raise StageError(
            f"decontaminate: {embedder.column} must be of the model of role {embedder.role} "
            f"({wanted[:12]}), got one of {measured[:12] or 'an unknown model'}; "
            "run `curate run stage=annotate` with this models="
        )
