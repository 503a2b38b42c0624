"""`curate why` tells each caption of a sample with the model, the question and the answer."""

from __future__ import annotations

from typing import Any

from curate.stages.recaptioning.rows import CAPTION_SCHEMA, alternate_rows
from pipelines.inspect_captions import tell_attempt

ROW: dict[str, Any] = {
    **dict.fromkeys(CAPTION_SCHEMA.names),
    "status": "ok", "attempt": "a" * 20, "source": "fused", "number": 1,
    "text_raw": "a red\n house", "template": "fused-v1", "template_digest": "d" * 16,
    "alt_used": True, "parent": "b" * 20, "backend": "transformers", "model": "idefics3/x",
    "revision": "main", "model_digest": "1" * 64, "processor_digest": "2" * 64,
    "dtype": "bfloat16", "sampling": '{"seed": 7, "temperature": 0.0}', "finish_reason": "stop",
    "prompt_tokens": 20, "visual_tokens": 9, "tokens": 5, "crop_top": 0.0, "crop_left": 10.5,
    "crop_height": 40.0, "crop_width": 40.0, "image_height": 20, "image_width": 20,
    "similarity": 0.25,
}  # fmt: skip


def test_an_attempt_is_told_with_its_provenance() -> None:
    assert list(tell_attempt(ROW)) == [
        "fused 1: a red house",
        f"  attempt {'a' * 20} by transformers idefics3/x main bfloat16 sha256 111111111111 "
        "processor 222222222222",
        f"  asked with fused-v1 ({'d' * 16}), the alt text, the caption {'b' * 20}, "
        "seed=7 temperature=0.0, box 40x40 at 0,10.5 shown as 20x20",
        "  finish stop, prompt_tokens 20, visual_tokens 9, tokens 5, similarity 0.25",
    ]


def test_an_error_says_so_and_a_long_text_is_cut() -> None:
    (first, *_) = tell_attempt({**ROW, "status": "captioner_error", "text_raw": "x" * 1000})
    assert first.startswith("fused 1, captioner_error: xxx")
    assert len(first) < 450


def test_a_caption_of_a_duplicate_was_asked_of_nobody() -> None:
    (row,) = alternate_rows("0" * 20, ["words of the page"])
    told = list(tell_attempt({**dict.fromkeys(CAPTION_SCHEMA.names), **row}))
    assert told == ["alternate_1 0: words of the page", f"  attempt {row['attempt']} by dedup"]
