"""Load a text encoder of transformers and its tokenizer from local folders; no hub, no remote code.

A reference has one folder that holds both, or two, as diffusers' pipelines have them:
`text_encoder_2` and `tokenizer_2`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from curate.core.errors import ModelError
from curate.models.packs import ModelRef
from curate.models.weights import read_json

# One of these holds the vocabulary; without any, transformers 5 silently makes an empty one.
_VOCABULARIES = (
    "tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "spm.model",
    "sentencepiece.bpe.model",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFolder:
    """Hold what was loaded.

    Args:
        tokenizer: of transformers.
        network: of transformers, float32, frozen, on its device.
        name: of the class and the folder, for reports.
        max_tokens: the tokenizer's and the network's limit, or `limit` where neither has one.
        device: where it runs.
    """

    tokenizer: Any
    network: Any
    name: str
    max_tokens: int
    device: str


def load_text_folder(
    ref: ModelRef, classes: Mapping[str, Any], device: str, limit: int
) -> TextFolder:
    """Load network and tokenizer.

    Args:
        ref: the folders.
        classes: architecture or model type as config.json names it -> the class that loads it;
            "*" is for any other.
        device: "cpu" or "cuda".
        limit: most tokens where the folder names no smaller number.

    Raises:
        ModelError: a file is missing, the class is not listed, or weights do not fit.
    """
    folder, words = ref.paths[0], ref.paths[-1]
    network_class = _find_class(folder, classes)
    if not any((words / name).is_file() for name in _VOCABULARIES):
        raise ModelError(
            f"{words}: must hold the tokenizer's vocabulary, got none of "
            f"{', '.join(_VOCABULARIES)}; name its folder as second path"
        )
    disable_progress_bar()  # its bar for 100 ms of loading would break the run's progress line
    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(words, **local)
        network, loading = network_class.from_pretrained(
            folder, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **local
        )
    except (OSError, ValueError, ImportError, KeyError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"{folder}: must load as {ref.kind!r} text encoder, got {reason!r}; give folders that "
            "save_pretrained wrote, with safetensors"
        ) from error
    if missing := sorted(loading["missing_keys"]):
        raise ModelError(
            f"{folder}: must hold all weights of the text encoder, got none for {missing[0]}; "
            "use a whole checkpoint"
        )
    positions = getattr(network.config, "max_position_embeddings", None) or limit
    return TextFolder(
        tokenizer=tokenizer,
        network=network.eval().requires_grad_(False).to(device),
        name=f"{type(network).__name__}:{folder.parent.name}/{folder.name}",
        max_tokens=min(limit, positions, tokenizer.model_max_length),
        device=device,
    )


def _find_class(folder: Path, classes: Mapping[str, Any]) -> Any:
    config = read_json(folder / "config.json")
    if "auto_map" in config:
        raise ModelError(
            f"{folder}/config.json: must be of a class in transformers, got auto_map to code that "
            "comes with the weights, which is never run; choose another model"
        )
    names = [*(config.get("architectures") or []), str(config.get("model_type"))]
    found = [classes[name] for name in (*names, "*") if name in classes]
    if not found:
        raise ModelError(
            f"{folder}/config.json: must be one of {', '.join(classes)}, got {', '.join(names)}; "
            "choose another kind"
        )
    return found[0]
