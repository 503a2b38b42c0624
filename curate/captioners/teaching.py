"""Turn pictures and the captions they should get into labelled inputs of a captioner's model.

A lesson is what `vlm.py` would send for the request, with the answer behind it as the model would
have written it: the prompt comes from the same processor, the answer ends with the token that ends
an answer when captions are generated. Labels are on the answer and its end alone; instruction,
picture and padding have `IGNORE`.

    chat, task     prompt ... | answer end | padding    (prompts are padded at the end)
    picture alone  start      | answer end | padding     (BLIP, GIT)
    two parts      encoder: prompt; decoder: answer end  (Florence-2)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jinja2 import TemplateError
from torch import Tensor
from torch.nn import functional

from curate.captioners.captioner import CaptionRequest
from curate.captioners.vlm import VlmCaptioner
from curate.captioners.vlm_folder import LoadedVlm
from curate.captioners.vlm_prompts import list_marks
from curate.core.errors import ModelError, SampleError

IGNORE = -100  # the label that torch's cross entropy skips
# Before the answer, so that a tokenizer that marks the start of a text does not mark the answer's.
_ANCHOR = "\n"
_MARKER = "MARKER"  # stands for an answer in a rendered conversation


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Say how a model's chat template writes an answer.

    Args:
        lead: between prompt and answer, e.g. " " behind "Assistant:".
        end: id of the token that ends it.
    """

    lead: str
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledBatch:
    """Hold inputs of a model and what it should have written.

    Args:
        model: of transformers.
        inputs: all that `forward` takes, on the CPU.
        labels: [B, T] int64 for the last T positions of the logits; `IGNORE` where none counts.
        is_shifted: the logits at a position are for the label there, not for the next one.
    """

    model: Any
    inputs: Mapping[str, Tensor]
    labels: Tensor
    is_shifted: bool

    @property
    def num_tokens(self) -> int:
        """Count the answer tokens, ends included."""
        return int((self.labels != IGNORE).sum())

    def loss_sum(self) -> Tensor:
        """Run the model; give the sum of -log p over the answer tokens, a float32 scalar."""
        device = self.model.device
        labels = self.labels if self.is_shifted else self.labels[:, 1:]
        first = int((labels != IGNORE).any(0).nonzero()[0])
        labels = labels[:, first:].to(device)
        # Logits of a picture's places would be most of the memory: [B, T, vocabulary].
        keep = labels.shape[1] + (0 if self.is_shifted else 1)
        inputs = {name: value.to(device) for name, value in self.inputs.items()}
        logits = self.model(**inputs, logits_to_keep=keep).logits[:, : labels.shape[1]]
        return functional.cross_entropy(
            logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORE, reduction="sum"
        )


