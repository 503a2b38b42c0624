"""Compare a run on the toy web with its truth table: the rows that report and results.json show.

truth.parquet + tables of ingest to decontaminate  -> detection, duplicate and leak scores
held-out pictures + the pack's captioner and VAE   -> caption exactness, reconstruction
judge's thresholds + planted faults of captions    -> recall and precision of its rules
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from curate.core.batches import batched
from curate.core.model_ref import ModelRef
from curate.core.schema import OK
from curate.core.shard import ShardSet
from curate.stages.judging.config import limits_from_json
from curate.stages.matching.hits import PICTURE, PICTURE_KINDS, PROMPT
from curate.stages.matching.prompts import EXACT
from eval.intervals import wilson_interval
from eval.truth import TruthCheck, TruthRow
from pipelines.config import ToywebConfig
from pipelines.inputs import TRUTH
from pipelines.toyweb.heldout import heldout_prompts
from pipelines.toyweb.oracle import read_scene
from pipelines.toyweb.planted_faults import judge_planted
from pipelines.toyweb.scene import Scene, parse_description, render
from pipelines.toyweb.truth import (
    FoundScore,
    copy_recall,
    exact_duplicates,
    leaks,
    mismatch_auc,
    near_duplicates,
    plant_rates,
    watermark_auc,
)

NUM_HELDOUT = 256
"""Held-out pictures for captioner and VAE; chosen by us: a 90 % rate has a half-width of 4 %."""
NUM_PLANTED = 64
"""Scenes whose descriptions are spoilt in every way; chosen by us: 2,880 bad texts, a second."""
LEAK_REASONS = (PICTURE, PROMPT)
_BATCH = 64
_SIDE_PX = {"captioner": 192, "vae": 64}
"""Pictures are captioned at a size of the web and encoded at the demo's training size."""


def make_truth_check(
    folder: Path, toyweb: ToywebConfig, models: Mapping[str, ModelRef]
) -> TruthCheck:
    """Make the check that the evaluate stage calls with its inputs."""

    def check(inputs: Mapping[str, ShardSet]) -> Sequence[TruthRow]:
        truth = pq.read_table(folder / TRUTH)
        return [
            *_check_ingest(truth, inputs["ingest"]),
            *_check_plants(truth, inputs["ingest"], inputs["filter"]),
            *_check_scores(truth, inputs["ingest"], inputs["annotate"]),
            *_check_duplicates(truth, inputs["ingest"], inputs["dedup"]),
            *_check_leaks(truth, inputs["ingest"], inputs.get("decontaminate")),
            *_check_captioner(toyweb.seed, models),
            *_check_judge(toyweb.seed, inputs.get("judge")),
            *_check_vae(toyweb.seed, models),
        ]

    return check


def _check_ingest(truth: pa.Table, ingested: ShardSet) -> Iterator[TruthRow]:
    """Compare good and failed rows; a repeat of an earlier row is no failure of its URL."""
    expected = dict(
        zip(truth["row"].to_pylist(), truth["expected_status"].to_pylist(), strict=True)
    )
    found = _by_row(ingested, ingested, "status")
    good = (OK, "repeated_row")
    right = sum((found.get(row) in good) == (status == OK) for row, status in expected.items())
    yield _rate("ingest", "good and failed rows told apart", "accuracy", right, len(expected), 0.99)


def _check_plants(truth: pa.Table, ingested: ShardSet, filtered: ShardSet) -> Iterator[TruthRow]:
    """Ask of every planted fault that it ends with its own status or reason, always."""
    status = _by_row(ingested, ingested, "status")
    rules = _by_row(ingested, filtered, "failed_rules")
    for plant, (right, count) in plant_rates(truth, status, rules).items():
        yield _rate("filter", f"planted: {plant}", "named", right, count, 1.0)


def _check_scores(truth: pa.Table, ingested: ShardSet, measured: ShardSet) -> Iterator[TruthRow]:
    cases: list[tuple[str, str, str, Callable[[pa.Table, Mapping[int, float]], float], float]] = [
        ("clip.similarity", "mismatched captions", "AUC", mismatch_auc, 0.95),
        ("watermark.score", "watermarks", "AUC", watermark_auc, 0.97),
    ]
    for column, what, measure, score, goal in cases:
        values = _by_row(ingested, measured, column)
        yield TruthRow(
            stage="annotate",
            what=what,
            measure=measure,
            value=score(truth, values),
            n=len(values),
            goal=goal,
            note=f"by {column}",
        )


def _check_duplicates(truth: pa.Table, ingested: ShardSet, dedup: ShardSet) -> Iterator[TruthRow]:
    """Judge the clusters over the rows that reached dedup (kept by filter)."""
    hashes = _by_row(ingested, ingested, "sha256")
    clusters: dict[int, Hashable] = {}
    for row, (keep, reason, cluster) in _by_row(
        ingested, dedup, "keep", "reason", "cluster"
    ).items():
        if keep or str(reason).startswith("duplicate_"):
            clusters[row] = cluster or f"alone {row}"
    exact = {row: (cluster, hashes[row]) for row, cluster in clusters.items()}
    yield from _found("dedup", "exact duplicates", exact_duplicates(truth, exact), 1.0, 1.0)
    yield from _found("dedup", "near duplicates", near_duplicates(truth, clusters), 0.98, 0.99)
    cropped = copy_recall(truth, clusters, "cropped_duplicate")
    yield _rate("dedup", "cropped duplicates", "recall", cropped.num_right, cropped.num_true, 0.98)
    mirrored = copy_recall(truth, clusters, "flipped_duplicate")
    note = "looked for with dedup.pdq_dihedral only; their captions differ"
    what = "mirrored duplicates"
    yield _rate("dedup", what, "recall", mirrored.num_right, mirrored.num_true, note=note)


