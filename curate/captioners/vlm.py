"""Caption with a transformers vision-language model from a local folder, in batches.

Any class behind `AutoModelForImageTextToText` works; what differs between them is in
vlm_families.py, everything else is asked of the processor and the config.

Path of a call: requests -> prompts (vlm_prompts.py) -> batches of alike length (vlm_batches.py) ->
    in a thread, one batch ahead: pictures and prompts -> processor -> every key it returns
    -> generate, tokens chosen by each request's seed (token_choice.py) -> prompt sliced off ->
    end token found (finish reason) -> decoded -> attempts, in the order of the requests.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers

from curate.captioners.captioner import (
    CaptionAttempt,
    CaptionRequest,
    Provenance,
    Sampling,
    failed_attempt,
)
from curate.captioners.token_choice import TokenChooser
from curate.captioners.visual_tokens import (
    count_visual_tokens,
    expect_visual_tokens,
    find_given_sizes,
)
from curate.captioners.vlm_batches import BatchLimits, Cost, plan_batches
from curate.captioners.vlm_families import check_templates
from curate.captioners.vlm_folder import digest_folder, load_vlm
from curate.captioners.vlm_prompts import write_prompt
from curate.core.ahead import map_ahead
from curate.core.errors import SAMPLE_FAULTS
from curate.core.model_ref import ModelRef

Inputs = Mapping[str, torch.Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Hold a request with its prompt as the processor gets it."""

    request: CaptionRequest
    prompt: str


