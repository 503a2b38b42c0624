"""Write bucketed shards and encode them, for the tests beside."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from curate.core.commit import Output, commit
from curate.core.engine import StageReport, run_stage
from curate.core.engine_config import EngineConfig
from curate.core.executor import InlineExecutor
from curate.core.image import encode_image
from curate.core.manifest import Identity
from curate.core.schema import OK, make_key, shard_name
from curate.core.seed import make_rng
from curate.core.shard import ShardSet, ShardWriter
from curate.core.store import LocalStore
from curate.models.packs import ModelRef
from curate.stages.encode import EncodeStage
from curate.stages.encoding.config import EncodeConfig, used_models
from tests.silent import Silent

FIELDS = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        ("bucket", pa.string()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("home_shard", pa.string()),
        ("home_row", pa.int32()),
        ("captions.source", pa.list_(pa.string())),
        ("captions.text", pa.list_(pa.string())),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One bucketed picture.

    Args:
        name: what its key is made from.
        captions: source -> text.
        home: (shard, row) when its captions lie with another resolution's.
        data: the picture's file; drawn from the name when absent.
    """

    name: str
    captions: Mapping[str, str]
    home: tuple[str, int] | None = None
    data: bytes = b""

    @property
    def key(self) -> str:
        return make_key(self.name)


def draw(name: str, height: int, width: int) -> np.ndarray:
    """Draw a picture from its name: uint8 [H, W, 3]."""
    return make_rng(0, name).integers(0, 256, (height, width, 3), np.uint8)


def write_bucketed(
    folder: Path, shards: Sequence[tuple[str, Sequence[Sample]]], ext: str = "png"
) -> ShardSet:
    """Write finished shards, each a bucket "HEIGHTxWIDTH" and its samples."""
    for number, (bucket, samples) in enumerate(shards):
        name = shard_name(number)
        height, width = (int(side) for side in bucket.split("x"))
        work = folder / ".work"
        work.mkdir(parents=True)
        with ShardWriter(work, name, FIELDS, with_tar=True) as writer:
            for row_number, sample in enumerate(samples):
                home = sample.home or (name, row_number)
                row = {
                    "key": sample.key, "status": OK, "bucket": bucket, "height": height,
                    "width": width, "home_shard": home[0], "home_row": home[1],
                    "captions.source": list(sample.captions),
                    "captions.text": list(sample.captions.values()),
                }  # fmt: skip
                drawn = Image.fromarray(draw(sample.name, height, width))
                data = sample.data or encode_image(drawn, "png")
                writer.write(row, {ext: data, "json": json.dumps({"key": sample.key}).encode()})
        identity = Identity(
            stage="bucket", version=1, seed=0, config={}, models={}, inputs={}, params={"n": name}
        )
        count = sum(sample.home is None for sample in samples)
        commit(work, Output(store=LocalStore(folder)), name, identity, {"in": count, "kept": count})
        work.rmdir()
    return ShardSet(folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """What a run of encode left, and its report."""

    folder: Path
    report: StageReport

    @property
    def store(self) -> ShardSet:
        return ShardSet(self.folder)


def encode(
    folder: Path,
    bucketed: ShardSet,
    models: Mapping[str, ModelRef],
    config: EncodeConfig | None = None,
    **options: Any,
) -> Encoded:
    """Run encode to its end, through the engine."""
    config = config or EncodeConfig()
    folder.mkdir(exist_ok=True)
    stage = EncodeStage(
        config, {"bucket": bucketed}, used_models(config, models), 0, own=ShardSet(folder)
    )
    executor = InlineExecutor(EngineConfig(name="inline", retry_pause_s=0, **options))
    report = run_stage(stage, Output(store=LocalStore(folder)), executor, Silent())
    return Encoded(folder=folder, report=report)
