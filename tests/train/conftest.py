"""Tiny encoded shards: 8x8 or 8x16 pictures' worth of latents, two captions each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate.core.commit import Output, commit
from curate.core.manifest import Identity
from curate.core.shard import ShardSet, ShardWriter, npy_bytes
from curate.core.store import LocalStore

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
FIELDS = [
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
    ("captions.pooled", pa.list_(pa.list_(pa.float16()))),
]


def make_sample(number: int, height: int, width: int, space: Mapping[str, Any]) -> dict[str, Any]:
    """Make a sample whose numbers are a function of its own."""
    rng = np.random.Generator(np.random.Philox(key=number))
    channels = space["latent_channels"]
    mean = rng.standard_normal((channels, height // 8, width // 8))
    moments = np.concatenate([mean, np.full_like(mean, -6.0)]).astype(np.float16)
    captions = {
        source: rng.standard_normal((length, space["text_dim"])).astype(np.float16)
        for source, length in (("alt", 1 + number % 3), ("detailed", 4 + number % 3))
    }
    pooled = {s: rng.standard_normal(space["pooled_dim"]).astype(np.float16) for s in captions}
    key = hashlib.sha256(str(number).encode()).hexdigest()[:20]
    return {
        "key": key,
        "height": height,
        "width": width,
        "moments": moments,
        "captions": captions,
        "pooled": pooled,
    }


def write_encoded(
    folder: Path, name: str, samples: list[dict[str, Any]], space: Mapping[str, Any]
) -> None:
    """Write one finished shard in the format of encode, with one failed row at its end."""
    schema = pa.schema(FIELDS, metadata={b"latentmill": json.dumps(space).encode()})
    out = folder / f".work-{name}"
    out.mkdir(parents=True)
    with ShardWriter(out, name, schema, with_tar=True) as writer:
        for sample in sorted(samples, key=lambda s: s["key"]):
            sources = list(sample["captions"])
            members = {"moments.npy": npy_bytes(sample["moments"])}
            members |= {f"{s}.npy": npy_bytes(a) for s, a in sample["captions"].items()}
            row = {name: sample[name] for name in ("key", "height", "width")} | {"status": "ok"}
            places = writer.write(row, members)  # the row is read at close, so offsets still fit in
            row["moments.offset"], row["moments.bytes"] = places["moments.npy"]
            row["captions.source"] = sources
            row["captions.offset"] = [places[f"{s}.npy"][0] for s in sources]
            row["captions.bytes"] = [places[f"{s}.npy"][1] for s in sources]
            row["captions.pooled"] = [list(sample["pooled"][s]) for s in sources]
        writer.write({"key": hashlib.sha256(name.encode()).hexdigest()[:20], "status": "not_image"})
    identity = Identity(
        stage="encode", version=1, seed=0, config={}, models={}, inputs={}, params={"shard": name}
    )
    commit(out, Output(store=LocalStore(folder)), name, identity, {})
    out.rmdir()


MakeEncoded = Callable[..., ShardSet]


@pytest.fixture
def make_encoded(tmp_path: Path) -> MakeEncoded:
    """Give a function that writes shards: bucket name -> number of samples."""

    def make(sizes: Mapping[str, int], folder: str = "encode", **changes: Any) -> ShardSet:
        space = SPACE | changes
        number = 0
        for shard, (bucket, count) in enumerate(sizes.items()):
            height, width = map(int, bucket.split("x"))
            samples = [make_sample(number + i, height, width, space) for i in range(count)]
            number += count
            write_encoded(tmp_path / folder, f"{shard:05d}", samples, space)
        return ShardSet(tmp_path / folder)

    return make
