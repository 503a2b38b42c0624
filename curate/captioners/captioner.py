"""Say what a captioner is asked and what it gives back: one attempt for every request.

    CaptionRequest (picture, template, alt text, seed) -> Captioner -> CaptionAttempt (raw text)

Nothing is judged here: rules on the text are the stage judge's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from PIL import Image

from curate.captioners.instructions import Template
from curate.core.errors import ModelError

FinishReason = Literal["stop", "length", "content_filter", "error"]
CUT_OFF: tuple[FinishReason, ...] = ("length", "content_filter")
"""Ends that leave a text unfinished."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionRequest:
    """Ask for one caption of one picture.

    Args:
        key: of the sample, for messages.
        image: RGB, upright, cut to what is trained on; any size.
        template: what is asked.
        alt: the sample's alt text; only templates that use it see it.
        draft: an earlier caption of the picture, for templates that rewrite one.
        seed: of the sampler, derived by the caller from (seed, "caption", key, template, number).
    """

    key: str
    image: Image.Image
    template: Template
    alt: str = ""
    draft: str = ""
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionAttempt:
    """Hold what a captioner answered, whatever it is worth.

    Args:
        text_raw: what the model wrote, special tokens removed; of an error, what it said.
        prompt: the instruction as the model got it, rendered by its processor.
        finish_reason: "stop" when the model ended by itself, "length" when it was cut off,
            "content_filter" when a server's filter took the rest, "error" when it failed on the
            request.
        num_prompt_tokens: tokens of the prompt, those of the picture among them; 0 if unknown.
        num_visual_tokens: tokens of the picture; 0 if unknown.
        num_tokens: tokens written, the end token included; 0 if unknown.
        mean_logprob: of the tokens written, natural logarithm; None if unknown.
        image_height: pixels to which the model's processor brought the picture; 0 if unknown.
        image_width: likewise.
        model_reported: what a server says answered; "" for local models.
        answer_id: a server's own name of its answer, to find it in its log; "" for local models.
        image_height: of the picture as it was sent; 0 if that is the request's.
        image_width: likewise.
        latency_s: from asking to the answer; of a batch, its time over its requests.
        batch_size: requests answered together.
    """

    text_raw: str
    prompt: str
    finish_reason: FinishReason
    num_prompt_tokens: int = 0
    num_visual_tokens: int = 0
    num_tokens: int = 0
    mean_logprob: float | None = None
    image_height: int = 0
    image_width: int = 0
    model_reported: str = ""
    answer_id: str = ""
    image_height: int = 0
    image_width: int = 0
    latency_s: float = 0.0
    batch_size: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Set how a model chooses its words; the default is greedy.

    Args:
        temperature: 0 takes the likeliest token.
        top_p: share of the probability that is sampled from; used above temperature 0.
        repetition_penalty: of tokens that were written, by a factor; 1 is none.
        presence_penalty: of tokens that were written, by subtraction; 0 is none.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Name what answers, for the table and for the attempt's key.

    Args:
        backend: "transformers", "openai", "imagenet_classes", "toy_oracle".
        model: type and folder name, hub name, or the name a server knows.
        revision: commit of a hub model; "" for folders and servers.
        model_digest: sha256 of the weights; "" for servers.
        processor_digest: sha256 of tokenizer, template and image processor files; "" if none.
        dtype: of the weights, e.g. "float32"; "" if unknown.
        version: of the library or server that runs the model.
    """

    backend: str
    model: str
    revision: str = ""
    model_digest: str = ""
    processor_digest: str = ""
    dtype: str = ""
    version: str = ""


class Captioner(Protocol):
    """Write captions of pictures."""

    @property
    def provenance(self) -> Provenance:
        """Name the model that answers."""
        ...

    def caption(
        self, requests: Sequence[CaptionRequest], sampling: Sampling
    ) -> list[CaptionAttempt]:
        """Answer every request, in order.

        A request that fails by itself becomes an attempt with finish_reason "error"; what would
        fail every request (no server, no memory) is raised.

        Raises:
            CaptionerLost: nothing more can be asked; it holds what was answered.
        """
        ...


class CaptionerLost(ModelError):
    """Report that nothing more can be asked: a server is gone or refuses all.

    Args:
        message: one line.
        answered: the attempts that were made before, by the position of their request, so that
            none of them need be paid for twice.
    """

    def __init__(self, message: str, answered: Mapping[int, CaptionAttempt] | None = None) -> None:
        super().__init__(message)  # alone: an error is pickled by these arguments and its fields
        self.answered: Mapping[int, CaptionAttempt] = answered or {}


def failed_attempt(error: Exception, prompt: str = "") -> CaptionAttempt:
    """Record that the captioner failed on a request."""
    text = f"{type(error).__name__}: {error}"[:300]
    return CaptionAttempt(text_raw=text, prompt=prompt, finish_reason="error")
