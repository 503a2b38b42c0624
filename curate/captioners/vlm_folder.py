"""Load a vision-language model and its processor from a folder that transformers wrote.

Nothing is fetched and no code of the folder runs: local files, safetensors, no remote code. What
does not fit together is refused here, in one line, before any picture is captioned.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers import AutoModelForImageTextToText, AutoProcessor, GenerationConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
from transformers.utils.logging import disable_progress_bar

from curate.captioners.captioner import Provenance
from curate.captioners.vlm_families import Family, find_family, read_model_type
from curate.core.errors import ModelError
from curate.core.model_ref import ModelRef
from curate.models.hub import HubModel

_WEIGHT_SUFFIXES = (".safetensors", ".safetensors.index.json")
_MODEL_CONFIGS = ("config.json", "generation_config.json")
_PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedVlm:
    """Hold a model that answers, and what prepares its input.

    Args:
        model: of transformers, in inference mode, on its device.
        processor: of transformers.
        family: how it wants to be asked.
        end_tokens: any of them ends an answer.
    """

    model: Any
    processor: Any
    family: Family
    end_tokens: tuple[int, ...]

    @property
    def model_type(self) -> str:
        """Give transformers' name of the class, e.g. "qwen2_vl"."""
        return self.model.config.model_type


def load_vlm(folder: Path) -> LoadedVlm:
    """Load what `save_pretrained` of model and processor wrote.

    Raises:
        ModelError: the folder lacks safetensors or a processor, holds another kind of model, or is
            damaged.
    """
    _check_folder(folder)
    disable_progress_bar()  # a bar per model and worker would drown the run's own progress line
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    auto: Any = AutoModelForImageTextToText
    try:
        processor = AutoProcessor.from_pretrained(folder, **local)
        model, found = auto.from_pretrained(
            folder, use_safetensors=True, dtype=dtype, output_loading_info=True, **local
        )
    except (OSError, ValueError, ImportError, KeyError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"{folder}: must load as a transformers image-text-to-text model, got {reason!r}; "
            "give the folder that save_pretrained of model and processor wrote"
        ) from error
    if found["missing_keys"]:
        raise ModelError(
            f"{folder}: must hold every weight of a {model.config.model_type!r} model, got no "
            f"{min(found['missing_keys'])}; fetch the model again"
        )
    family = find_family(model.config.model_type)
    _check_processor(folder, family, processor, model.config.model_type)
    generation, end_tokens = _plan_generation(model, processor)
    model.generation_config = generation
    if hasattr(model, "text_decoder"):  # BLIP's, which generates by itself
        model.text_decoder.generation_config = generation
    return LoadedVlm(
        model=model.to(device).eval(),
        processor=processor,
        family=family,
        end_tokens=end_tokens,
    )


def local_provenance(ref: ModelRef, model: Any, model_type: str) -> Provenance:
    """Name a model of transformers that runs in this process.

    Args:
        ref: its folder; settings of a hub's model give name and commit.
        model: as loaded.
        model_type: transformers' name of its class.
    """
    folder = ref.paths[0]
    hub = ref.settings if isinstance(ref.settings, HubModel) else None
    return Provenance(
        backend="transformers",
        model=hub.name if hub else f"{model_type}/{folder.name}",
        revision=hub.commit if hub else "",
        model_digest=digest_folder(folder, of_weights=True),
        processor_digest=digest_folder(folder, of_weights=False),
        dtype=str(model.dtype).removeprefix("torch."),
        version=transformers.__version__,
    )


@functools.lru_cache(maxsize=8)
def digest_folder(folder: Path, *, of_weights: bool) -> str:
    """Hash names and contents of the model's files, or of all the other (the processor's)."""
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.iterdir() if path.is_file()):
        is_weight = file.name.endswith(_WEIGHT_SUFFIXES) or file.name in _MODEL_CONFIGS
        if is_weight == of_weights and file.suffix != ".md":
            digest.update(file.name.encode() + b"\0")
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def _check_folder(folder: Path) -> None:
    """Find what is missing before transformers does: its own search imports every class it has."""
    model_type = read_model_type(folder)
    if not any(folder.glob("*.safetensors")):
        pickles = [file.name for pattern in _PICKLES for file in folder.glob(pattern)]
        found = f"the pickle {pickles[0]}" if pickles else "none"
        raise ModelError(
            f"{folder}: must hold *.safetensors, got {found}; save the model with save_pretrained"
        )
    if model_type not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        raise ModelError(
            f"{folder / 'config.json'}: model_type must be an image-text-to-text type of "
            f"transformers, got {model_type!r}; give the folder of another model"
        )
    if not any((folder / name).is_file() for name in _PROCESSOR_FILES):
        raise ModelError(
            f"{folder}: must hold {' or '.join(_PROCESSOR_FILES)}, got none; "
            "save the processor into the same folder"
        )


def _check_processor(folder: Path, family: Family, processor: Any, model_type: str) -> None:
    if getattr(processor, "tokenizer", None) is None:
        raise ModelError(
            f"{folder}: must hold the tokenizer of a {model_type!r} model, got a processor "
            "without one; save the processor into the same folder"
        )
    if family.prompt == "chat" and not processor.chat_template:
        raise ModelError(
            f"{folder}: model type {model_type!r} must come with a chat template, got none; "
            "add chat_template.jinja or a line to FAMILIES in curate/captioners/vlm_families.py"
        )


def _plan_generation(model: Any, processor: Any) -> tuple[GenerationConfig, tuple[int, ...]]:
    """Keep the folder's token ids and none of its sampling, beams, penalties or forced ends.

    A forced end token (BART's, so Florence-2's) would make a caption that was cut off look whole.
    """
    own = model.generation_config
    ends = own.eos_token_id if own.eos_token_id is not None else processor.tokenizer.eos_token_id
    if model.config.model_type == "blip":  # its `generate` stops there, whatever the config says
        ends = model.config.text_config.sep_token_id
    end_tokens = (ends,) if isinstance(ends, int) else tuple(ends or ())
    pad = next(
        (t for t in (own.pad_token_id, processor.tokenizer.pad_token_id) if t is not None),
        end_tokens[0] if end_tokens else None,
    )
    plain = GenerationConfig(
        do_sample=False,
        num_beams=1,
        bos_token_id=own.bos_token_id,
        eos_token_id=list(end_tokens) or None,
        pad_token_id=pad,
        decoder_start_token_id=own.decoder_start_token_id,
        forced_bos_token_id=own.forced_bos_token_id,
    )
    return plain, end_tokens
