"""Count the tokens that a picture becomes: expected before it is prepared, and found after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from curate.core.errors import SAMPLE_FAULTS

Size = tuple[int, int]
"""Height and width in pixels."""


def expect_visual_tokens(
    processor: Any, sizes: Sequence[Size], options: Mapping[str, Any]
) -> list[int]:
    """Say how many tokens pictures of these sizes will become.

    Asked of the processor's own count, which transformers keeps for vLLM, or of its number of
    tiles. 0 where there is neither (then all pictures have as many), and of a size that the
    processor refuses: that picture fails alone.

    Args:
        processor: of transformers.
        sizes: of the pictures.
        options: for the image processor, as the pictures will be prepared.
    """
    known: dict[Size, int] = {}
    for size in sizes:
        if size not in known:
            known[size] = _count(processor, size, options)
    return [known[size] for size in sizes]


def _count(processor: Any, size: Size, options: Mapping[str, Any]) -> int:
    try:
        if hasattr(processor, "_get_num_multimodal_tokens"):
            found = processor._get_num_multimodal_tokens(image_sizes=[list(size)], **options)
            return int(found["num_image_tokens"][0])
        if hasattr(processor, "image_seq_len"):  # SmolVLM's: so many tokens a tile
            tiles, *_ = processor.image_processor.get_number_of_image_patches(*size, options)
            return max(1, int(tiles)) * processor.image_seq_len
    except SAMPLE_FAULTS:
        pass
    return 0


def count_visual_tokens(inputs: Mapping[str, Tensor], config: Any) -> list[int]:
    """Count the places of the picture in every prepared row.

    Args:
        inputs: of the model; `input_ids` [B, T] if it has a prompt.
        config: of the model.
    """
    if "input_ids" not in inputs:
        vision = config.vision_config
        per_row = (vision.image_size // vision.patch_size) ** 2 + 1  # patches and the class token
        return [per_row] * len(inputs["pixel_values"])
    token = find_image_token(config)
    return (inputs["input_ids"] == token).sum(1).tolist()


def find_image_token(config: Any) -> int:
    """Give the id of the token that stands for a part of a picture; -1 if the config names none."""
    for name in ("image_token_id", "image_token_index"):
        value = getattr(config, name, None)
        if isinstance(value, int):
            return value
    return -1


def find_given_sizes(
    inputs: Mapping[str, Tensor], config: Any, sizes: Sequence[Size]
) -> list[Size]:
    """Give the sizes to which the processor brought the pictures.

    Args:
        inputs: of the model: patches with `image_grid_thw` [B, 3], or `pixel_values` [B, C, H, W]
            or [B, tiles, C, H, W].
        config: of the model.
        sizes: of the pictures as they came, which stand where a picture is cut into tiles.
    """
    if "image_grid_thw" in inputs:
        patch = config.vision_config.patch_size
        return [(h * patch, w * patch) for _, h, w in inputs["image_grid_thw"].tolist()]
    pixels: torch.Tensor = inputs["pixel_values"]
    if pixels.ndim == 4 or pixels.shape[1] == 1:
        return [(pixels.shape[-2], pixels.shape[-1])] * len(sizes)
    return list(sizes)
