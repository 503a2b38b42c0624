"""Convert weights that others published into the files that our loaders read.

    file -> sha256 -> read safely (foreign.py, keras_saved.py) -> the recipe that fits
         -> safetensors with metadata, or an open_clip folder -> golden values beside it

The metadata says where the weights come from (`source`, `source_sha256`), what they are (`kind`),
whose embeddings a head takes (`image_text`) and that they must be normalised (`embedding`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from curate.core.errors import ModelError
from curate.core.model_ref import ModelRef
from curate.models.clip import load_open_clip_model
from curate.models.converting.foreign import file_sha256, read_foreign
from curate.models.converting.head_recipes import HEAD_RECIPES
from curate.models.converting.keras_saved import is_saved_model, read_keras_head
from curate.models.golden import write_golden
from curate.models.heads import load_head
from curate.models.linear_head import LinearHead, write_linear_head
from curate.models.mlp_head import MlpHead, write_mlp_head
from curate.models.open_clip_folder import openai_programs, write_open_clip
from curate.models.probes import probe_head, probe_image_text, probe_score, tolerances
from curate.models.weights import check_shapes, write_tensors

# Largest difference between a folded head and the layers it came from, on the golden embeddings;
# chosen by us: float32 of five layers strays by 1e-6 (reference: 1.1e-6 on 1,000 unit vectors).
FOLD_TOLERANCE = 1e-4
_NSFW_MODELS = {768: "ViT-L-14/openai", 512: "ViT-B-32/openai"}  # LAION's two heads, by width


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Say what to convert.

    Args:
        source: file, or folder of a SavedModel.
        out: safetensors file, or folder of an open_clip model.
        architecture: open_clip's name, for a CLIP model, e.g. "ViT-B-32".
        pretrained: open_clip's tag of the weights, e.g. "laion2b_s34b_b79k".
        image_text: for a head, the name of the model whose embeddings it takes.
    """

    source: Path
    out: Path
    architecture: str = ""
    pretrained: str = ""
    image_text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """Report what was written: the recipe, the kind for a pack file, and numbers worth a line."""

    recipe: str
    kind: str
    note: str = ""


def convert(request: Request) -> Converted:
    """Convert one file by the recipe that fits it.

    Raises:
        ModelError: the file cannot be read safely, or no tensors are in it, or the options do not
            fit what it holds.
    """
    digest = file_sha256(request.source)
    about = {
        "source": request.source.name,
        "source_sha256": digest,
        "embedding": "l2-normalised",
    }
    if is_saved_model(request.source):
        return _convert_keras(request, about)
    programs = openai_programs()
    tensors = read_foreign(request.source, programs)
    for name, recipe in HEAD_RECIPES.items():
        if recipe.fits(tensors):
            return _convert_head(request, about, name, tensors)
    if _is_watermark(tensors):
        return _convert_watermark(request, about, tensors)
    if _is_clip(tensors):
        return _convert_clip(request, digest, tensors, programs.get(digest, ""))
    _check_file(request)
    write_tensors(request.out, tensors, {**about, "kind": "tensors"}, dtype=_dtype(tensors))
    return Converted(recipe="tensors", kind="", note=f"{len(tensors)} tensors as they were")


def _convert_head(
    request: Request, about: Mapping[str, str], name: str, tensors: Mapping[str, Tensor]
) -> Converted:
    _check_file(request)
    recipe = HEAD_RECIPES[name]
    if not (request.image_text or recipe.image_text):
        raise ModelError(
            f"{request.source}: a head must say whose embeddings it takes, got no image_text; "
            "add e.g. image_text=ViT-L-14/openai"
        )
    found = recipe.build(tensors, request.image_text)
    head = found.head
    error = float(np.abs(probe_head(head)["raw"] - found.golden).max())
    if not error <= FOLD_TOLERANCE:
        raise ModelError(
            f"{request.source}: folding its layers must change no score by more than "
            f"{FOLD_TOLERANCE:g}, got {error:.3g}; its weights are not finite or far too large"
        )
    kind = _write_head(request.out, head, {**about, "recipe": name})
    write_golden(ModelRef(kind=kind, paths=(request.out,)), head.image_text, {"raw": found.golden})
    return Converted(recipe=name, kind=kind, note=f"scores within {error:.2g} of the original")


