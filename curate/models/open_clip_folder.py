"""Open and write the folder of an open_clip model, and say which model it is.

    open_clip_config.json          model_cfg, preprocess_cfg; `latentmill.name` if we wrote it
    open_clip_model.safetensors    both towers
    tokenizer files                for a Hugging Face tokenizer ("hf_tokenizer_name")

The layout is open_clip's own (`local-dir:`), so folders saved from a hub open as they are, whatever
architecture they name. open_clip resolves tokenizers relative to the folder.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import open_clip
import torch
from PIL import Image
from torch import Tensor, nn

from curate.core.errors import ModelError
from curate.models.pack_file import refuse_pickle
from curate.models.packs import ModelRef
from curate.models.weights import check_shapes, read_json, read_tensors, write_tensors

CONFIG_NAME = "open_clip_config.json"  # open_clip's own file names
WEIGHTS_NAME = "open_clip_model.safetensors"
_OWN = "latentmill"  # our part of the config; open_clip reads the two it knows


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenClip:
    """Hold the parts of an open_clip model; `tokenizer(texts)` gives int64 [N, context_length]."""

    network: nn.Module
    preprocess: Callable[[Image.Image], Tensor]
    tokenizer: Callable[..., Tensor]


def load_open_clip(folder: Path) -> OpenClip:
    """Load network, preprocessing and tokenizer from a folder; no hub, no pickle.

    Raises:
        ModelError: a file is missing, or weights do not fit the config.
    """
    config = _read_config(folder)
    _refuse_pickles(folder)
    tensors, _ = read_tensors(folder / WEIGHTS_NAME)
    source = f"local-dir:{folder}"
    # Not by open_clip's own loader: it takes pickles too, and only warns if none is there.
    with _loading_own_weights():
        try:
            network, _, preprocess = open_clip.create_model_and_transforms(
                source, load_weights=False, pretrained_image=False, pretrained_text=False
            )
        except (ValueError, TypeError, KeyError, RuntimeError, AssertionError) as error:
            raise ModelError(
                f"{folder / CONFIG_NAME}: model_cfg must be one that open_clip builds, got "
                f"{type(error).__name__} {str(error).splitlines()[0] if str(error) else ''}; "
                f"it has {sorted(config['model_cfg'])}"
            ) from error
    check_shapes(folder / WEIGHTS_NAME, tensors, network)
    network.load_state_dict(tensors)
    tokenizer = open_clip.get_tokenizer(source)
    return OpenClip(
        network=network.eval(),
        preprocess=cast("Callable[[Image.Image], Tensor]", preprocess),
        tokenizer=cast("Callable[..., Tensor]", tokenizer),
    )


def write_open_clip(
    folder: Path, architecture: str, pretrained: str, tensors: Mapping[str, Tensor], source: str
) -> None:
    """Write a folder that `load_open_clip` reads; weights in the precision they came in.

    Args:
        folder: made if need be.
        architecture: open_clip's name of it, e.g. "ViT-B-32".
        pretrained: open_clip's tag of the weights, e.g. "openai", which says how pictures are
            prepared; "" takes open_clip's defaults.
        tensors: the state dict.
        source: sha256 of the file they come from.

    Raises:
        ModelError: open_clip does not know the architecture or the tag, or the tensors do not fit.
    """
    model_cfg, preprocess_cfg = known_config(architecture, pretrained)
    with _loading_own_weights(), torch.device("meta"):
        network = open_clip.create_model(
            architecture,
            pretrained=None,
            pretrained_text=False,
            force_quick_gelu=bool(model_cfg.get("quick_gelu")),
            device="meta",  # shapes are enough
        )
    check_shapes(folder, tensors, network)
    name = f"{architecture}/{pretrained}" if pretrained else architecture
    config = {
        "model_cfg": model_cfg,
        "preprocess_cfg": preprocess_cfg,
        _OWN: {"name": name, "source_sha256": source},
    }
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(config, indent=2, sort_keys=True)
    (folder / CONFIG_NAME).write_text(text + "\n", encoding="utf-8")
    about = {"model": name, "source_sha256": source}
    is_half = all(tensor.dtype in (torch.float16, torch.int64) for tensor in tensors.values())
    dtype = torch.float16 if is_half else torch.float32
    write_tensors(folder / WEIGHTS_NAME, tensors, about, dtype=dtype)


def known_config(architecture: str, pretrained: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Give (model_cfg, preprocess_cfg) as open_clip has them built in.

    Raises:
        ModelError: it does not know the architecture or the tag.
    """
    model_cfg = open_clip.get_model_config(architecture)
    if model_cfg is None:
        near = [name for name in open_clip.list_models() if name[:3] == architecture[:3]][:5]
        raise ModelError(
            f"model: must be an architecture of open_clip, got {architecture!r}; "
            f"see open_clip.list_models(), e.g. {', '.join(near or ['ViT-B-32'])}"
        )
    if not pretrained:
        return dict(model_cfg), {}
    known = open_clip.get_pretrained_cfg(architecture, pretrained)
    if not known:
        tags = open_clip.list_pretrained_tags_by_model(architecture)
        raise ModelError(
            f"pretrained: must be among open_clip's tags of {architecture} "
            f"({', '.join(tags)}), got {pretrained!r}; choose one"
        )
    quick = {"quick_gelu": True} if known.get("quick_gelu") else {}
    fields = ("mean", "std", "interpolation", "resize_mode")
    return dict(model_cfg) | quick, {name: known[name] for name in fields if known.get(name)}


