"""Encode every bucketed sample once: the latent store that training reads.

    wave 1: `_null`   the empty caption by every text encoder; int8 is measured on some captions
    wave 2: NNNNN     pictures -> VAE -> NNNNN.tar + .idx; captions -> text-NAME/NNNNN.tar + .idx
    wave 3: `_set`    manifest.json: what a loader may open

Nothing is scaled here: the whitening (per-channel mean and standard deviation) stands in the
manifest and is applied when training loads the latents.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

import pyarrow as pa

from curate.core.latent_manifest import NAME, NULL_SHARD, LatentFacts, TextForm
from curate.core.manifest import Task
from curate.core.schema import OK
from curate.core.stage import MapStage, Place
from curate.stages.encoding.captions import Tower, check_int8, write_captions, write_null
from curate.stages.encoding.config import CLIP, EncodeConfig, feature_role, text_roles
from curate.stages.encoding.latents import LatentMaker, check_size, decode_batches
from curate.stages.encoding.picture_columns import SIZES, FeatureMaker, write_latents
from curate.stages.encoding.store_manifest import make_manifest, null_facts

if TYPE_CHECKING:
    from curate.models.vae import Vae

SET = "_set"
NUM_CHECKED = 256  # captions that int8 is measured on; chosen by us: 15,000 tokens of prose

_FIELDS = [
    pa.field("key", pa.string(), nullable=False),
    pa.field("status", pa.string(), nullable=False),
    *((name, pa.int32()) for name in SIZES),
    ("home_shard", pa.string()),
    ("home_row", pa.int32()),
    ("captions.source", pa.list_(pa.string())),
    ("captions.text", pa.list_(pa.string())),
    ("captions.attempt", pa.list_(pa.string())),
]


_FIELD_NAMES = pa.schema(_FIELDS).names


class EncodeStage(MapStage[EncodeConfig]):
    """Write latents and text embeddings of every bucketed shard, and the manifest of all."""

    name: ClassVar[str] = "encode"
    version: ClassVar[int] = 3
    takes: ClassVar[tuple[str, str] | None] = ("bucket", "kept")
    _vae: Vae
    _maker: LatentMaker
    _towers: list[Tower]
    _features: list[FeatureMaker]

    def waves(self) -> Iterator[Sequence[Task]]:
        (shards,) = super().waves()
        names = [task.shard for task in shards]
        yield [Task(shard=NULL_SHARD, inputs=self._checked_inputs(names))]
        yield shards
        yield [self._set_task(names)]

    def setup(self) -> None:
        from curate.models.device import find_device
        from curate.models.text_encoder import load_text_encoder
        from curate.models.vae import load_vae

        config = self.config
        device = find_device("encode", config.device)
        self._vae = load_vae(self.models["vae"], device, config.tile_px)
        self._maker = LatentMaker(
            vae=self._vae, seed=self.seed, is_sampled=config.sample, has_flipped=config.flip
        )
        self._towers = [
            Tower(
                name=name,
                encoder=load_text_encoder(self.models[role], device),
                digest=self.models[role].digest,
                form=cast("TextForm", config.text_form.get(name, "float16")),
            )
            for name, role in text_roles(self.models).items()
        ]
        self._features = [self._load_features(name, device) for name in config.features]

    def run(self, task: Task, place: Place) -> Counter[str]:
        if task.shard == NULL_SHARD:
            for tower in self._towers:
                write_null(place.out, tower, check_int8(tower, self._checked_captions()))
            return Counter()
        if task.shard == SET:
            return self._write_set(place)
        return self._write_shard(task.shard, place)

    def _checked_inputs(self, shards: Sequence[str]) -> dict[str, str]:
        """Give what the first task reads: captions, where int8 is to be measured."""
        if "int8" not in self.config.text_form.values():
            return {}
        return self.inputs["bucket"].digests(shards[0], ".parquet") if shards else {}

    def _checked_captions(self) -> list[str]:
        if "int8" not in self.config.text_form.values():
            return []
        bucket = self.inputs["bucket"]
        rows = bucket.table(bucket.shards()[0], ["captions.text"])["captions.text"].to_pylist()
        return [text for row in rows for text in row][:NUM_CHECKED]

    def _set_task(self, shards: list[str]) -> Task:
        """Sum the digests of all shards up: a hundred thousand of them are no list for a marker."""
        done = self.own.all_digests()
        digest = hashlib.sha256(json.dumps([done.get(s) for s in shards]).encode()).hexdigest()
        inputs = {"all shards": digest, **self.own.digests(NULL_SHARD)}
        return Task(shard=SET, inputs=inputs, params={"shards": len(shards)})

    def _write_set(self, place: Place) -> Counter[str]:
        manifest = make_manifest(
            self.own,
            self.inputs["bucket"].shards(),
            self._latent_facts(),
            [null_facts(self.own, tower.facts()) for tower in self._towers],
            [one.facts for one in self._features],
        )
        (place.out / NAME).write_text(manifest.to_json(), encoding="utf-8")
        return Counter()

    def _write_shard(self, shard: str, place: Place) -> Counter[str]:
        bucketed = self.inputs["bucket"].table(shard).to_pylist()
        rows = [_encoded_row(row, shard) for row in bucketed]
        size = rows[0]["height"], rows[0]["width"]
        check_size(*size, self._vae.downsample)
        num_home = sum(row["home_shard"] == shard for row in rows)
        counts = Counter({"in": num_home, "kept": num_home, "copies": len(rows) - num_home})
        if num_home:
            counts.update(f"captions.{name}" for row in rows for name in row["captions.source"])
            for tower in self._towers:
                counts += write_captions(
                    place.out, shard, rows, tower, is_shared=self.config.share_captions
                )
        write_latents(
            place.out,
            shard,
            {row["key"]: row for row in rows},
            decode_batches(self.inputs["bucket"].members(shard), self.config.batch_size, size),
            self._maker,
            self._features,
            facts={"bucket": f"{size[0]}x{size[1]}", "vae": self.models["vae"].digest},
            schema=self._schema(),
            has_homes=not num_home,
        )
        return +counts

    def _load_features(self, name: str, device: str) -> FeatureMaker:
        from curate.models.picture_features import load_patch_features, load_pooled_features

        ref = self.models[feature_role(name)]
        features = (
            load_pooled_features(ref, device)
            if name == CLIP
            else load_patch_features(ref, device, 2 * self._vae.downsample)
        )  # backbones of the SD3 kind make a token of 2 x 2 latent pixels
        return FeatureMaker(name=name, digest=ref.digest, features=features)

    def _latent_facts(self) -> LatentFacts:
        vae = self._vae
        return LatentFacts(
            member=self._maker.member,
            vae=self.models["vae"].digest,
            channels=vae.latent_channels,
            mean=tuple(float(value) for value in vae.latent_mean),
            std=tuple(float(value) for value in vae.latent_std),
            downsample=vae.downsample,
            has_flipped=self.config.flip,
        )

    def _schema(self) -> pa.Schema:
        lengths = [
            pa.field(f"captions.{what}.{tower.name}", pa.list_(pa.int32()))
            for tower in self._towers
            for what in ("tokens", "truncated")
        ]
        return pa.schema([*_FIELDS, *lengths])


def _encoded_row(row: Mapping[str, Any], shard: str) -> dict[str, Any]:
    home = row.get("home_shard") or shard  # a table without homes is of one resolution
    return {name: row.get(name) for name in _FIELD_NAMES} | {"status": OK, "home_shard": home}
