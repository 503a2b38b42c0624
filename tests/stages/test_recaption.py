"""Recaption writes a row for every attempt, and one for every caption of a dropped duplicate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from curate.captioners.captioner import CaptionAttempt
from curate.captioners.template import caption_from_metadata
from curate.core.commit import Output, commit
from curate.core.image import encode_image
from curate.core.manifest import Identity, Task
from curate.core.schema import INGEST_SCHEMA, OK, VERDICT_FIELDS, VERDICTS, make_key
from curate.core.shard import ShardSet, ShardWriter
from curate.core.stage import Place
from curate.core.store import LocalStore
from curate.stages.duplicates.clusters import CLUSTER_FIELDS
from curate.stages.recaption import RecaptionConfig, RecaptionStage

KEEPER, LONE, DROPPED = (make_key(name) for name in ("keeper", "lone", "dropped"))
PLAIN = pa.schema(VERDICT_FIELDS)
CLUSTERED = pa.schema([*VERDICT_FIELDS, *CLUSTER_FIELDS])


class SizeCaptioner:
    """Caption a picture with its width; a captioner as stages see one, without a model."""

    name, model_digest, processor_digest = "size", "0" * 64, ""

    def caption(self, images: Sequence[Image.Image], styles: Sequence[str]) -> list[CaptionAttempt]:
        return [
            caption_from_metadata(f"a picture of {image.width} pixels", style=style)
            for image in images
            for style in styles
        ]


def finish(folder: Path, schema: pa.Schema, rows: list[dict[str, Any]], *, tar: bool) -> ShardSet:
    """Commit shard 00000 of a stage, as the engine does."""
    work = folder / ".work"
    work.mkdir(parents=True)
    with ShardWriter(work, "00000", schema, with_tar=tar) as writer:
        for number, row in enumerate(rows):
            row |= {"status": OK}
            if tar:
                data = encode_image(Image.new("RGB", (16 + number, 16)), "png")
                row |= {"bytes": len(data), "width": 16 + number, "height": 16}
                row["offset"] = writer.write(row, {"png": data})["png"][0]
            else:
                writer.write(row)
    identity = Identity(
        stage=folder.name, version=1, seed=0, config={}, models={}, inputs={}, params={}
    )
    commit(work, Output(store=LocalStore(folder)), "00000", identity, {"in": len(rows)})
    work.rmdir()
    return ShardSet(folder)


def recaption(
    folder: Path, schema: pa.Schema, alternates: dict[str, list[str]]
) -> tuple[list[dict[str, Any]], Counter[str]]:
    """Run the stage on three samples, of which the last is dropped."""
    keys = (KEEPER, LONE, DROPPED)
    pictures = finish(
        folder / "ingest", INGEST_SCHEMA, [{"key": k, "caption": "x"} for k in keys], tar=True
    )
    judged = [
        {"key": k, "keep": k != DROPPED, "reason": "", "alternates": alternates.get(k)}
        for k in keys
    ]
    verdicts = finish(folder / "dedup", schema, judged, tar=False)
    inputs = {VERDICTS: verdicts, "ingest": pictures}
    stage = RecaptionStage(RecaptionConfig(styles=["short"]), inputs, {}, 0)
    stage.captioner = SizeCaptioner()
    out = folder / "out"
    out.mkdir()
    counts = stage.run(Task(shard="00000", inputs={}), Place(out=out, scratch=folder))
    return pq.read_table(out / "00000.parquet").to_pylist(), counts


@pytest.mark.parametrize("schema", [PLAIN, CLUSTERED])
def test_without_alternates_a_kept_picture_has_its_attempts_alone(
    tmp_path: Path, schema: pa.Schema
) -> None:
    rows, counts = recaption(tmp_path, schema, {})
    assert [(row["key"], row["source"], row["text"]) for row in rows] == [
        (KEEPER, "short", "a picture of 16 pixels"),
        (LONE, "short", "a picture of 17 pixels"),
    ]
    assert counts == {"in": 2, "kept": 2}


def test_captions_of_dropped_duplicates_are_rows_of_their_keeper(tmp_path: Path) -> None:
    rows, counts = recaption(tmp_path, CLUSTERED, {KEEPER: ["one", "two"], DROPPED: ["three"]})
    found = [row for row in rows if row["model"] == "dedup"]
    assert [(row["key"], row["status"], row["source"], row["text"]) for row in found] == [
        (KEEPER, OK, "alternate_1", "one"),
        (KEEPER, OK, "alternate_2", "two"),
    ]
    assert all(row["text_raw"] == row["text"] and row["template"] is None for row in found)
    assert len(rows) == 4
    assert counts == {"in": 2, "kept": 2, "alternates": 2}
