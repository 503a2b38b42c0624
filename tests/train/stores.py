"""Tiny latent stores: pictures' worth of latents, two captions each, one shard a bucket."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from curate.core.latent_column import ArrayColumn, CaptionColumn, CaptionRecord
from curate.core.latent_manifest import (
    NAME,
    NULL_SHARD,
    FeatureFacts,
    LatentFacts,
    LatentManifest,
    ShardEntry,
    TextFacts,
)

CHANNELS, TEXT_DIM, POOLED_DIM, MAX_TOKENS = 4, 6, 5, 7
SPACE: dict[str, Any] = {
    "vae": "vae-digest",
    "latent_channels": CHANNELS,
    "latent_mean": [0.5] * CHANNELS,
    "latent_std": [2.0] * CHANNELS,
    "downsample": 8,
    "text_encoder": "text-digest",
    "text_dim": TEXT_DIM,
    "pooled_dim": POOLED_DIM,
    "max_tokens": MAX_TOKENS,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOptions:
    """Say what a tiny store has.

    Args:
        member: "moments" or "latents".
        form: of the tokens.
        towers: names of text columns.
        has_flipped: mirrored records.
        features: names of feature columns.
        sources: caption sources of the n-th sample.
        seed: another one gives other samples.
    """

    member: Any = "moments"
    form: Any = "float16"
    towers: tuple[str, ...] = ("main",)
    has_flipped: bool = False
    features: tuple[str, ...] = ()
    sources: Callable[[int], tuple[str, ...]] = lambda number: ("alt", "detailed")
    seed: int = 0


def make_key(number: int, seed: int = 0) -> str:
    return hashlib.sha256(f"{seed} {number}".encode()).hexdigest()[:20]


def make_arrays(
    number: int, height: int, width: int, space: Mapping[str, Any], options: StoreOptions
) -> dict[str, Any]:
    """Make a sample's latents, a function of its number."""
    rng = np.random.Generator(np.random.Philox(key=number + 1000 * options.seed))
    mean = rng.standard_normal((space["latent_channels"], height // 8, width // 8))
    std = np.full_like(mean, 0.05)
    stored = mean if options.member == "latents" else np.concatenate([mean, std])
    arrays = {options.member: stored.astype(np.float16)}
    if options.has_flipped:
        arrays["flipped"] = np.ascontiguousarray(stored[:, :, ::-1]).astype(np.float16)
    return arrays


def make_captions(
    number: int, tower: str, space: Mapping[str, Any], options: StoreOptions
) -> list[CaptionRecord]:
    """Make a sample's captions by one text encoder."""
    records: list[CaptionRecord] = []
    for source in options.sources(number):
        rng = np.random.default_rng([number, options.seed, *tower.encode(), *source.encode()])
        length = (1 if source == "alt" else 4) + number % 3
        tokens = rng.standard_normal((length, space["text_dim"])).astype(np.float16)
        if options.form == "ids":
            tokens = rng.integers(1, 30_000, length).astype(np.int32)
        if options.form == "int8":
            from curate.core.int8_tokens import pack_int8

            tokens = pack_int8(tokens)
        pooled = rng.standard_normal(space["pooled_dim"]).astype(np.float16)
        records.append(
            CaptionRecord(
                source=source,
                text=f"{source} of {number}",
                tokens=tokens,
                pooled=pooled,
                num_truncated=0,
            )
        )
    return records


def write_shard(
    folder: Path,
    name: str,
    numbers: range,
    size: tuple[int, int],
    space: Mapping[str, Any],
    options: StoreOptions,
) -> ShardEntry:
    """Write one shard, all its columns."""
    bucket = f"{size[0]}x{size[1]}"
    latents = ArrayColumn(folder, name, {"bucket": bucket, "vae": space["vae"]})
    texts = {t: CaptionColumn(folder / f"text-{t}", name, {}) for t in options.towers}
    features = {f: ArrayColumn(folder / f, name, {}) for f in options.features}
    for number in sorted(numbers, key=lambda n: make_key(n, options.seed)):
        key = make_key(number, options.seed)
        latents.add(key, make_arrays(number, *size, space, options))
        for tower, text in texts.items():
            text.add(key, make_captions(number, tower, space, options))
        for feature, column in features.items():
            column.add(key, {feature: np.full((2, 3), number, np.float32)})
    for column in (latents, *texts.values(), *features.values()):
        column.close()
    paths = sorted(path for path in folder.rglob(f"{name}.*") if path.is_file())
    files = {str(path.relative_to(folder)): path.stat().st_size for path in paths}
    return ShardEntry(name=name, bucket=bucket, num_samples=len(numbers), files=files)


def write_manifest(
    folder: Path, shards: list[ShardEntry], space: Mapping[str, Any], options: StoreOptions
) -> None:
    manifest = LatentManifest(
        latents=LatentFacts(
            member=options.member,
            vae=space["vae"],
            channels=space["latent_channels"],
            mean=tuple(space["latent_mean"]),
            std=tuple(space["latent_std"]),
            downsample=space["downsample"],
            has_flipped=options.has_flipped,
        ),
        texts=tuple(
            TextFacts(
                name=tower,
                encoder=space["text_encoder"],
                dim=space["text_dim"],
                pooled_dim=space["pooled_dim"],
                max_tokens=space["max_tokens"],
                form=options.form,
            )
            for tower in options.towers
        ),
        features=tuple(FeatureFacts(name=name, model="digest") for name in options.features),
        shards=tuple(shards),
    )
    (folder / NAME).write_text(manifest.to_json())


def write_null(folder: Path, space: Mapping[str, Any], options: StoreOptions) -> None:
    for tower in options.towers:
        (caption, *_) = make_captions(
            999, tower, space, StoreOptions(form=options.form, sources=lambda number: ("null",))
        )
        column = CaptionColumn(folder / f"text-{tower}", NULL_SHARD, {})
        column.add("0" * 20, [caption])
        column.close()
