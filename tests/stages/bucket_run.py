"""Make small shard sets for the bucket stage by hand, and run it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from curate.core.commit import Output, commit
from curate.core.engine import StageReport, run_stage
from curate.core.executor import InlineExecutor
from curate.core.image import encode_image
from curate.core.manifest import Identity
from curate.core.schema import INGEST_SCHEMA, OK, VERDICT_FIELDS, VERDICTS, make_key
from curate.core.shard import ShardSet, ShardWriter
from curate.core.store import LocalStore
from curate.stages.bucket import BucketStage
from curate.stages.bucketing.config import BucketConfig
from tests.silent import Silent

VERDICT_SCHEMA = pa.schema([*VERDICT_FIELDS, ("alternates", pa.list_(pa.string()))])
JUDGE_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        ("reasons", pa.list_(pa.string())),
        ("attempt", pa.string()),
        ("source", pa.string()),
        ("text", pa.string()),
    ]
)

TEXTS = {
    "arabic": "\u0642\u0637\u0629 \u0639\u0644\u0649",
    "chinese": "\u6c99\u53d1\u4e0a\u7684\u732b",
    "emoji": "a cat \U0001f408\u200d\u2b1b sits",
    "quotes": 'a "cat"\\ on\na\tsofa',
    "separators": "one\u2028two\x00three",
    "combining": "cafe\u0301",
    "empty": "",
    "long": "x " * 50_000,
}
"""Captions as they come: any script, empty, and of 100,000 characters."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Say what a sample of the hand-made sets is.

    Args:
        name: its key is made of it.
        size: height and width, pixels.
        alt: the caption it came with.
        kept: by the last verdicts.
        judged: (source, text, status) of its attempts.
        alternates: captions of its duplicates, as dedup keeps them.
    """

    name: str
    size: tuple[int, int]
    alt: str | None = "an alt text"
    kept: bool = True
    judged: Sequence[tuple[str, str, str]] = ()
    alternates: Sequence[str] = ()

    @property
    def key(self) -> str:
        """Give its key."""
        return make_key(self.name)


def draw_picture(sample: Sample) -> Image.Image:
    """Draw smooth colours that differ from sample to sample."""
    height, width = sample.size
    phase = int(sample.key[:4], 16) / 65536
    y, x = np.mgrid[0:height, 0:width] / 40
    waves = [np.sin(x + 6 * phase), np.cos(y * (1 + phase)), np.sin(x * y / 9 + phase)]
    return Image.fromarray((127 + 120 * np.stack(waves, axis=2)).astype(np.uint8))


def make_inputs(
    folder: Path, shards: Sequence[Sequence[Sample]], *, with_judge: bool = True
) -> dict[str, ShardSet]:
    """Write ingest, verdicts and judge for shards of samples."""
    for number, samples in enumerate(shards):
        name = f"{number:05d}"
        _write_ingest(folder / "ingest", name, samples)
        verdicts = [
            {"key": one.key, "status": OK, "keep": one.kept, "reason": "" if one.kept else "x",
             "alternates": list(one.alternates)}
            for one in samples
        ]  # fmt: skip
        _write_table(folder / "dedup", name, VERDICT_SCHEMA, verdicts)
        attempts = [
            {"key": one.key, "status": status, "attempt": make_key(one.name, str(n)),
             "source": source, "text": text}
            for one in samples
            for n, (source, text, status) in enumerate(one.judged)
        ]  # fmt: skip
        _write_table(folder / "judge", name, JUDGE_SCHEMA, attempts)
    inputs = {VERDICTS: ShardSet(folder / "dedup"), "ingest": ShardSet(folder / "ingest")}
    return inputs | ({"judge": ShardSet(folder / "judge")} if with_judge else {})


def run_bucket(
    inputs: Mapping[str, ShardSet], folder: Path, executor: Any = None, **config: Any
) -> tuple[ShardSet, StageReport]:
    """Run the stage and give its shards."""
    own = ShardSet(folder)
    stage = BucketStage(BucketConfig(**config), inputs, {}, 0, own=own)
    output = Output(store=LocalStore(folder))
    return own, run_stage(stage, output, executor or InlineExecutor(), Silent())


def make_bucket_run(out: Path) -> Path:
    """Run bucket at two resolutions on eight pictures, in a folder as `curate run` leaves it."""
    sizes = [(64, 64), (70, 64), (64, 100), (90, 130), (32, 32), (64, 640), (140, 150), (48, 70)]
    inputs = make_inputs(out, [[Sample(name=f"s{n}", size=size) for n, size in enumerate(sizes)]])
    run_bucket(inputs, out / "bucket", resolutions=[64, 128], max_upscale=1.4, shard_size=2)
    stages = ["ingest", "dedup", "bucket"]
    (out / "run.json").write_text(json.dumps({"pipeline": "base", "stages": stages}))
    return out


def read_rows(bucketed: ShardSet) -> list[dict[str, Any]]:
    """Give the rows of all shards, each with its shard and its place there."""
    return [
        {"shard": shard, "row": number, **row}
        for shard, table in bucketed.tables()
        for number, row in enumerate(table.to_pylist())
    ]


def read_jsons(bucketed: ShardSet) -> dict[str, dict[str, Any]]:
    """Give the JSON of every sample by key; of several the last."""
    return {
        key: json.loads(members["json"])
        for shard in bucketed.shards()
        for key, members in bucketed.members(shard)
    }


def _write_ingest(folder: Path, shard: str, samples: Sequence[Sample]) -> None:
    work = folder / ".work"
    work.mkdir(parents=True)
    with ShardWriter(work, shard, INGEST_SCHEMA, with_tar=True) as writer:
        for one in samples:
            data = encode_image(draw_picture(one), "png")
            row: dict[str, Any] = {
                "key": one.key, "status": OK, "caption": one.alt, "bytes": len(data),
                "height": one.size[0], "width": one.size[1],
            }  # fmt: skip
            row["offset"] = writer.write(row, {"png": data})["png"][0]
    _commit(work, folder, shard, len(samples))


def _write_table(
    folder: Path, shard: str, schema: pa.Schema, rows: Sequence[Mapping[str, Any]]
) -> None:
    work = folder / ".work"
    work.mkdir(parents=True)
    with ShardWriter(work, shard, schema, with_tar=False, unique_keys=False) as writer:
        for row in rows:
            writer.write(row)
    _commit(work, folder, shard, sum(row.get("keep", False) for row in rows))


def _commit(work: Path, folder: Path, shard: str, num_kept: int) -> None:
    identity = Identity(
        stage=folder.name, version=1, seed=0, config={}, models={}, inputs={}, params={}
    )
    commit(work, Output(store=LocalStore(folder)), shard, identity, {"kept": num_kept})
    work.rmdir()
