"""Encode every bucketed sample once: raw VAE moments and the text embedding of each caption.

    bucket tar -> VAE encoder -> moments [2C, h, w] fp16 (mean, then logvar; not scaled)
    captions   -> text encoder -> [T, D] fp16, real tokens only, equal captions once per shard

The whitening (per-channel mean and standard deviation) is stored in the table's metadata and is
applied when training loads the latents.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa

from curate.core.batches import batched
from curate.core.errors import ConfigError
from curate.core.image import decode_image, to_array
from curate.core.manifest import Task
from curate.core.schema import OK
from curate.core.shard import ShardWriter, npy_bytes
from curate.core.stage import MapStage, Place

if TYPE_CHECKING:
    from curate.models.text_embedding import TextEmbedding, TextEncoder
    from curate.models.vae import Vae

METADATA = b"latentmill"

ENCODE_FIELDS = [
    pa.field("key", pa.string(), nullable=False),
    pa.field("status", pa.string(), nullable=False),
    ("height", pa.int32()),
    ("width", pa.int32()),
    ("moments.offset", pa.int64()),
    ("moments.bytes", pa.int64()),
    ("captions.source", pa.list_(pa.string())),
    ("captions.text", pa.list_(pa.string())),
    ("captions.offset", pa.list_(pa.int64())),
    ("captions.bytes", pa.list_(pa.int64())),
    ("captions.tokens", pa.list_(pa.int32())),
    ("captions.truncated", pa.list_(pa.int32())),
    ("captions.pooled", pa.list_(pa.list_(pa.float16()))),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeConfig:
    """Set how many pictures are encoded together."""

    batch_size: int = 32

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError(f"encode.batch_size: must be >= 1, got {self.batch_size}; raise it")


class EncodeStage(MapStage[EncodeConfig]):
    """Write moments and text embeddings of every bucketed shard."""

    name: ClassVar[str] = "encode"
    version: ClassVar[int] = 2
    takes: ClassVar[tuple[str, str] | None] = ("bucket", "kept")
    vae: Vae
    text_encoder: TextEncoder

    def setup(self) -> None:
        from curate.models.text_encoder import load_text_encoder
        from curate.models.vae import load_vae

        self.vae = load_vae(self.models["vae"])
        self.text_encoder = load_text_encoder(self.models["text_encoder"])

    def run(self, task: Task, place: Place) -> Counter[str]:
        rows = {row["key"]: row for row in self.inputs["bucket"].table(task.shard).to_pylist()}
        embeddings = self._embed_captions(list(rows.values()))
        schema = pa.schema(ENCODE_FIELDS, metadata={METADATA: json.dumps(self._meta()).encode()})
        with ShardWriter(place.out, task.shard, schema, with_tar=True) as writer:
            for batch in batched(self.inputs["bucket"].members(task.shard), self.config.batch_size):
                for (key, _), moments in zip(batch, self._encode(batch), strict=True):
                    self._write(writer, rows[key], moments, embeddings)
        return Counter({"in": len(rows), "kept": len(rows)})

    def _embed_captions(self, rows: Sequence[dict[str, Any]]) -> dict[str, TextEmbedding]:
        """Encode each distinct caption of the shard once."""
        texts = sorted({text for row in rows for text in row["captions.text"]})
        embeddings: dict[str, TextEmbedding] = {}
        for batch in batched(texts, 4 * self.config.batch_size):
            embeddings |= dict(zip(batch, self.text_encoder.encode(batch), strict=True))
        return embeddings

    def _encode(self, batch: Sequence[tuple[str, dict[str, bytes]]]) -> np.ndarray:
        """Encode one bucket's pictures: [B, 2C, h, w] float32."""
        images = [decode_image(members.get("png") or members["webp"]) for _, members in batch]
        return self.vae.encode(np.stack([to_array(image) for image in images]))

    def _write(
        self,
        writer: ShardWriter,
        bucketed: dict[str, Any],
        moments: np.ndarray,
        embeddings: dict[str, TextEmbedding],
    ) -> None:
        texts = dict(zip(bucketed["captions.source"], bucketed["captions.text"], strict=True))
        chosen = {source: embeddings[text] for source, text in texts.items()}
        members = {"moments.npy": npy_bytes(moments.astype(np.float16))}
        members |= {f"{s}.npy": npy_bytes(e.tokens.astype(np.float16)) for s, e in chosen.items()}
        members["json"] = json.dumps(
            {"captions": texts, "height": bucketed["height"], "width": bucketed["width"]},
            ensure_ascii=False,
            sort_keys=True,
        ).encode()
        row: dict[str, Any] = {
            "key": bucketed["key"],
            "status": OK,
            "height": bucketed["height"],
            "width": bucketed["width"],
            "captions.source": list(texts),
            "captions.text": list(texts.values()),
            "captions.tokens": [len(e.tokens) for e in chosen.values()],
            "captions.truncated": [e.num_truncated for e in chosen.values()],
            "captions.pooled": [list(e.pooled.astype(np.float16)) for e in chosen.values()],
        }
        positions = writer.write(row, members)
        row["moments.offset"], row["moments.bytes"] = positions["moments.npy"]
        row["captions.offset"] = [positions[f"{source}.npy"][0] for source in texts]
        row["captions.bytes"] = [positions[f"{source}.npy"][1] for source in texts]

    def _meta(self) -> dict[str, Any]:
        return {
            "vae": self.models["vae"].digest,
            "latent_channels": self.vae.latent_channels,
            "latent_mean": [float(value) for value in self.vae.latent_mean],
            "latent_std": [float(value) for value in self.vae.latent_std],
            "downsample": self.vae.downsample,
            "text_encoder": self.models["text_encoder"].digest,
            "text_dim": self.text_encoder.dim,
            "pooled_dim": self.text_encoder.pooled_dim,
            "max_tokens": self.text_encoder.max_tokens,
        }