def openai_programs() -> dict[str, str]:
    """Give the sha256 of the archives that OpenAI publishes: digest -> architecture.

    Source: OpenAI puts the digest into the address, which open_clip lists.
    """
    found: dict[str, str] = {}
    for architecture in open_clip.list_models():
        url = str(open_clip.get_pretrained_cfg(architecture, "openai").get("url", ""))
        if "openaipublic" in url and not architecture.endswith("-quickgelu"):
            found[url.split("/")[-2]] = architecture
    return found


def name_of(ref: ModelRef) -> str:
    """Give the model's name for reports, e.g. "open_clip:ViT-B-32/openai"."""
    folder = ref.paths[0]
    own = _read_config(folder).get(_OWN, {})
    return f"open_clip:{own.get('name') or f'{folder.parent.name}/{folder.name}'}"


def is_model(ref: ModelRef, name: str) -> bool:
    """Tell whether a folder says that it holds the named model, e.g. "ViT-L-14/openai".

    One that names none is no model's: MetaCLIP and DFN have OpenAI's architectures, QuickGELU too.
    """
    return ref.kind == "open_clip" and _read_config(ref.paths[0]).get(_OWN, {}).get("name") == name


def say_how_to_name(ref: ModelRef, name: str) -> str:
    """Say how a folder that may hold the named model is made to say so; "" for any other one."""
    folder = ref.paths[0]
    architecture, _, pretrained = name.partition("/")
    if ref.kind != "open_clip" or open_clip.get_model_config(architecture) is None:
        return ""
    config = _read_config(folder)
    wanted, _ = known_config(architecture, pretrained)
    if config.get(_OWN, {}).get("name") or not _is_part(wanted, config["model_cfg"]):
        return ""
    options = f"model={architecture}" + (f" pretrained={pretrained}" if pretrained else "")
    return (
        f"run `curate convert-weights {folder / WEIGHTS_NAME} OUT {options}`, which writes it, "
        f"or add {json.dumps({_OWN: {'name': name}})[1:-1]} if you know that it is that model"
    )


def _is_part(wanted: Mapping[str, Any], got: Mapping[str, Any]) -> bool:
    """Tell whether all fields of `wanted`, nested ones too, have the same value in `got`."""
    if bool(wanted.get("quick_gelu")) != bool(got.get("quick_gelu")):
        return False
    return all(
        _is_part(value, got.get(name, {})) if isinstance(value, dict) else got.get(name) == value
        for name, value in wanted.items()
    )


def _refuse_pickles(folder: Path) -> None:
    """Name the pickle that lies where the weights should."""
    if not (folder / WEIGHTS_NAME).exists():
        for path in sorted(folder.iterdir()):
            refuse_pickle(path, str(folder / WEIGHTS_NAME), f"{folder} model=NAME")


def _read_config(folder: Path) -> dict[str, Any]:
    config = read_json(folder / CONFIG_NAME)
    if not isinstance(config.get("model_cfg"), dict):
        raise ModelError(f"{folder / CONFIG_NAME}: must have model_cfg, got {sorted(config)}")
    return config


@contextlib.contextmanager
def _loading_own_weights() -> Generator[None]:
    """Silence open_clip's warning of random weights: the folder's are loaded right after."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(previous)
