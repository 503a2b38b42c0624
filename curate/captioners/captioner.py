"""Say what a captioner is and what it gives: attempts, the rejected ones too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from PIL import Image

from curate.captioners.instructions import TEMPLATES

FinishReason = Literal["stop", "length", "error"]
CAPTIONER_ERROR = "captioner_error"
SamplingValue = str | int | float | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionAttempt:
    """Hold one caption with all that made it, also when it was rejected.

    Args:
        style: "short" or "detailed".
        text_raw: what the model wrote, special tokens removed.
        text: `text_raw` without boilerplate; "" when there is nothing to keep.
        template: id and version of the instruction, e.g. "detailed-v1".
        prompt: the instruction as the model got it, rendered by its processor.
        sampling: the settings of the sampler.
        finish_reason: "stop" when the model ended by itself, "length" when it was cut off,
            "error" when it failed on the picture.
        num_tokens: tokens written, the end token included.
        status: "ok", the reject reason of `judge.judge_caption`, or "captioner_error".
    """

    style: str
    text_raw: str
    text: str
    template: str
    prompt: str
    sampling: Mapping[str, SamplingValue]
    finish_reason: FinishReason
    num_tokens: int
    status: str


def failed_attempt(style: str, error: Exception) -> CaptionAttempt:
    """Record that the captioner failed on a picture."""
    return CaptionAttempt(
        style=style,
        text_raw=f"{type(error).__name__}: {error}"[:300],
        text="",
        template=TEMPLATES[style].name,
        prompt="",
        sampling={},
        finish_reason="error",
        num_tokens=0,
        status=CAPTIONER_ERROR,
    )


class Captioner(Protocol):
    """Write captions of pictures."""

    @property
    def name(self) -> str:
        """Give the model's name, for the `model` column."""
        ...

    @property
    def model_digest(self) -> str:
        """Give the sha256 of the weights, for the `model_digest` column."""
        ...

    @property
    def processor_digest(self) -> str:
        """Give the sha256 of tokenizer and image processor files; "" when there are none."""
        ...

    def caption(self, images: Sequence[Image.Image], styles: Sequence[str]) -> list[CaptionAttempt]:
        """Caption every picture in every style.

        Args:
            images: RGB, any sizes.
            styles: names from `TEMPLATES`.

        Returns:
            len(images) * len(styles) attempts, image-major: all styles of the first picture first.
        """
        ...
