"""Name the packs of the field's own models: `models=laion` and `models=datacomp`.

The heads are shipped (curate/models/laion, converted from LAION's files); the two CLIP models are
too large and are read from `models_folder=DIR`:

    DIR/ViT-B-32/               open_clip folder of OpenAI's ViT-B/32: open_clip_config.json and
    DIR/ViT-L-14/               open_clip_model.safetensors, written by `curate convert-weights
                                ViT-B-32.pt DIR/ViT-B-32`, or as on the hub (timm/vit_base_patch32_
                                clip_224.openai, timm/vit_large_patch14_clip_224.openai) with the
                                name that the heads want to read (open_clip_folder.py, is_model)
    DIR/watermark.safetensors   LAION's watermark model, optional: `curate convert-weights
                                watermark_model_v1.pt DIR/watermark.safetensors`

The packs differ in the main model, whose numbers are in the columns clip.*: LAION thresholds the
similarity of B/32 (0.28 and 0.30), DataComp's best filter that of L/14. Scales differ, so in both
packs each model's numbers stand under its own name too, clip_b32.* and clip_l14.*: thresholds made
for one model judge those. A head finds the columns of the model it was trained on by itself.
"""

from __future__ import annotations

from pathlib import Path

from curate.core.errors import ModelError
from curate.core.model_ref import ModelRef

HEADS = Path(__file__).parent / "laion"
B32, L14, WATERMARK = "ViT-B-32", "ViT-L-14", "watermark.safetensors"


def laion_pack(folder: Path) -> dict[str, ModelRef]:
    """Give LAION-5B's models, the main one ViT-B/32.

    Raises:
        ModelError: the folder of a CLIP model is missing.
    """
    return {"image_text": _clip(folder, B32), **_by_name(folder), **_heads(folder)}


def datacomp_pack(folder: Path) -> dict[str, ModelRef]:
    """Give DataComp's models, the main one ViT-L/14.

    Raises:
        ModelError: the folder of a CLIP model is missing.
    """
    return {"image_text": _clip(folder, L14), **_by_name(folder), **_heads(folder)}


def _by_name(folder: Path) -> dict[str, ModelRef]:
    """Give both models under their own names; annotate runs none twice (clip_copy.py)."""
    return {"clip_b32": _clip(folder, B32), "clip_l14": _clip(folder, L14)}


def _clip(folder: Path, name: str) -> ModelRef:
    path = folder / name
    if not path.is_dir():
        raise ModelError(
            f"models_folder: must hold {name}/, an open_clip folder of OpenAI's weights, "
            f"got none in {folder}; see curate/models/laion_packs.py for where they are"
        )
    return ModelRef(kind="open_clip", paths=(path,))


def _heads(folder: Path) -> dict[str, ModelRef]:
    heads = {
        "aesthetic": ModelRef(kind="linear_head", paths=(HEADS / "aesthetic_v2_l14.safetensors",)),
        "aesthetic_v1": ModelRef(
            kind="linear_head", paths=(HEADS / "aesthetic_v1_l14.safetensors",)
        ),
        "nsfw": ModelRef(kind="mlp_head", paths=(HEADS / "nsfw_l14.safetensors",)),
    }
    if (folder / WATERMARK).is_file():
        heads["watermark"] = ModelRef(kind="laion_watermark", paths=(folder / WATERMARK,))
    return heads
