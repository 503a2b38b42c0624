"""Load a language model and its tokenizer from a folder that transformers wrote.

As in vlm_folder.py nothing is fetched and no code of the folder runs: local files, safetensors, no
remote code. The tokenizer must bring a chat template: a model that was never taught to follow
instructions goes on with the instruction instead of following it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils.logging import disable_progress_bar

from curate.captioners.vlm_families import read_model_type
from curate.core.errors import ModelError


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedLm:
    """Hold a model that answers, and what prepares its input.

    Args:
        model: of transformers, in inference mode, on its device.
        tokenizer: of transformers, padding on the left.
        end_tokens: any of them ends an answer.
        max_tokens: of prompt and answer together; 0 if the model does not say.
    """

    model: Any
    tokenizer: Any
    end_tokens: tuple[int, ...]
    max_tokens: int


def load_lm(folder: Path) -> LoadedLm:
    """Load what `save_pretrained` of model and tokenizer wrote.

    Raises:
        ModelError: the folder lacks safetensors, a tokenizer or a chat template, holds another kind
            of model, or is damaged.
    """
    _check_folder(folder)
    disable_progress_bar()  # a bar per model and worker would drown the run's own progress line
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, **local)
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder, use_safetensors=True, dtype=dtype, **local
        )
    except (OSError, ValueError, ImportError, KeyError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"{folder}: must load as a transformers language model, got {reason!r}; give the "
            "folder that save_pretrained of model and tokenizer wrote"
        ) from error
    if not tokenizer.chat_template:
        raise ModelError(
            f"{folder}: must come with a chat template, got none; give an instruction-tuned model"
        )
    end_tokens = _settle(model, tokenizer)
    return LoadedLm(
        model=model.to(device).eval(),
        tokenizer=tokenizer,
        end_tokens=end_tokens,
        max_tokens=int(getattr(model.config, "max_position_embeddings", 0) or 0),
    )


def _check_folder(folder: Path) -> None:
    """Find what is missing before transformers does: its own search imports every class it has."""
    model_type = read_model_type(folder)
    if not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"{folder}: must hold *.safetensors, got none; save the model with save_pretrained"
        )
    if model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise ModelError(
            f"{folder / 'config.json'}: model_type must be a causal language model's of "
            f"transformers, got {model_type!r}; give the folder of another model"
        )
    if not (folder / "tokenizer.json").is_file() and not any(folder.glob("*.model")):
        raise ModelError(
            f"{folder}: must hold tokenizer.json or a sentencepiece *.model, got neither; save the "
            "tokenizer into the same folder"
        )


def _settle(model: Any, tokenizer: Any) -> tuple[int, ...]:
    """Keep the folder's token ids and none of its sampling, beams or penalties; give the ends."""
    own = model.generation_config
    ends = own.eos_token_id if own.eos_token_id is not None else tokenizer.eos_token_id
    end_tokens = (ends,) if isinstance(ends, int) else tuple(ends or ())
    tokens = (tokenizer.pad_token_id, own.pad_token_id, *end_tokens, 0)
    pad = next(token for token in tokens if token is not None)  # masked, so that any will do
    tokenizer.padding_side = "left"  # the answer goes on where the prompt ends
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(pad)
    model.generation_config = GenerationConfig(
        do_sample=False,
        num_beams=1,
        bos_token_id=own.bos_token_id,
        eos_token_id=list(end_tokens) or None,
        pad_token_id=pad,
    )
    return end_tokens