class VlmCaptioner:
    """Hold a loaded model with its processor.

    Args:
        ref: one path, the folder that `save_pretrained` of model and processor wrote.
        limits: of batches and pictures.

    Raises:
        ModelError: see `load_vlm`.
    """

    def __init__(self, ref: ModelRef, limits: BatchLimits | None = None) -> None:
        folder = ref.paths[0]
        self.limits = limits or BatchLimits()
        self.vlm = load_vlm(folder)
        self._image_options = self._bound_pictures()
        self._provenance = Provenance(
            backend="transformers",
            model=f"{self.vlm.model_type}/{folder.name}",
            model_digest=digest_folder(folder, of_weights=True),
            processor_digest=digest_folder(folder, of_weights=False),
            dtype=str(self.vlm.model.dtype).removeprefix("torch."),
            version=transformers.__version__,
        )

    @property
    def provenance(self) -> Provenance:
        """Name model type and folder, e.g. "idefics3/captioner", and digest its files."""
        return self._provenance

    def caption(
        self, requests: Sequence[CaptionRequest], sampling: Sampling
    ) -> list[CaptionAttempt]:
        """Answer every request, in order; see `captioner.Captioner`.

        Raises:
            ModelError: the family cannot follow a request's template.
            torch.OutOfMemoryError: not even one request fits into memory.
        """
        check_templates(self.vlm.model_type, [request.template for request in requests])
        asked = [Asked(request=r, prompt=self.write_prompt(r)) for r in requests]
        plan = self._plan(asked)
        batches = [[asked[index] for index in rows] for rows in plan]
        prepared = map_ahead(self._try_encode, batches, ahead=2)
        attempts: dict[int, CaptionAttempt] = {}
        for rows, batch, inputs in zip(plan, batches, prepared, strict=True):
            attempts |= zip(rows, self._answer(batch, inputs, sampling), strict=True)
        return [attempts[index] for index in range(len(requests))]

    def write_prompt(self, request: CaptionRequest) -> str:
        """Write the instruction as this model's processor wants it."""
        return write_prompt(request, self.vlm.family, self.vlm.processor)

    def encode(self, asked: Sequence[Asked]) -> Inputs:
        """Turn pictures and prompts into the model's input, in its dtype, on the CPU."""
        images = [one.request.image for one in asked]
        options: dict[str, Any] = {"images": images, "return_tensors": "pt", **self._image_options}
        if self.vlm.family.prompt != "none":
            options |= self._text_options([one.prompt for one in asked])
            options["images"] = [[image] for image in images]
        return self.vlm.processor(**options).to(dtype=self.vlm.model.dtype)

    def _text_options(self, prompts: Sequence[str]) -> dict[str, Any]:
        options: dict[str, Any] = {
            "text": list(prompts),
            "padding": True,
            "padding_side": self.vlm.family.padding_side,
        }
        bos = self.vlm.processor.tokenizer.bos_token
        if bos and prompts[0].startswith(bos):
            # A template that writes <bos> itself would get a second one from the tokenizer.
            options["add_special_tokens"] = False
        return options

    def _bound_pictures(self) -> dict[str, Any]:
        """Pin the area of pictures; a folder's own limit may be 16,384 tokens each."""
        key = self.vlm.family.max_pixels_key
        if not key:
            return {}
        size = dict(self.vlm.processor.image_processor.size)
        most = min(size[key], self.limits.max_pixels)
        least = min(size["shortest_edge"], most)
        return {"size": {**size, "shortest_edge": least, key: most}}

    def _plan(self, asked: Sequence[Asked]) -> list[list[int]]:
        tokenize = self.vlm.processor.tokenizer
        prompts = {one.prompt for one in asked}
        sizes = [(one.request.image.height, one.request.image.width) for one in asked]
        visual = expect_visual_tokens(self.vlm.processor, sizes, self._image_options)
        lengths = {prompt: len(tokenize(prompt)["input_ids"]) for prompt in prompts}
        costs = [
            Cost(
                prompt=lengths[one.prompt],
                visual=num_visual,
                answer=one.request.template.max_new_tokens,
            )
            for one, num_visual in zip(asked, visual, strict=True)
        ]
        return plan_batches(costs, self.limits)

    def _try_encode(self, asked: Sequence[Asked]) -> Inputs | Exception:
        """Prepare a batch in its thread; a picture's fault is dealt with where answers are."""
        try:
            return self.encode(asked)
        except SAMPLE_FAULTS as error:
            return error

    def _answer(
        self, asked: Sequence[Asked], inputs: Inputs | Exception, sampling: Sampling
    ) -> list[CaptionAttempt]:
        """Answer a batch; where it fails, its halves, until the request that fails is alone."""
        fault: Exception
        if isinstance(inputs, Exception):
            fault = inputs
        else:
            try:
                return self._generate(asked, inputs, sampling)
            except (*SAMPLE_FAULTS, torch.OutOfMemoryError) as error:
                fault = error.with_traceback(None)  # whose frames hold the batch's tensors
        if len(asked) > 1:
            half = len(asked) // 2
            parts = (asked[:half], asked[half:])
            return [a for p in parts for a in self._answer(p, self._try_encode(p), sampling)]
        if isinstance(fault, torch.OutOfMemoryError):
            raise fault
        return [failed_attempt(fault, asked[0].prompt)]

    @torch.inference_mode()
    def _generate(
        self, asked: Sequence[Asked], inputs: Inputs, sampling: Sampling
    ) -> list[CaptionAttempt]:
        started = time.monotonic()
        model = self.vlm.model
        max_new_tokens = asked[0].request.template.max_new_tokens
        chooser = TokenChooser(sampling, [a.request.seed for a in asked], max_new_tokens)
        on_device = {name: value.to(model.device) for name, value in inputs.items()}
        tokens = model.generate(
            **on_device,
            max_new_tokens=max_new_tokens,
            logits_processor=[chooser],
        )
        # The answer is what was chosen: some classes return the prompt before it, others a start.
        answers = tokens[:, -chooser.num_steps :].tolist()
        latency_s = (time.monotonic() - started) / len(asked)
        return self._read_answers(asked, inputs, answers, chooser.logprobs, latency_s)

    def _read_answers(
        self,
        asked: Sequence[Asked],
        inputs: Inputs,
        answers: Sequence[Sequence[int]],
        logprobs: torch.Tensor,
        latency_s: float,
    ) -> list[CaptionAttempt]:
        """Cut every row at its end token and decode it."""
        num_visual = count_visual_tokens(inputs, self.vlm.model.config)
        sizes = [(one.request.image.height, one.request.image.width) for one in asked]
        given = find_given_sizes(inputs, self.vlm.model.config, sizes)
        num_prompt = inputs["attention_mask"].sum(1).tolist() if "attention_mask" in inputs else []
        attempts: list[CaptionAttempt] = []
        for row, (one, answer) in enumerate(zip(asked, answers, strict=True)):
            end = next((i for i, t in enumerate(answer) if t in self.vlm.end_tokens), None)
            kept = answer if end is None else answer[: end + 1]
            attempts.append(
                CaptionAttempt(
                    text_raw=self.vlm.processor.tokenizer.decode(kept, skip_special_tokens=True),
                    prompt=one.prompt,
                    finish_reason="length" if end is None else "stop",
                    num_prompt_tokens=num_prompt[row] if num_prompt else 0,
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