def _convert_keras(request: Request, about: Mapping[str, str]) -> Converted:
    _check_file(request)
    head = read_keras_head(request.source)
    name = request.image_text or _NSFW_MODELS.get(head.dim, "")
    kind = _write_head(
        request.out, replace(head, image_text=name), {**about, "recipe": "nsfw_keras"}
    )
    ref = ModelRef(kind=kind, paths=(request.out,))
    write_golden(ref, name, probe_head(load_head(ref)))
    words = sum(len(vocabulary) for vocabulary in head.vocabularies.values())
    note = f"{len(head.layers)} layers, {len(head.vocabularies)} dimensions of {words:,} words"
    return Converted(recipe="nsfw_keras", kind=kind, note=note)


def _write_head(out: Path, head: object, about: Mapping[str, str]) -> str:
    if isinstance(head, LinearHead):
        write_linear_head(out, head, {**about, "kind": "linear_head"})
        return "linear_head"
    assert isinstance(head, MlpHead), "there are two kinds of heads"
    write_mlp_head(out, head, {**about, "kind": "mlp_head"})
    return "mlp_head"


def _is_watermark(tensors: Mapping[str, Tensor]) -> bool:
    """Tell LAION's watermark model by its classifier."""
    first = tensors.get("classifier.0.weight")
    return "conv_stem.weight" in tensors and first is not None and tuple(first.shape) == (625, 1536)


def _convert_watermark(
    request: Request, about: Mapping[str, str], tensors: Mapping[str, Tensor]
) -> Converted:
    from curate.models.laion_watermark import build_network, load_laion_watermark

    _check_file(request)
    check_shapes(request.source, tensors, build_network())
    kind = "laion_watermark"
    write_tensors(request.out, tensors, {**about, "kind": kind}, dtype=_dtype(tensors))
    ref = ModelRef(kind=kind, paths=(request.out,))
    model = load_laion_watermark(ref)
    outputs = probe_score(model)
    write_golden(ref, model.name, outputs, tolerances(ref, outputs))
    return Converted(recipe="laion_watermark", kind=kind, note=f"{len(tensors)} tensors")


def _is_clip(tensors: Mapping[str, Tensor]) -> bool:
    has_text = "token_embedding.weight" in tensors or any(n.startswith("text.") for n in tensors)
    return has_text and any(name.startswith("visual.") for name in tensors)


def _convert_clip(
    request: Request, digest: str, tensors: dict[str, Tensor], published: str
) -> Converted:
    """Write an open_clip folder; OpenAI's own files are known by their digests."""
    if request.out.suffix == ".safetensors":
        raise ModelError(
            f"{request.out}: a CLIP model becomes a folder, got a file name; give a folder, "
            "e.g. models/ViT-B-32"
        )
    architecture = request.architecture or published
    if not architecture:
        raise ModelError(
            f"{request.source}: a CLIP model needs its architecture, got none; "
            "add e.g. model=ViT-B-32 pretrained=laion2b_s34b_b79k"
        )
    pretrained = request.pretrained or ("openai" if published else "")
    known = {name: tensors[name] for name in tensors if name not in _NOT_WEIGHTS}
    write_open_clip(request.out, architecture, pretrained, known, digest)
    ref = ModelRef(kind="open_clip", paths=(request.out,))
    model = load_open_clip_model(ref)
    outputs = probe_image_text(model)
    write_golden(ref, model.name, outputs, tolerances(ref, outputs))
    return Converted(recipe="open_clip", kind="open_clip", note=f"{len(known)} tensors")


# OpenAI's archives hold their sizes as tensors; open_clip's loader drops them too.
_NOT_WEIGHTS = ("input_resolution", "context_length", "vocab_size")


def _check_file(request: Request) -> None:
    if request.out.suffix != ".safetensors":
        raise ModelError(
            f"{request.out}: must be named .safetensors, got {request.out.suffix or 'no suffix'!r};"
            " name it so"
        )
    if request.architecture or request.pretrained:
        raise ModelError(
            f"{request.source}: model= and pretrained= are for CLIP models, got another network; "
            "leave them out"
        )


def _dtype(tensors: Mapping[str, Tensor]) -> torch.dtype:
    """Keep half precision if all is half, float32 otherwise."""
    floats = [tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()]
    return torch.float16 if floats and set(floats) == {torch.float16} else torch.float32
