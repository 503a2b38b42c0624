"""Tell one caption attempt with its provenance in a few lines, for `curate why`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from curate.core.schema import OK

_MAX_TEXT = 400
_DIGEST = 12  # characters of a digest that are shown
_SCORES = ("similarity", "similarity_sentence", "verified", "mean_logprob")


def tell_attempt(row: Mapping[str, Any]) -> Iterator[str]:
    """Say what was written, by whom and how it was asked for.

    Args:
        row: of recaption's table.
    """
    verdict = "" if row["status"] == OK else f", {row['status']}"
    yield f"{row['source']} {row['number']}{verdict}: {_cut(row['text_raw'])}"
    yield f"  attempt {row['attempt']} by {' '.join(_name_model(row))}"
    if row["template"]:
        yield f"  asked with {', '.join(_name_question(row))}"
    if row["finish_reason"]:
        yield f"  {', '.join(_name_answer(row))}"


def _name_model(row: Mapping[str, Any]) -> Iterator[str]:
    """Name backend, model, revision, dtype and digests, those that are known."""
    for name in ("backend", "model", "revision", "dtype"):
        if row[name]:
            yield str(row[name])
    for name, word in (("model_digest", "sha256"), ("processor_digest", "processor")):
        if row[name]:
            yield f"{word} {row[name][:_DIGEST]}"


def _name_question(row: Mapping[str, Any]) -> Iterator[str]:
    yield f"{row['template']} ({row['template_digest']})"
    if row["alt_used"]:
        yield "the alt text"
    if row["parent"]:
        yield f"the caption {row['parent']}"
    settings = json.loads(row["sampling"] or "{}")
    yield " ".join(f"{name}={value}" for name, value in settings.items())
    height, width = row["crop_height"], row["crop_width"]
    yield (
        f"box {height:g}x{width:g} at {row['crop_top']:g},{row['crop_left']:g} "
        f"shown as {row['image_height']}x{row['image_width']}"
    )


def _name_answer(row: Mapping[str, Any]) -> Iterator[str]:
    yield f"finish {row['finish_reason']}"
    for name in ("prompt_tokens", "visual_tokens", "tokens"):
        if row[name]:
            yield f"{name} {row[name]}"
    for name in _SCORES:
        if row[name] is not None:
            yield f"{name} {row[name]:.4g}"


def _cut(text: str) -> str:
    folded = " ".join(text.split())
    return folded if len(folded) <= _MAX_TEXT else folded[: _MAX_TEXT - 3] + "..."