class Teacher:
    """Make lessons for a captioner's model.

    Args:
        captioner: loaded.

    Raises:
        ModelError: the model has no token that ends an answer.
    """

    def __init__(self, captioner: VlmCaptioner) -> None:
        self._captioner = captioner
        self._vlm = captioner.vlm
        self._tokenizer = captioner.vlm.processor.tokenizer
        self._marks = list_marks(captioner.vlm.processor)
        self.turn = read_turn(captioner.vlm)

    def tokenize(self, text: str, max_tokens: int) -> list[int]:
        """Write an answer as tokens, its end included.

        Args:
            text: the caption.
            max_tokens: longer answers are refused: they would be cut off when written.

        Raises:
            SampleError: "empty", "special_token", "unknown_word" or "too_long".
        """
        if not text.strip():
            raise SampleError("empty")
        if mark := next((mark for mark in self._marks if mark in text), ""):
            raise SampleError("special_token", mark)
        before = self._ids(_ANCHOR)
        ids = self._ids(_ANCHOR + self.turn.lead + text)
        ids = ids[len(before) :] if ids[: len(before)] == before else self._ids(text)
        if self._tokenizer.unk_token_id in ids:
            raise SampleError("unknown_word", text[:80])
        forced = self._vlm.model.generation_config.forced_bos_token_id
        answer = [*([] if forced is None else [forced]), *ids, self.turn.end]
        if len(answer) > max_tokens:
            raise SampleError("too_long", f"{len(answer)} tokens, at most {max_tokens}")
        return answer

    def read(self, answer: Sequence[int]) -> str:
        """Give the text that tokens stand for, as a written caption is read."""
        return self._tokenizer.decode(list(answer), skip_special_tokens=True)

    def encode(
        self, requests: Sequence[CaptionRequest], answers: Sequence[Sequence[int]]
    ) -> LabelledBatch:
        """Prepare a batch.

        Args:
            requests: as the captioner will be asked.
            answers: to each, as `tokenize` gives them.
        """
        inputs = dict(self._captioner.encode(self._captioner.ask(requests)))
        if "input_ids" not in inputs:
            return self._after_start(inputs, answers)
        if self._vlm.model.config.is_encoder_decoder:
            return self._in_decoder(inputs, answers)
        return self._after_prompt(inputs, answers)

    def _after_prompt(
        self, inputs: dict[str, Tensor], answers: Sequence[Sequence[int]]
    ) -> LabelledBatch:
        """Put every answer behind its prompt."""
        mask = inputs["attention_mask"].bool()
        rows = [row[kept].tolist() for row, kept in zip(inputs["input_ids"], mask, strict=True)]
        packed = {
            "input_ids": _stack(rows, answers, self._pad),
            "attention_mask": _stack([[1] * len(r) for r in rows], [[1] * len(a) for a in answers]),
        }
        # PaliGemma sees its prompt in both directions and what is 1 in one; others mark pictures.
        kind = 1 if self._vlm.model_type == "paligemma" else 0
        for name in ("token_type_ids", "mm_token_type_ids"):
            if name in inputs:
                kinds = [row[kept].tolist() for row, kept in zip(inputs[name], mask, strict=True)]
                packed[name] = _stack(kinds, [[kind] * len(a) for a in answers], kind)
        labels = _stack([[IGNORE] * len(row) for row in rows], answers, IGNORE)
        return self._batch({**inputs, **packed}, labels)

    def _after_start(
        self, inputs: dict[str, Tensor], answers: Sequence[Sequence[int]]
    ) -> LabelledBatch:
        """Put every answer behind the token that starts a text."""
        start = self._vlm.model.config.get_text_config().bos_token_id
        rows = [[start] for _ in answers]
        inputs["input_ids"] = _stack(rows, answers, self._pad)
        inputs["attention_mask"] = _stack([[1] for _ in answers], [[1] * len(a) for a in answers])
        return self._batch(inputs, _stack([[IGNORE]] * len(rows), answers, IGNORE))

    def _in_decoder(
        self, inputs: dict[str, Tensor], answers: Sequence[Sequence[int]]
    ) -> LabelledBatch:
        """Give the answer to the decoder, one token late; behind its end nothing is looked at."""
        start = self._vlm.model.generation_config.decoder_start_token_id
        if start is None:
            start = self._vlm.model.config.get_text_config().decoder_start_token_id
        inputs["decoder_input_ids"] = _stack(
            [[start] for _ in answers], [answer[:-1] for answer in answers], self._pad
        )
        labels = _stack([[]] * len(answers), answers, IGNORE)
        return self._batch(inputs, labels, is_shifted=True)

    def _batch(
        self, inputs: Mapping[str, Tensor], labels: Tensor, *, is_shifted: bool = False
    ) -> LabelledBatch:
        return LabelledBatch(
            model=self._vlm.model, inputs=inputs, labels=labels, is_shifted=is_shifted
        )

    @property
    def _pad(self) -> int:
        pad = self._vlm.model.generation_config.pad_token_id
        return self.turn.end if pad is None else pad

    def _ids(self, text: str) -> list[int]:
        return self._tokenizer(text, add_special_tokens=False)["input_ids"]


def read_turn(vlm: LoadedVlm) -> Turn:
    """Find what stands before and behind an answer.

    Raises:
        ModelError: no token ends an answer.
    """
    if not vlm.end_tokens:
        raise ModelError(
            f"captioner: a {vlm.model_type!r} model must have a token that ends an answer, got "
            "none; set eos_token_id in its generation_config.json"
        )
    lead, tail = _render_answer(vlm) if vlm.family.prompt == "chat" else ("", "")
    tokenizer = vlm.processor.tokenizer
    named = [t for t in vlm.end_tokens if tail.startswith(tokenizer.convert_ids_to_tokens(t))]
    usual = [t for t in vlm.end_tokens if t == tokenizer.eos_token_id]
    return Turn(lead=lead, end=[*named, *usual, *vlm.end_tokens][0])


def _render_answer(vlm: LoadedVlm) -> tuple[str, str]:
    """Give what the chat template writes before and behind an answer; "" where it cannot say."""
    user = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "?"}]}
    answer = {"role": "assistant", "content": [{"type": "text", "text": _MARKER}]}
    render = vlm.processor.apply_chat_template
    prompt: str = render([user], add_generation_prompt=True, tokenize=False)
    try:
        whole: str = render([user, answer], tokenize=False)
    except TemplateError:  # a template for questions only
        return "", ""
    if not whole.startswith(prompt) or _MARKER not in whole[len(prompt) :]:
        return "", ""
    lead, _, tail = whole[len(prompt) :].partition(_MARKER)
    return lead, tail.lstrip()


def _stack(starts: Sequence[Sequence[int]], ends: Sequence[Sequence[int]], pad: int = 0) -> Tensor:
    """Join starts and ends, padded on the right: [B, T] int64."""
    rows = [[*start, *end] for start, end in zip(starts, ends, strict=True)]
    longest = max(len(row) for row in rows)
    return torch.tensor([row + [pad] * (longest - len(row)) for row in rows])
