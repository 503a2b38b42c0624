"""Lay out the table of an evaluation: one row a generated picture, with all that was read in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from curate.core.schema import OK
from eval.compositional import ATTRIBUTES, PictureScore, Reading
from eval.evidence import Evidence
from eval.metrics import score_evidence


def picture_schema() -> pa.Schema:
    """Give the columns of the per-picture table."""
    counts = [
        pa.field(f"{name}.{part}", pa.int32())
        for name in ATTRIBUTES
        for part in ("hits", "false_alarms", "misses")
    ]
    return pa.schema(
        [
            pa.field("key", pa.string(), nullable=False),
            pa.field("status", pa.string(), nullable=False),
            ("variant", pa.string()),
            ("prompt", pa.string()),
            ("clip.similarity", pa.float32()),
            ("readable", pa.bool_()),
            ("exact", pa.bool_()),
            ("count", pa.bool_()),
            ("background", pa.bool_()),
            ("read", pa.string()),
            *counts,
        ]
    )


def picture_rows(evidence: Evidence) -> Iterator[dict[str, Any]]:
    """Yield one row a picture; score columns stay null without a reader."""
    scores = score_evidence(evidence)
    similarities = (evidence.images * evidence.texts).sum(axis=1)
    for index, key in enumerate(evidence.keys):
        row: dict[str, Any] = {
            "key": key,
            "status": OK,
            "variant": evidence.variant,
            "prompt": evidence.prompts[index],
            "clip.similarity": float(similarities[index]),
        }
        if evidence.readings is not None:
            row |= _reading_columns(evidence.readings[index])
        if scores:
            row |= _score_columns(scores[index])
        yield row


def _reading_columns(reading: Reading) -> dict[str, Any]:
    seen = {
        "objects": [dict(item) for item in reading.objects],
        "background": reading.background,
    }
    return {"readable": reading.readable, "read": json.dumps(seen, sort_keys=True)}


def _score_columns(score: PictureScore) -> dict[str, Any]:
    columns: dict[str, Any] = {
        "exact": score.exact,
        "count": score.count,
        "background": score.background,
    }
    for name, matches in score.matches.items():
        columns[f"{name}.hits"] = matches.hits
        columns[f"{name}.false_alarms"] = matches.false_alarms
        columns[f"{name}.misses"] = matches.misses
    return columns
