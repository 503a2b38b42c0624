"""Say what is kept of an attempt: a row of the table, and a line of the journal with a little more.

The table holds what equal work makes equal; the journal also when it was made and how long it took.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from curate.captioners.captioner import CaptionAttempt, Provenance
from curate.core.schema import OK, make_key
from curate.stages.recaptioning.wanted import Ask

CAPTIONER_ERROR = "captioner_error"
ALT = "alt"  # the source of the captions that samples came with
ALTERNATE = "alternate_"  # starts the sources of captions that dedup kept of dropped duplicates
DEDUP = "dedup"  # stands for the model of such a caption

CAPTION_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("attempt", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("number", pa.int32(), nullable=False),  # which of several in this style
        pa.field("text_raw", pa.string(), nullable=False),
        ("template", pa.string()),
        ("template_digest", pa.string()),
        ("prompt", pa.string()),
        ("alt_used", pa.bool_()),
        ("parent", pa.string()),  # the attempt that was rewritten, "" for none
        ("backend", pa.string()),
        ("model", pa.string()),
        ("revision", pa.string()),
        ("model_digest", pa.string()),
        ("processor_digest", pa.string()),
        ("dtype", pa.string()),
        ("sampling", pa.string()),  # JSON, with seed and max_new_tokens
        ("finish_reason", pa.string()),
        ("prompt_tokens", pa.int32()),
        ("visual_tokens", pa.int32()),
        ("tokens", pa.int32()),
        ("mean_logprob", pa.float32()),
        ("crop_top", pa.float32()),  # in pixels of the decoded picture
        ("crop_left", pa.float32()),
        ("crop_height", pa.float32()),
        ("crop_width", pa.float32()),
        ("image_height", pa.int32()),  # as the model was given it
        ("image_width", pa.int32()),
        ("similarity", pa.float32()),
        ("similarity_sentence", pa.float32()),
        ("verified", pa.float32()),
    ]
)
SCORES = ("similarity", "similarity_sentence", "verified")
# Of scores: equal work in other batches differs behind it, and nobody judges by it.
DECIMALS = 4

Line = dict[str, Any]


def make_line(ask: Ask, attempt: CaptionAttempt, provenance: Provenance) -> Line:
    """Say all that is known of an attempt; scores and seconds are filled in when they are known.

    Args:
        ask: what was asked for.
        attempt: what came of it.
        provenance: of the model that answered.
    """
    template, view = ask.template, ask.view
    failed = attempt.finish_reason == "error"
    sampling = dataclasses.asdict(ask.sampling) | {
        "seed": ask.seed, "max_new_tokens": template.max_new_tokens
    }  # fmt: skip
    logprob = attempt.mean_logprob
    made_by = dataclasses.asdict(provenance)
    version = made_by.pop("version")
    return {
        "key": ask.sample.key,
        "status": CAPTIONER_ERROR if failed else OK,
        "attempt": ask.attempt,
        "source": template.id,
        "number": ask.number,
        "text_raw": writable(attempt.text_raw),
        "template": template.name,
        "template_digest": template.digest,
        "prompt": writable(attempt.prompt),
        "alt_used": template.uses_alt,
        "parent": ask.parent,
        **made_by,
        "sampling": json.dumps(sampling, sort_keys=True),
        "finish_reason": attempt.finish_reason,
        "prompt_tokens": attempt.num_prompt_tokens,
        "visual_tokens": attempt.num_visual_tokens,
        "tokens": attempt.num_tokens,
        "mean_logprob": None if logprob is None else round(float(logprob), DECIMALS) + 0.0,  # no -0
        **{f"crop_{name}": value for name, value in dataclasses.asdict(view.box).items()},
        "image_height": attempt.image_height or view.height,
        "image_width": attempt.image_width or view.width,
        **dict.fromkeys(SCORES),
        # The journal's own. `scorer` names the models that measured; `seconds` is the time of the
        # whole window over its attempts, waiting for pictures included.
        "scorer": "",
        "seconds": 0.0,
        "latency_s": round(attempt.latency_s, 6),
        "batch_size": attempt.batch_size,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "model_reported": writable(attempt.model_reported),
        "answer_id": writable(attempt.answer_id),
        "version": version,
    }


def table_row(line: Mapping[str, Any]) -> dict[str, Any]:
    """Take what the table keeps of a line."""
    return {name: line[name] for name in CAPTION_SCHEMA.names}


def alternate_rows(key: str, texts: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Spell captions of dropped duplicates as attempts, each under a source of its own."""
    for number, text in enumerate(texts, start=1):
        yield {
            "key": key,
            "status": OK,
            "attempt": make_key(key, DEDUP, text),
            "source": f"{ALTERNATE}{number}",
            "number": 0,
            "text_raw": text,
            "model": DEDUP,
        }


def writable(text: str) -> str:
    """Replace lone surrogates, which a server's JSON may hold and no file can: by U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
