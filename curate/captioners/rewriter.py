"""Rewrite captions with a transformers language model from a local folder, in batches.

The second stage of captions: a template shows the model an earlier caption ({draft}), the alt text
({alt}) or both, and no picture. "fused" of instructions.py makes one text of the two.

Path of a call: requests -> prompts by the model's chat template -> batches of alike length, padded
on the left -> generate, tokens chosen by each request's seed (token_choice.py) -> end token found
-> decoded -> attempts, in the order of the requests.

For a language model behind a server the kind is "openai_text" (server.py).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from curate.captioners.captioner import (
    CaptionAttempt,
    CaptionRequest,
    Provenance,
    Sampling,
    failed_attempt,
)
from curate.captioners.lm_folder import load_lm
from curate.captioners.token_choice import TokenChooser
from curate.captioners.vlm_batches import BatchLimits, Cost, plan_batches
from curate.captioners.vlm_folder import local_provenance
from curate.captioners.vlm_prompts import clean_text
from curate.core.errors import SampleError
from curate.core.model_ref import ModelRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """Hold a request with its prompt and the prompt's number of tokens."""

    request: CaptionRequest
    prompt: str
    num_tokens: int


class LmRewriter:
    """Hold a loaded language model with its tokenizer.

    Args:
        ref: one path, the folder that `save_pretrained` of model and tokenizer wrote.
        limits: of batches.

    Raises:
        ModelError: see `load_lm`.
    """

    def __init__(self, ref: ModelRef, limits: BatchLimits | None = None) -> None:
        folder = ref.paths[0]
        self.limits = limits or BatchLimits()
        self.lm = load_lm(folder)
        self._marks = _list_marks(self.lm.tokenizer)
        self._provenance = local_provenance(ref, self.lm.model, self.lm.model.config.model_type)

    @property
    def provenance(self) -> Provenance:
        """Name the model as the hub does, or by type and folder, e.g. "qwen3/Qwen3-4B"."""
        return self._provenance

    def caption(
        self, requests: Sequence[CaptionRequest], sampling: Sampling
    ) -> list[CaptionAttempt]:
        """Answer every request, in order; the pictures are not looked at.

        Raises:
            torch.OutOfMemoryError: not even one request fits into memory.
        """
        written = [self._write(request) for request in requests]
        attempts = {
            at: failed_attempt(_too_long(one, self.lm.max_tokens), one.prompt)
            for at, one in enumerate(written)
            if self._is_too_long(one)
        }
        fitting = [at for at in range(len(written)) if at not in attempts]
        for batch in plan_batches([_cost(written[at]) for at in fitting], self.limits):
            rows = [fitting[index] for index in batch]
            attempts |= zip(rows, self._answer([written[at] for at in rows], sampling), strict=True)
        return [attempts[at] for at in range(len(requests))]

    def write_prompt(self, request: CaptionRequest) -> str:
        """Write the instruction by the model's chat template, its marks out of the texts."""
        text = request.template.fill(
            alt=clean_text(request.alt, self._marks), draft=clean_text(request.draft, self._marks)
        )
        return self.lm.tokenizer.apply_chat_template(
            [{"role": "user", "content": text}],
            add_generation_prompt=True,
            tokenize=False,
            enable_thinking=False,  # Qwen3's word for it; templates that do not ask do not mind
        )

    def encode(self, prompts: Sequence[str]) -> dict[str, torch.Tensor]:
        """Turn prompts into [B, T] tokens and mask, padded on the left, on the model's device."""
        # The template has written the tokens that stand before a text.
        options: dict[str, Any] = {"add_special_tokens": False, "return_tensors": "pt"}
        found = self.lm.tokenizer(list(prompts), padding=True, **options)
        return {
            name: found[name].to(self.lm.model.device) for name in ("input_ids", "attention_mask")
        }

    def _write(self, request: CaptionRequest) -> Written:
        prompt = self.write_prompt(request)
        tokens = self.lm.tokenizer(prompt, add_special_tokens=False)["input_ids"]
        return Written(request=request, prompt=prompt, num_tokens=len(tokens))

    def _is_too_long(self, one: Written) -> bool:
        return 0 < self.lm.max_tokens < _cost(one).total

    def _answer(self, batch: Sequence[Written], sampling: Sampling) -> list[CaptionAttempt]:
        """Answer a batch; where memory does not do, its halves."""
        try:
            return self._generate(batch, sampling)
        except torch.OutOfMemoryError:
            if len(batch) == 1:
                raise
        half = len(batch) // 2
        return self._answer(batch[:half], sampling) + self._answer(batch[half:], sampling)

    @torch.inference_mode()
    def _generate(self, batch: Sequence[Written], sampling: Sampling) -> list[CaptionAttempt]:
        started = time.monotonic()
        max_new_tokens = batch[0].request.template.max_new_tokens
        chooser = TokenChooser(sampling, [one.request.seed for one in batch], max_new_tokens)
        inputs = self.encode([one.prompt for one in batch])
        tokens = self.lm.model.generate(
            **inputs, max_new_tokens=max_new_tokens, logits_processor=[chooser]
        )
        answers: list[list[int]] = tokens[:, -chooser.num_steps :].tolist()
        latency_s = (time.monotonic() - started) / len(batch)
        return [
            self._read(one, answer, logprobs, latency_s, len(batch))
            for one, answer, logprobs in zip(batch, answers, chooser.logprobs, strict=True)
        ]

    def _read(
        self,
        one: Written,
        answer: Sequence[int],
        logprobs: torch.Tensor,
        latency_s: float,
        batch_size: int,
    ) -> CaptionAttempt:
        """Cut a row at its end token and decode it."""
        end = next((at for at, token in enumerate(answer) if token in self.lm.end_tokens), None)
        kept = answer if end is None else answer[: end + 1]
        return CaptionAttempt(
            text_raw=self.lm.tokenizer.decode(kept, skip_special_tokens=True),
            prompt=one.prompt,
            finish_reason="length" if end is None else "stop",
            num_prompt_tokens=one.num_tokens,
            num_tokens=len(kept),
            mean_logprob=float(logprobs[: len(kept)].mean()),
            latency_s=latency_s,
            batch_size=batch_size,
        )


def _list_marks(tokenizer: Any) -> list[str]:
    """List the strings that mean more than their letters to a tokenizer, longest first."""
    added = {one.content for one in tokenizer.added_tokens_decoder.values() if one.special}
    marks = {mark for mark in added | set(tokenizer.all_special_tokens) if mark.strip()}
    return sorted(marks, key=lambda mark: (-len(mark), mark))


def _cost(one: Written) -> Cost:
    answer = one.request.template.max_new_tokens
    return Cost(prompt=one.num_tokens, visual=0, answer=answer)


def _too_long(one: Written, max_tokens: int) -> SampleError:
    return SampleError(
        "prompt_too_long", f"{_cost(one).total} tokens with the answer, {max_tokens} are known"
    )
