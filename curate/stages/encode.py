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

from curate.core.latent_column import ArrayRows
from curate.core.latent_manifest import NAME, NULL_SHARD, LatentFacts, TextForm
from curate.core.manifest import Task
from curate.core.record_index import SUFFIX
from curate.core.schema import OK
from curate.core.shard import ShardWriter, npy_bytes
from curate.core.stage import MapStage, Place
from curate.stages.encoding.captions import Tower, write_captions, write_null
from curate.stages.encoding.config import EncodeConfig, text_roles
from curate.stages.encoding.latents import LatentMaker, check_size, decode_batches
from curate.stages.encoding.store_manifest import make_manifest, null_facts

if TYPE_CHECKING:
    from curate.models.vae import Vae

SET = "_set"

_FIELDS = [
    pa.field("key", pa.string(), nullable=False),
    pa.field("status", pa.string(), nullable=False),
    ("height", pa.int32()),
    ("width", pa.int32()),
    ("home_shard", pa.string()),
    ("home_row", pa.int32()),
    ("captions.source", pa.list_(pa.string())),
    ("captions.text", pa.list_(pa.string())),
]


class EncodeStage(MapStage[EncodeConfig]):
    """Write latents and text embeddings of every bucketed shard, and the manifest of all."""

    name: ClassVar[str] = "encode"
    version: ClassVar[int] = 3
    takes: ClassVar[tuple[str, str] | None] = ("bucket", "kept")
    _vae: Vae
    _towers: list[Tower]

    def waves(self) -> Iterator[Sequence[Task]]:
        yield [Task(shard=NULL_SHARD, inputs={})]
        (shards,) = super().waves()
        yield shards
        yield [self._set_task([task.shard for task in shards])]

    def setup(self) -> None:
        from curate.models.text_encoder import load_text_encoder
        from curate.models.vae import load_vae

        self._vae = load_vae(self.models["vae"])
        self._towers = [
            Tower(
                name=name,
                encoder=load_text_encoder(self.models[role]),
                digest=self.models[role].digest,
                form=cast("TextForm", self.config.text_form.get(name, "float16")),
            )
            for name, role in text_roles(self.models).items()
        ]

    def run(self, task: Task, place: Place) -> Counter[str]:
        if task.shard == NULL_SHARD:
            for tower in self._towers:
                write_null(place.out, tower)
            return Counter()
        if task.shard == SET:
            return self._write_set(task, place)
        return self._write_shard(task.shard, place)

    def _set_task(self, shards: list[str]) -> Task:
        """Sum the digests of all shards up: a hundred thousand of them are no list for a marker."""
        done = self.own.all_digests()
        digest = hashlib.sha256(json.dumps([done.get(s) for s in shards]).encode()).hexdigest()
        inputs = {"all shards": digest, **self.own.digests(NULL_SHARD)}
        return Task(shard=SET, inputs=inputs, params={"shards": len(shards)})

    def _write_set(self, task: Task, place: Place) -> Counter[str]:
        manifest = make_manifest(
            self.own,
            self.inputs["bucket"].shards(),
            self._latent_facts(),
            [null_facts(self.own, tower.facts()) for tower in self._towers],
            [],
        )
        (place.out / NAME).write_text(manifest.to_json(), encoding="utf-8")
        return Counter()

    def _write_shard(self, shard: str, place: Place) -> Counter[str]:
        rows = [_encoded_row(row, shard) for row in self._bucketed(shard)]
        size = rows[0]["height"], rows[0]["width"]
        check_size(*size, self._vae.downsample)
        counts = Counter({"in": len(rows), "kept": len(rows)})
        if any(row["home_shard"] == shard for row in rows):
            for tower in self._towers:
                is_shared = self.config.share_captions
                counts += write_captions(place.out, shard, rows, tower, is_shared=is_shared)
            homes = None
        else:
            homes = {row["key"]: _home(row) for row in rows}
        self._write_latents(shard, {row["key"]: row for row in rows}, size, homes, place)
        return counts

    def _bucketed(self, shard: str) -> list[dict[str, Any]]:
        return self.inputs["bucket"].table(shard).to_pylist()

    def _write_latents(
        self,
        shard: str,
        rows: Mapping[str, dict[str, Any]],
        size: tuple[int, int],
        homes: Mapping[str, Mapping[str, int]] | None,
        place: Place,
    ) -> None:
        maker = self._maker()
        index = ArrayRows({"bucket": f"{size[0]}x{size[1]}", "vae": self.models["vae"].digest})
        members = self.inputs["bucket"].members(shard)
        with ShardWriter(place.out, shard, self._schema(), with_tar=True) as writer:
            for batch in decode_batches(members, self.config.batch_size, size):
                for key, arrays in zip(batch.keys, maker.make(batch), strict=True):
                    files = {f"{name}.npy": npy_bytes(array) for name, array in arrays.items()}
                    found = writer.write(rows[key], {**files, "json": _describe(rows[key])})
                    ends = {name: sum(found[f"{name}.npy"]) for name in arrays}
                    index.add(key, arrays, ends, homes[key] if homes else None)
        index.write(place.out / f"{shard}{SUFFIX}", writer.tar_digest)

    def _maker(self) -> LatentMaker:
        return LatentMaker(
            vae=self._vae,
            seed=self.seed,
            is_sampled=self.config.sample,
            has_flipped=self.config.flip,
        )

    def _latent_facts(self) -> LatentFacts:
        vae = self._vae
        return LatentFacts(
            member="latents" if self._maker().member == "latents" else "moments",
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
    names = ("key", "height", "width", "home_row", "captions.source", "captions.text")
    home = row.get("home_shard") or shard  # a table without homes is of one resolution
    return {name: row.get(name) for name in names} | {"status": OK, "home_shard": home}


def _home(row: Mapping[str, Any]) -> dict[str, int]:
    """Say where a record's captions lie, for the index."""
    return {"home_shard": int(row["home_shard"]), "home_row": row["home_row"]}


def _describe(row: Mapping[str, Any]) -> bytes:
    captions = dict(zip(row["captions.source"], row["captions.text"], strict=True))
    said = {"captions": captions, "height": row["height"], "width": row["width"]}
    return json.dumps(said, ensure_ascii=False, sort_keys=True).encode()
