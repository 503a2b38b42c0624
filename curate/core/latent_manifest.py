"""Say what a latent store holds: all that a loader needs to know before it opens a shard.

`manifest.json` is written when every shard is there; a shard that it does not list does not exist.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from curate.core.errors import DataError, ShardError
from curate.core.store import Store

NAME = "manifest.json"
FORMAT = 1
NULL_SHARD = "_null"  # of a text column: the one record of the empty caption
TextForm = Literal["float16", "int8", "ids"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentFacts:
    """Describe the stored latents.

    Args:
        member: "moments" ([2C, h, w], raw mean, then standard deviation) or "latents" ([C, h, w]).
        vae: digest of the VAE's weights.
        channels: C.
        mean: [C], of raw latents.
        std: [C], of raw latents; latents = (raw - mean) / std.
        downsample: pixels on a latent pixel's side.
        has_flipped: the mirrored picture's record is there too, as member "flipped".
    """

    member: Literal["moments", "latents"]
    vae: str
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    downsample: int
    has_flipped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFacts:
    """Describe one text encoder's column.

    Args:
        name: of the text encoder; the column is the folder `text-NAME`.
        encoder: digest of its weights.
        dim: D, channels of a token.
        pooled_dim: P; 0 when it has no pooled vector, or ids alone are stored.
        max_tokens: most tokens a caption has.
        form: how tokens are stored.
        error: relative root mean square error of int8 on the captions it was checked with: of all
            numbers, or by channel where that is larger; 0 for other forms.
    """

    name: str
    encoder: str
    dim: int
    pooled_dim: int
    max_tokens: int
    form: TextForm = "float16"
    error: float = 0.0

    @property
    def folder(self) -> str:
        """Name the column's folder."""
        return f"text-{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureFacts:
    """Describe a column of picture features; the folder has its name.

    Args:
        name: of the column, and of its member.
        model: digest of the model's weights.
    """

    name: str
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardEntry:
    """List one shard.

    Args:
        name: "00042".
        bucket: "HEIGHTxWIDTH" of all its pictures, pixels.
        num_samples: records.
        has_text: False where the captions lie with another resolution's shard; the index's arrays
            `home_shard` (the shard's number: its name is `shard_name` of it) and `home_row` say
            where, for each record.
        files: name in the store -> size in bytes.
    """

    name: str
    bucket: str
    num_samples: int
    has_text: bool = True
    files: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentManifest:
    """Hold the facts of a latent store.

    Args:
        latents: of the main column.
        texts: of the text columns, the main one first.
        features: of the feature columns.
        shards: sorted by name.
    """

    latents: LatentFacts
    texts: tuple[TextFacts, ...]
    features: tuple[FeatureFacts, ...] = ()
    shards: tuple[ShardEntry, ...]

    def to_json(self) -> str:
        """Write it; equal manifests give equal text."""
        return json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, sort_keys=True, indent=1)

    @classmethod
    def from_json(cls, text: str | bytes, place: str) -> Self:
        """Read it back.

        Raises:
            ShardError: it is none, or one of another format.
        """
        try:
            values: dict[str, Any] = json.loads(text)
            if values["format"] != FORMAT:
                raise ValueError(f"format {values['format']}")
            latents = values["latents"]
            latents |= {name: tuple(latents[name]) for name in ("mean", "std")}
            manifest = cls(
                latents=LatentFacts(**latents),
                texts=tuple(TextFacts(**one) for one in values["texts"]),
                features=tuple(FeatureFacts(**one) for one in values["features"]),
                shards=tuple(ShardEntry(**one) for one in values["shards"]),
            )
            _check_names(manifest)
            return manifest
        except (ValueError, KeyError, TypeError) as error:
            raise ShardError(
                f"{place}: must be a manifest of format {FORMAT}, got {error!r}; run encode again"
            ) from error

    @classmethod
    def load(cls, store: Store) -> Self:
        """Read the manifest of a store.

        Raises:
            DataError: the folder has none.
            ShardError: it is damaged.
        """
        place = f"{store.url}/{NAME}"
        try:
            data = store.read(NAME)
        except FileNotFoundError as error:
            raise DataError(
                f"{place}: must be there, got no file; run encode to its end, or make one for "
                "tars from elsewhere with `curate index`"
            ) from error
        return cls.from_json(data, place)


def _check_names(manifest: LatentManifest) -> None:
    """Refuse names that lead out of the folder: a manifest may come from elsewhere.

    Raises:
        ValueError: with the name.
    """
    columns = [one.folder for one in manifest.texts] + [one.name for one in manifest.features]
    files = [name for entry in manifest.shards for name in entry.files]
    for name in (*columns, *(entry.name for entry in manifest.shards), *files):
        if {"", ".", ".."} & set(name.split("/")):
            raise ValueError(f"the name {name!r}")
