"""Caption with a transformers vision-language model from a local folder, in batches.

Any class behind `AutoModelForImageTextToText` works; what differs between them is in
vlm_families.py, everything else is asked of the processor and the config.

Path of a call: requests -> prompts (vlm_prompts.py) -> batches of alike length (vlm_batches.py) ->
    in a thread, one batch ahead: pictures and prompts -> every key of the processor (vlm_inputs.py)
    -> generate, tokens chosen by each request's seed (token_choice.py) -> end token found, decoded
    (vlm_answers.py) -> attempts, in the order of the requests.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import torch
from PIL import Image

from curate.captioners import vlm_inputs
from curate.captioners.captioner import (
    CaptionAttempt,
    CaptionRequest,
    Provenance,
    Sampling,
    failed_attempt,
)
from curate.captioners.instructions import Template
from curate.captioners.token_choice import TokenChooser
from curate.captioners.vlm_answers import read_answers
from curate.captioners.vlm_batches import BatchLimits, plan_batches
from curate.captioners.vlm_families import check_templates
from curate.captioners.vlm_folder import load_vlm, local_provenance
from curate.captioners.vlm_inputs import Asked, Inputs
from curate.captioners.vlm_prompts import PromptWriter
from curate.core.ahead import map_ahead
from curate.core.errors import SAMPLE_FAULTS, ModelError
from curate.core.model_ref import ModelRef


class VlmCaptioner:
    """Hold a loaded model with its processor.

    Args:
        ref: one path, the folder that `save_pretrained` of model and processor wrote.
        limits: of batches and pictures.

    Raises:
        ModelError: see `load_vlm`; or model and processor do not fit together.
    """

    def __init__(self, ref: ModelRef, limits: BatchLimits | None = None) -> None:
        folder = ref.paths[0]
        self.limits = limits or BatchLimits()
        self.vlm = load_vlm(folder)
        self._prompts = PromptWriter(self.vlm.family, self.vlm.processor)
        self.image_options = vlm_inputs.bound_pictures(self.vlm, self.limits.max_pixels)
        self._provenance = local_provenance(ref, self.vlm.model, self.vlm.model_type)
        self._try_out(folder)

    @property
    def provenance(self) -> Provenance:
        """Name the model as the hub does, or by type and folder, e.g. "idefics3/captioner"."""
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
        asked = self.ask(requests)
        plan = plan_batches(
            vlm_inputs.expect_costs(self.vlm, asked, self.image_options), self.limits
        )
        batches = [[asked[index] for index in rows] for rows in plan]
        attempts: dict[int, CaptionAttempt] = {}
        # One batch is answered while the next is prepared.
        with closing(map_ahead(self._try_encode, batches, ahead=2)) as prepared:
            for rows, batch, inputs in zip(plan, batches, prepared, strict=True):
                attempts |= zip(rows, self._answer(batch, inputs, sampling), strict=True)
        return [attempts[index] for index in range(len(requests))]

    def ask(self, requests: Sequence[CaptionRequest]) -> list[Asked]:
        """Write the instructions as this model's processor wants them."""
        prompts = self._prompts.write_all(requests)
        return [Asked(request=r, prompt=p) for r, p in zip(requests, prompts, strict=True)]

    def encode(self, asked: Sequence[Asked]) -> Inputs:
        """Turn pictures and prompts into the model's input; see `vlm_inputs.encode`."""
        return vlm_inputs.encode(self.vlm, asked, self.image_options)

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
        chooser = TokenChooser(sampling, [one.request.seed for one in asked], max_new_tokens)
        tokens = model.generate(
            **{name: value.to(model.device) for name, value in inputs.items()},
            max_new_tokens=max_new_tokens,
            logits_processor=[chooser],
        )
        # The answer is what was chosen: some classes return the prompt before it, others a start.
        answers = tokens[:, -chooser.num_steps :].tolist()
        latency_s = (time.monotonic() - started) / len(asked)
        return read_answers(self.vlm, asked, inputs, answers, chooser.logprobs, latency_s)

    def _try_out(self, folder: Path) -> None:
        """Caption a grey picture, so that parts that do not fit fail here and not on every picture.

        LLaVA's processor, for one, must be told whether its model's tower has a class token.
        """
        style = next(iter(self.vlm.family.tasks), "short")
        template = Template(id=style, version=0, text="Describe this image.", max_new_tokens=1)
        image = Image.new("RGB", (64, 64), "gray")
        request = CaptionRequest(key="grey", image=image, template=template)
        try:
            (attempt,) = self.caption([request], Sampling())
        except (RuntimeError, LookupError, TypeError, AttributeError) as error:
            attempt = failed_attempt(error)
        if attempt.finish_reason == "error":
            reason = " ".join(attempt.text_raw.split())
            raise ModelError(
                f"{folder}: model and processor must caption a grey picture, got {reason!r}; "
                "save the processor that belongs to the model"
            )
