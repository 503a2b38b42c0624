"""Say what a captioner is, what it is asked, and which loader reads which kind of model.

`TEMPLATES` holds the instruction behind each caption style, with an id and a version that travel
with every caption: change the words, raise the version. `CAPTIONERS` maps the kind of a `ModelRef`
to a builder that imports its library only when called; torch is not imported here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from PIL import Image

from curate.core.errors import ModelError
from curate.core.model_ref import ModelRef

FinishReason = Literal["stop", "length", "error"]
CAPTIONER_ERROR = "captioner_error"
SamplingValue = str | int | float | bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """Hold the instruction of one caption style."""

    id: str
    version: int
    text: str
    max_new_tokens: int

    @property
    def name(self) -> str:
        """Give id and version as one string, e.g. "detailed-v1"."""
        return f"{self.id}-v{self.version}"


# Token limits chosen by us: a short caption is one sentence (about 10 words in COCO), so 48 do;
# detailed ones of large models have 826 to 942 characters on average (ShareGPT4V, arXiv 2311.12793,
# table 1), some 200 tokens; `judge` rejects those that 256 cuts off.
TEMPLATES: Mapping[str, Template] = {
    "short": Template(
        id="short",
        version=1,
        text="Describe this image in one short sentence.",
        max_new_tokens=48,
    ),
    "detailed": Template(
        id="detailed",
        version=1,
        text="Describe this image in detail.",
        max_new_tokens=256,
    ),
}


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


def load_captioner(ref: ModelRef) -> Captioner:
    """Load the captioner that `ref` points at.

    Raises:
        ModelError: the kind is not in `CAPTIONERS`, or the files cannot be loaded.
    """
    if ref.kind not in CAPTIONERS:
        kinds = ", ".join(CAPTIONERS)
        raise ModelError(f"captioner: kind must be one of {kinds}, got {ref.kind!r}; choose one")
    return CAPTIONERS[ref.kind](ref)


def find_template(style: str) -> Template:
    """Give the template of a style.

    Raises:
        ValueError: the style is not in `TEMPLATES`.
    """
    if style not in TEMPLATES:
        known = ", ".join(TEMPLATES)
        raise ValueError(f"styles: must be of {known}, got {style!r}; choose one or more of them")
    return TEMPLATES[style]


def _build_vlm(ref: ModelRef) -> Captioner:
    from curate.captioners.vlm import VlmCaptioner

    return VlmCaptioner(ref)


def _build_imagenet_classes(ref: ModelRef) -> Captioner:
    from curate.captioners.classes import ClassCaptioner

    return ClassCaptioner(ref)


CAPTIONERS: Mapping[str, Callable[[ModelRef], Captioner]] = {
    "vlm": _build_vlm,
    "imagenet_classes": _build_imagenet_classes,
}
