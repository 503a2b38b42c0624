"""No sample is lost or doubled, whatever fails on it: decoding, a model, the captioner."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from curate.captioners.vlm import VlmCaptioner
from curate.core.errors import StoreError
from curate.core.shard import ShardSet
from curate.models.clip import OpenClipModel
from pipelines.progress import LiveFile
from pipelines.request import parse_request
from pipelines.run import run_request
from tests.silent import Silent

STAGES = "stages=[ingest,annotate,filter,dedup,recaption,judge,bucket,encode]"
MODEL_FAILS, CAPTIONER_FAILS = (70, 72), (80, 82)  # (width, height) of the pictures in question


def write_folder(folder: Path) -> None:
    """Write good pictures, and one for each way to fail."""
    folder.mkdir()
    rng = np.random.Generator(np.random.Philox(key=1))
    sizes = [(64, 64)] * 8 + [MODEL_FAILS, CAPTIONER_FAILS]
    for number, (width, height) in enumerate(sizes):
        pixels = rng.integers(0, 255, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02d}.png")
        (folder / f"{number:02d}.txt").write_text(f"picture number {number}")
    (folder / "20.png").write_bytes((folder / "00.png").read_bytes()[:2000])  # cut
    (folder / "21.jpg").write_text("<html>not found</html>")
    (folder / "22.png").write_bytes(b"")
    (folder / "23.png").write_bytes((folder / "01.png").read_bytes())  # a repeat of another
    (folder / "02.txt").write_text("")  # dropped by the filter
    damaged = bytearray((folder / "03.png").read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF  # ends as a whole file does; only decoding tells
    (folder / "24.png").write_bytes(damaged)
    (folder / "24.txt").write_text("picture number 24")


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run the pipeline over the folder with a model and a captioner that fail on one picture."""
    embed, encode = OpenClipModel.embed_images, VlmCaptioner.encode

    def embed_images(self: Any, images: Sequence[Image.Image]) -> Any:
        if any(image.size == MODEL_FAILS for image in images):
            raise ValueError("the model cannot take this picture")
        return embed(self, images)

    def encode_requests(self: Any, asked: Sequence[Any]) -> Any:
        if any(one.request.image.size == CAPTIONER_FAILS for one in asked):
            raise ValueError("the captioner cannot take this picture")
        return encode(self, asked)

    monkeypatch.setattr(OpenClipModel, "embed_images", embed_images)
    monkeypatch.setattr(VlmCaptioner, "encode", encode_requests)
    write_folder(tmp_path / "pictures")
    request = parse_request(
        [
            STAGES, f"input={tmp_path / 'pictures'}", f"out={tmp_path / 'out'}", "models=toy",
            "engine=inline", "ingest.shard_size=5", "filter.caption_words.min=1",
            "filter.similarity.min=-1", "recaption.picture=whole", "bucket.resolutions=[64]",
        ]
    )  # fmt: skip
    reports = run_request(request, Silent())
    for report in reports:
        counts = report.counts
        parts = sum(n for name, n in counts.items() if name.startswith(("dropped.", "failed.")))
        assert counts["in"] == counts["kept"] + parts, report
        assert report.quarantined == {}, report
    return tmp_path / "out"


def rows(out: Path, stage: str) -> list[dict[str, Any]]:
    return [row for _, table in ShardSet(out / stage).tables() for row in table.to_pylist()]


def test_every_sample_has_one_row_in_every_table_and_one_reason_where_it_ends(out: Path) -> None:
    ingested = rows(out, "ingest")
    assert len(ingested) == len({row["key"] for row in ingested}) == 15
    for stage in ("annotate", "filter", "dedup"):
        assert sorted(row["key"] for row in rows(out, stage)) == sorted(
            row["key"] for row in ingested
        )
    reasons = Counter(row["reason"] for row in rows(out, "dedup"))
    failed = Counter(row["status"] for row in ingested if row["status"] != "ok")
    assert failed == {"truncated": 1, "not_image": 1, "empty": 1, "repeated_file": 1}
    assert reasons == {
        "": 8,
        "caption_words": 1,
        "unmeasured.similarity": 1,
        **failed,
        "truncated": 2,
    }
    kept = {row["key"] for row in rows(out, "dedup") if row["keep"]}
    assert {row["key"] for row in rows(out, "bucket")} == kept
    assert {row["key"] for row in rows(out, "encode")} == kept


def test_the_picture_a_model_fails_on_has_nulls_and_its_neighbours_scores(out: Path) -> None:
    measured = {row["key"]: row for row in rows(out, "annotate")}
    sizes = {row["key"]: (row["width"], row["height"]) for row in rows(out, "ingest")}
    scores = {key: row["clip.similarity"] for key, row in measured.items() if row["status"] == "ok"}
    assert [sizes[key] for key, score in scores.items() if score is None] == [MODEL_FAILS]
    assert measured[next(k for k, s in scores.items() if s is None)]["pixels.width"] == 70


def test_the_picture_the_captioner_fails_on_keeps_its_place_with_rejected_rows(out: Path) -> None:
    attempts = rows(out, "recaption")
    failed = [row for row in attempts if row["status"] == "captioner_error"]
    assert {row["source"] for row in failed} == {"short", "detailed"}
    assert {row["text_raw"] for row in failed} == {
        "ValueError: the captioner cannot take this picture"
    }
    (key,) = {row["key"] for row in failed}
    bucketed = {row["key"]: row for row in rows(out, "bucket")}
    assert bucketed[key]["captions.source"] == ["alt"]
    assert len(attempts) == 2 * 8


def test_a_disk_that_fills_under_the_progress_file_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(self: LiveFile) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(LiveFile, "_write", write)
    write_folder(tmp_path / "pictures")
    line = ["stages=[ingest]", f"input={tmp_path / 'pictures'}", f"out={tmp_path / 'out'}"]
    with pytest.raises(StoreError, match="has no space left"):
        run_request(parse_request([*line, "engine=inline"]), Silent())
