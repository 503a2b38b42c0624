"""Give features of pictures of any one size: patch tokens of a vision model, or one vector each.

Patch tokens are what REPA aligns a backbone's hidden states with, so the grid of patches is that of
the backbone's tokens: a picture is made smaller or larger until one patch covers as many of its
pixels as one token of the backbone does (256 px and patches of 14: 224 px, 16 x 16 tokens).
Source: REPA (Yu et al. 2024, arXiv 2410.06940), sihyun-yu/REPA train.py, preprocess_raw_image.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel
from transformers.utils.logging import disable_progress_bar

from curate.core.errors import ModelError
from curate.models.clip import ImageTextModel, load_image_text
from curate.models.packs import ModelRef
from curate.models.weights import read_json


class PictureFeatures(Protocol):
    """Give each picture's features; frozen."""

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed RGB pictures [B, H, W, 3]: [B, N, D] or [B, D], float32."""
        ...


class PooledFeatures:
    """Give the picture embedding of an image-text model: [B, D], L2-normalised."""

    def __init__(self, model: ImageTextModel) -> None:
        self._model = model

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self._model.embed_images([Image.fromarray(one) for one in pixels])


class PatchFeatures:
    """Give the patch tokens of a vision model of transformers: [B, N, D], row by row."""

    def __init__(
        self,
        network: Any,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        token_px: int,
        device: str,
    ) -> None:
        """Hold the network.

        Args:
            network: gives `last_hidden_state`, patches last; float32.
            mean: of RGB in [0, 1], as the network was trained.
            std: likewise.
            token_px: pixels of a picture's side that one patch shall cover.
            device: where to run.
        """
        self._network = network.eval().requires_grad_(False).to(device)
        self._patch = _side(network.config.patch_size)
        self._mean = torch.tensor(mean, device=device)[:, None, None]
        self._std = torch.tensor(std, device=device)[:, None, None]
        self._token_px = token_px
        self._device = device
        takes = inspect.signature(network.forward).parameters
        # DINOv2 always fits its positions to the picture, others when they are told to.
        name = "interpolate_pos_encoding"
        self._options: Mapping[str, bool] = {name: True} if name in takes else {}

    @torch.inference_mode()
    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        rows, columns = (max(1, round(side / self._token_px)) for side in pixels.shape[1:3])
        values = self._prepare(pixels, rows * self._patch, columns * self._patch)
        hidden = self._network(pixel_values=values, **self._options).last_hidden_state
        count = rows * columns
        return hidden[:, -count:].float().cpu().numpy()  # [B, N, D], without class and registers

    def _prepare(self, pixels: NDArray[np.uint8], height: int, width: int) -> Tensor:
        given = torch.from_numpy(np.ascontiguousarray(pixels)).to(self._device)
        values = given.permute(0, 3, 1, 2).float() / 255.0  # [B, 3, H, W]
        values = (values - self._mean) / self._std
        return nn.functional.interpolate(
            values, (height, width), mode="bicubic", align_corners=False, antialias=True
        )


def load_pooled_features(ref: ModelRef, device: str) -> PooledFeatures:
    """Load the image-text model whose picture embedding is wanted."""
    return PooledFeatures(load_image_text(ref, device=device))


def load_patch_features(ref: ModelRef, device: str, token_px: int) -> PatchFeatures:
    """Load a vision model of transformers (DINOv2, ViT, SigLIP, ...) from a local folder.

    Args:
        ref: of kind "vision".
        device: where to run.
        token_px: see `PatchFeatures`.

    Raises:
        ModelError: another kind; the folder lacks a file, needs code of its own or does not load.
    """
    if ref.kind != "vision":
        raise ModelError(f"features: kind must be 'vision', got {ref.kind!r}; choose that")
    folder = ref.paths[0]
    if "auto_map" in read_json(folder / "config.json"):
        raise ModelError(
            f"{folder}/config.json: must be of a class in transformers, got auto_map to code that "
            "comes with the weights, which is never run; choose another model"
        )
    said = read_json(folder / "preprocessor_config.json")
    disable_progress_bar()  # its bar for 100 ms of loading would break the run's progress line
    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        config: Any = AutoConfig.from_pretrained(folder, **local)
        network, loading = AutoModel.from_pretrained(
            folder,
            config=getattr(config, "vision_config", config),
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
            **local,
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"{folder}: must load as a vision model of transformers, got {reason!r}; give a folder "
            "that save_pretrained wrote, with safetensors"
        ) from error
    if missing := sorted(loading["missing_keys"]):
        raise ModelError(
            f"{folder}: must hold all weights of the vision model, got none for {missing[0]}; use "
            "a whole checkpoint"
        )
    mean, std = (tuple(said.get(name) or ()) for name in ("image_mean", "image_std"))
    if len(mean) != 3 or len(std) != 3 or not hasattr(network.config, "patch_size"):
        raise ModelError(
            f"{folder}: must have image_mean and image_std of 3 numbers and patches, got {mean}, "
            f"{std} and {type(network).__name__}; choose a vision transformer"
        )
    return PatchFeatures(network, mean, std, token_px, device)


def _side(patch_size: Any) -> int:
    return int(patch_size if isinstance(patch_size, int) else patch_size[0])
