"""Turn pictures and prompts into a model's input with its own processor, all keys of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from curate.captioners.captioner import CaptionRequest
from curate.captioners.visual_tokens import Size, expect_visual_tokens
from curate.captioners.vlm_batches import Cost
from curate.captioners.vlm_folder import LoadedVlm

Inputs = Mapping[str, Tensor]

TRAINING_KEY = "labels"  # PaliGemma's processor returns them; all other keys are the model's


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Hold a request with its prompt as the processor gets it."""

    request: CaptionRequest
    prompt: str

    @property
    def size(self) -> Size:
        """Give the picture's height and width."""
        return self.request.image.height, self.request.image.width


def encode(vlm: LoadedVlm, asked: Sequence[Asked], image_options: Mapping[str, Any]) -> Inputs:
    """Prepare a batch in the model's dtype, on the CPU.

    Args:
        vlm: whose processor prepares.
        asked: the rows; pictures of any sizes.
        image_options: for the image processor, as `bound_pictures` gives them.
    """
    images: list[Any] = [one.request.image for one in asked]
    options: dict[str, Any] = {"images": images, "return_tensors": "pt", **image_options}
    if vlm.family.prompt != "none":
        options["images"] = [[image] for image in images]  # one a prompt
        options |= _text_options(vlm, [one.prompt for one in asked])
    inputs = vlm.processor(**options).to(dtype=vlm.model.dtype)
    return {name: value for name, value in inputs.items() if name != TRAINING_KEY}


def bound_pictures(vlm: LoadedVlm, max_pixels: int) -> dict[str, Any]:
    """Pin the area of pictures; a folder's own limit may be 16,384 tokens each.

    Args:
        vlm: of a family whose tokens grow with the picture, or any other: then nothing is set.
        max_pixels: of a picture as its processor hands it on.

    Returns:
        Options for the image processor.
    """
    key = vlm.family.max_pixels_key
    if not key:
        return {}
    size = dict(vlm.processor.image_processor.size)
    most = min(size[key], max_pixels)
    return {"size": {**size, "shortest_edge": min(size["shortest_edge"], most), key: most}}


def expect_costs(
    vlm: LoadedVlm, asked: Sequence[Asked], image_options: Mapping[str, Any]
) -> list[Cost]:
    """Say how long the rows will be, before any picture is prepared."""
    tokenize = vlm.processor.tokenizer
    lengths = {text: len(tokenize(text)["input_ids"]) for text in {one.prompt for one in asked}}
    visual = expect_visual_tokens(vlm.processor, [one.size for one in asked], image_options)
    return [
        Cost(
            prompt=lengths[one.prompt],
            visual=num_visual,
            answer=one.request.template.max_new_tokens,
        )
        for one, num_visual in zip(asked, visual, strict=True)
    ]


def _text_options(vlm: LoadedVlm, prompts: Sequence[str]) -> dict[str, Any]:
    options: dict[str, Any] = {
        "text": list(prompts),
        "padding": True,
        "padding_side": vlm.family.padding_side,
    }
    bos = vlm.processor.tokenizer.bos_token
    if bos and prompts[0].startswith(bos):
        # A template that writes <bos> itself would get a second one from the tokenizer.
        options["add_special_tokens"] = False
    return options
