"""Run models on the golden inputs (curate/models/golden.py): for the doctor, and to write what they
give beside packs that have no golden values yet (`curate golden models=PACK`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from curate.models.golden import (
    Outputs,
    check_golden,
    golden_path,
    golden_pictures,
    golden_texts,
    read_golden,
    write_golden,
)
from curate.models.packs import ModelPack, ModelRef, is_image_text_role, is_text_role


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """Hold a loaded model.

    Args:
        name: of the model.
        detail: what is worth telling of it.
        probe: runs it on the golden inputs.
    """

    name: str
    detail: str
    probe: Callable[[], Outputs]


def load_for_probe(role: str, ref: ModelRef) -> Loaded | None:
    """Load a model that can have golden values; None for one that cannot.

    Raises:
        ModelError: its files are missing or do not fit.
    """
    if is_image_text_role(role):
        return _load_image_text(ref)
    if ref.kind in ("linear_head", "mlp_head"):
        return _load_head(ref)
    if is_text_role(role):
        return _load_text_encoder(ref)
    if role in LOADERS:
        return LOADERS[role](ref)
    return None


def describe_golden(role: str, ref: ModelRef, loaded: Loaded) -> str:
    """Compare with the golden values and say the outcome.

    Raises:
        ModelError: the model gives something else.
    """
    distance = check_golden(role, ref, loaded.probe)
    if distance is None:
        return "no golden values (`curate golden` writes them)"
    return f"golden values within {distance:.0e}"


def write_goldens(pack: ModelPack, *, overwrite: bool) -> Iterator[str]:
    """Write golden values for a pack's models and yield a line for each.

    Args:
        pack: its models.
        overwrite: also where there are some already.
    """
    from curate.models.probes import tolerances

    for role, ref in pack.items():
        loaded = load_for_probe(role, ref)
        if loaded is None:
            yield f"{role}: has no golden values, {ref.kind} gives texts or labels"
            continue
        outputs, known = loaded.probe(), None if overwrite else read_golden(ref)
        if known is not None and outputs.keys() <= known.outputs.keys():
            yield f"{role}: kept {golden_path(ref)}"
            continue
        path = write_golden(ref, loaded.name, outputs, tolerances(ref, outputs))
        yield f"{role}: wrote {path}"


def _load_image_text(ref: ModelRef) -> Loaded:
    from curate.models.clip import load_image_text
    from curate.models.probes import probe_image_text

    model = load_image_text(ref)
    return Loaded(
        name=model.name,
        detail=f"{model.name}, {model.dim} dimensions",
        probe=lambda: probe_image_text(model),
    )


def _load_head(ref: ModelRef) -> Loaded:
    from curate.models.heads import load_head
    from curate.models.probes import probe_head

    head = load_head(ref)
    name = head.image_text or f"image_text {head.image_text_digest[:12]}"
    return Loaded(
        name=f"{ref.paths[0].stem} on {name}",
        detail=f"{ref.kind} on {head.dim} dimensions of {name}",
        probe=lambda: probe_head(head),
    )


def _load_picture_score(ref: ModelRef) -> Loaded:
    from curate.models.picture_scores import load_picture_model
    from curate.models.probes import probe_score

    model = load_picture_model(ref.kind, ref)
    return Loaded(name=model.name, detail=model.name, probe=lambda: probe_score(model))


def _load_descriptor(ref: ModelRef) -> Loaded:
    from curate.models.copy_descriptor import load_copy_descriptor
    from curate.models.probes import probe_descriptor

    model = load_copy_descriptor(ref)
    return Loaded(
        name=model.name,
        detail=f"{model.name}, {model.dim} dimensions",
        probe=lambda: probe_descriptor(model),
    )


def _load_vae(ref: ModelRef) -> Loaded:
    from curate.models.vae import load_vae

    vae = load_vae(ref)

    def probe() -> Outputs:
        pixels = np.array(golden_pictures()[0])[None]  # [1, 240, 320, 3], a copy
        return {"mean_moments": vae.encode(pixels).astype(np.float32).mean(axis=(0, 2, 3))}

    return Loaded(name=ref.kind, detail=f"{vae.latent_channels} channels", probe=probe)


def _load_text_encoder(ref: ModelRef) -> Loaded:
    from curate.models.text_encoder import load_text_encoder

    encoder = load_text_encoder(ref)

    def probe() -> Outputs:
        encoded = encoder.encode(golden_texts())
        means = np.stack([item.tokens.astype(np.float32).mean(axis=0) for item in encoded])
        outputs = {"tokens": _unit(means)}
        if encoder.pooled_dim:
            outputs["pooled"] = _unit(np.stack([item.pooled for item in encoded]))
        return outputs

    detail = f"{encoder.name}, tokens of {encoder.dim}"
    return Loaded(name=encoder.name, detail=detail, probe=probe)


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


LOADERS: Mapping[str, Callable[[ModelRef], Loaded]] = {
    "watermark": _load_picture_score,
    "nsfw": _load_picture_score,
    "nudenet": _load_picture_score,
    "descriptor": _load_descriptor,
    "vae": _load_vae,
}
"""Role to loader, for what is neither an image-text model nor a head."""
