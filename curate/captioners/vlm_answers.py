"""Read a model's answers: cut at the end token, decoded, with what was counted on the way."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from curate.captioners.captioner import CaptionAttempt
from curate.captioners.visual_tokens import count_visual_tokens, find_given_sizes
from curate.captioners.vlm_folder import LoadedVlm
from curate.captioners.vlm_inputs import Asked, Inputs


def read_answers(
    vlm: LoadedVlm,
    asked: Sequence[Asked],
    inputs: Inputs,
    answers: Sequence[Sequence[int]],
    logprobs: Tensor,
    latency_s: float,
) -> list[CaptionAttempt]:
    """Make an attempt of every row of a batch.

    Args:
        vlm: that answered.
        asked: the rows.
        inputs: as the model had them.
        answers: tokens of every row, without the prompt; whatever stands behind an end is padding.
        logprobs: [B, T] of the tokens.
        latency_s: of each.
    """
    num_visual = count_visual_tokens(inputs, vlm.model.config)
    given = find_given_sizes(inputs, vlm.model.config, [one.size for one in asked])
    num_prompt = [0] * len(asked)
    if "attention_mask" in inputs:
        num_prompt = inputs["attention_mask"].sum(1).tolist()
    attempts: list[CaptionAttempt] = []
    for row, (one, answer) in enumerate(zip(asked, answers, strict=True)):
        end = next((i for i, token in enumerate(answer) if token in vlm.end_tokens), None)
        kept = answer if end is None else answer[: end + 1]
        attempts.append(
            CaptionAttempt(
                text_raw=vlm.processor.tokenizer.decode(kept, skip_special_tokens=True),
                prompt=one.prompt,
                finish_reason="length" if end is None else "stop",
                num_prompt_tokens=num_prompt[row],
                num_visual_tokens=num_visual[row],
                num_tokens=len(kept),
                mean_logprob=float(logprobs[row, : len(kept)].mean()),
                image_height=given[row][0],
                image_width=given[row][1],
                latency_s=latency_s,
                batch_size=len(asked),
            )
        )
    return attempts