def _check_leaks(
    truth: pa.Table, ingested: ShardSet, decontaminated: ShardSet | None
) -> Iterator[TruthRow]:
    """Judge what was found of the benchmark among the rows that dedup kept.

    A prompt is found where the caption is its words; captions that only resemble one are other
    scenes here.
    """
    if decontaminated is None:
        return
    pictures: dict[int, bool] = {}
    prompts: dict[int, bool] = {}
    rows = _by_row(ingested, decontaminated, "keep", "reason", "hits")
    for row, (keep, reason, hits) in rows.items():
        if keep or reason in LEAK_REASONS:
            kinds = {hit["kind"] for hit in hits or ()}
            pictures[row] = bool(kinds.intersection(PICTURE_KINDS))
            prompts[row] = EXACT in kinds
    stage = "decontaminate"
    yield from _found(stage, "leaked pictures", leaks(truth, "benchmark_key", pictures), 0.98, 0.99)
    yield from _found(stage, "leaked prompts", leaks(truth, "prompt_key", prompts), 0.98, 0.99)


def _found(
    stage: str, what: str, score: FoundScore, recall: float, precision: float
) -> Iterator[TruthRow]:
    yield _rate(stage, what, "recall", score.num_right, score.num_true, recall)
    yield _rate(stage, what, "precision", score.num_right, score.num_found, precision)


def _check_captioner(seed: int, models: Mapping[str, ModelRef]) -> Iterator[TruthRow]:
    from curate.captioners.captioner import CaptionRequest, Sampling
    from curate.captioners.instructions import find_template
    from pipelines.captioners import open_captioner

    captioner = open_captioner(models["captioner"])
    template = find_template("detailed")
    right = 0
    scenes = _heldout_scenes(seed)
    for batch in batched(scenes, _BATCH):
        pictures = [Image.fromarray(_draw(scene, "captioner")) for scene in batch]
        requests = [CaptionRequest(key="truth", image=p, template=template) for p in pictures]
        for scene, attempt in zip(batch, captioner.caption(requests, Sampling()), strict=True):
            right += parse_description(attempt.text_raw) == scene
    what = "held-out pictures, detailed caption states the scene"
    yield _rate("recaption", what, "exact", right, len(scenes), 0.95)


def _check_judge(seed: int, judge: ShardSet | None) -> Iterator[TruthRow]:
    """Hold the thresholds that the run judged by against planted faults of captions."""
    shards = judge.shards() if judge else []
    if judge is None or not shards:
        return
    limits = limits_from_json(judge.marker(shards[0]).identity.params["limits"])
    score = judge_planted(seed, NUM_PLANTED, limits)
    yield from _found("judge", "planted faults of captions", score.rejected, 0.98, 0.98)
    what = "planted stock openings taken off, and nothing else"
    yield _rate("judge", what, "exact", score.num_stripped, score.num_opened, 0.98)


def _check_vae(seed: int, models: Mapping[str, ModelRef]) -> Iterator[TruthRow]:
    from curate.models.vae import load_vae

    vae = load_vae(models["vae"])
    scenes = _heldout_scenes(seed)
    right, decibels = 0, list[float]()
    for batch in batched(scenes, _BATCH):
        pictures = np.stack([_draw(scene, "vae") for scene in batch])
        moments = vae.encode(pictures)
        decoded = vae.decode(moments[:, : vae.latent_channels])
        decibels += _psnr(pictures, decoded)
        right += sum(
            read_scene(picture).scene == scene
            for scene, picture in zip(batch, decoded, strict=True)
        )
    yield TruthRow(
        stage="encode",
        what="held-out pictures through the VAE",
        measure="PSNR, dB",
        value=float(np.mean(decibels)),
        n=len(decibels),
        goal=26.0,
    )
    yield _rate("encode", "held-out scenes read through the VAE", "exact", right, len(scenes), 0.98)


def _heldout_scenes(seed: int) -> list[Scene]:
    return [prompt.scene for prompt in heldout_prompts(seed, NUM_HELDOUT, max_objects=4)]


def _draw(scene: Scene, purpose: str) -> np.ndarray:
    side = _SIDE_PX[purpose]
    return render(scene, side, side)


def _psnr(pictures: np.ndarray, decoded: np.ndarray) -> list[float]:
    """Give 10 log10(255^2 / MSE) of each picture of [B, H, W, 3] uint8."""
    error = np.square(pictures.astype(np.float64) - decoded).mean(axis=(1, 2, 3))
    return list(10 * np.log10(255.0**2 / np.maximum(error, 1e-9)))


def _by_row(ingested: ShardSet, shards: ShardSet, *columns: str) -> dict[int, Any]:
    """Join a stage's columns to the rows of the URL table; null values are left out."""
    values: dict[int, Any] = {}
    for shard in shards.shards():
        rows = ingested.table(shard, ["key", "row"])
        row_of = dict(zip(rows["key"].to_pylist(), rows["row"].to_pylist(), strict=True))
        table = shards.table(shard, ["key", *columns])
        for key, *found in zip(
            *(table[name].to_pylist() for name in ("key", *columns)), strict=True
        ):
            if len(columns) > 1:
                values[row_of[key]] = tuple(found)
            elif found[0] is not None:
                values[row_of[key]] = found[0]
    return values


def _rate(
    stage: str,
    what: str,
    measure: str,
    right: int,
    n: int,
    goal: float | None = None,
    note: str = "",
) -> TruthRow:
    """Make a row for a share with its Wilson interval."""
    interval = wilson_interval(right / n, n) if n else None
    return TruthRow(
        stage=stage,
        what=what,
        measure=measure,
        value=right / n if n else None,
        n=n,
        goal=goal,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        note=note,
    )
