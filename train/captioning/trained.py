"""Choose what of a vision-language model is trained: its linear layers by LoRA, or its weights.

The vision tower is found by the name that transformers gives it in every class of these families.
The output head is not adapted: it is as large as the vocabulary and often tied to the embeddings.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import nn

from curate.core.errors import ConfigError, ModelError
from curate.core.seed import derive_seed
from train.captioning.config import FitConfig, LoraOptions

# Source: the modeling files of transformers 5.23: LLaVA, PaliGemma and Florence-2 (vision_tower),
# Idefics3, SmolVLM and BLIP (vision_model), Qwen2/2.5/3-VL (visual), GIT (image_encoder).
VISION_PARTS = frozenset({"vision_tower", "vision_model", "visual", "image_encoder"})


def is_vision(name: str) -> bool:
    """Tell whether a module or parameter is of the vision tower."""
    return not VISION_PARTS.isdisjoint(name.split("."))


def adapt(model: Any, config: FitConfig, seed: int) -> Any:
    """Say by `requires_grad` what is trained, and put low-rank updates into place if asked for.

    Args:
        model: a transformers model; its modules change.
        config: of the fit.
        seed: of the updates' first weights.

    Returns:
        peft's wrapper of the model, which saves and merges the updates; None for "full".

    Raises:
        ModelError: the model has no vision tower by a known name.
        ConfigError: `lora.targets` names no layer, or peft is not installed.
    """
    if not any(is_vision(name) for name, _ in model.named_modules()):
        raise ModelError(
            f"captioner: fit-captioner must know the vision tower's name "
            f"({', '.join(sorted(VISION_PARTS))}), got a {model.config.model_type!r} without; "
            "add its name to train/captioning/trained.py"
        )
    if config.method == "lora":
        return _add_lora(model, choose_layers(model, config), config.lora, seed)
    model.float()  # updates of 2e-5 are lost in bfloat16's three digits
    for name, value in model.named_parameters():
        value.requires_grad_(config.tune_vision or not is_vision(name))
    return None


def choose_layers(model: Any, config: FitConfig) -> list[str]:
    """List the linear layers that get a low-rank update, by their full names.

    Raises:
        ConfigError: `lora.targets` names no layer.
    """
    head = getattr(model, "text_decoder", model).get_output_embeddings()  # BLIP hides its own
    trained = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and module is not head
        and (config.tune_vision or not is_vision(name))
    ]
    leaves = {name.rpartition(".")[2] for name in trained}
    wanted = set(config.lora.targets) or leaves
    if wanted - leaves:
        raise ConfigError(
            f"lora.targets: must be of {', '.join(sorted(leaves))}, "
            f"got {min(wanted - leaves)!r}; choose among them or leave it empty"
        )
    return [name for name in trained if name.rpartition(".")[2] in wanted]


def count_parameters(model: nn.Module) -> dict[str, int]:
    """Count what is trained, and all."""
    sizes = [(value.numel(), value.requires_grad) for value in model.parameters()]
    return {
        "num_trained": sum(size for size, is_trained in sizes if is_trained),
        "num_params": sum(size for size, _ in sizes),
    }


def _add_lora(model: Any, layers: list[str], options: LoraOptions, seed: int) -> Any:
    """Put low-rank updates beside the layers, in place; each starts as zero."""
    try:
        import peft
    except ImportError as error:
        raise ConfigError(
            "method: lora needs the package peft, got none; "
            "run `pip install latentmill[captioner]` or set method=full"
        ) from error
    lora = peft.LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,  # pyright: ignore[reportArgumentType]  # any scale does
        lora_dropout=options.dropout,
        target_modules=layers,
    )
    with torch.random.fork_rng(), warnings.catch_warnings():  # peft draws from torch's generator
        # peft 0.21 asks transformers 5.23 for a name that 6 drops; goes when peft asks for another.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        torch.manual_seed(derive_seed(seed, "lora") % 2**63)
        return peft.get_peft_model(model, lora)
