"""A head finds the image-text model it was trained on, by digest or by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate.core.errors import ModelError
from curate.models.head_source import find_image_text
from curate.models.heads import load_head
from curate.models.laion_packs import HEADS
from curate.models.linear_head import LinearHead
from curate.models.open_clip_folder import known_config
from curate.models.packs import ModelRef, load_pack

OPENAI_L14 = {"latentmill": {"name": "ViT-L-14/openai"}}
LAION_L14 = load_head(ModelRef(kind="linear_head", paths=(HEADS / "aesthetic_v2_l14.safetensors",)))


def _folder(path: Path, architecture: str, pretrained: str, **own: Any) -> ModelRef:
    """A folder as the hub has it, without `own`: config alone, for nothing else is read."""
    path.mkdir()
    model_cfg, preprocess_cfg = known_config(architecture, pretrained)
    config = {"model_cfg": model_cfg, "preprocess_cfg": preprocess_cfg, **own}
    (path / "open_clip_config.json").write_text(json.dumps(config))
    return ModelRef(kind="open_clip", paths=(path,))


def _head(**changes: str) -> LinearHead:
    fields = {"image_text_digest": "", **changes}
    return LinearHead(weight=np.ones(3, np.float32), bias=0.0, activation="identity", **fields)  # type: ignore[arg-type]


def test_laions_heads_find_openais_large_model_among_several(tmp_path: Path) -> None:
    models = {
        "image_text": _folder(tmp_path / "b32", "ViT-B-32", "openai"),
        "clip_large": _folder(tmp_path / "l14", "ViT-L-14", "openai", **OPENAI_L14),
    }
    assert find_image_text("aesthetic", LAION_L14, models) == "clip_large"


@pytest.mark.parametrize("weights", ["openai", "metaclip_fullcc", "dfn2b"])
def test_a_folder_that_names_no_model_is_refused_with_what_to_do(
    tmp_path: Path, weights: str
) -> None:
    models = {
        "image_text": _folder(tmp_path / "b32", "ViT-B-32", "openai"),
        "clip_large": _folder(tmp_path / "l14", "ViT-L-14", weights),
    }
    with pytest.raises(ModelError) as caught:
        find_image_text("aesthetic", LAION_L14, models)
    folder = tmp_path / "l14"
    assert str(caught.value) == (
        f"{folder}/open_clip_config.json: must name its model, for head aesthetic takes only "
        "ViT-L-14/openai, got no name; run `curate convert-weights "
        f"{folder}/open_clip_model.safetensors OUT model=ViT-L-14 pretrained=openai`, which writes "
        'it, or add "latentmill": {"name": "ViT-L-14/openai"} if you know that it is that model'
    )


def test_what_the_refusal_says_makes_the_folder_fit(tmp_path: Path) -> None:
    ref = _folder(tmp_path / "l14", "ViT-L-14", "openai")
    path = ref.paths[0] / "open_clip_config.json"
    with pytest.raises(ModelError) as caught:
        find_image_text("aesthetic", LAION_L14, {"image_text": ref})
    said = str(caught.value).partition("or add ")[2].rpartition(" if you know")[0]
    path.write_text(json.dumps({**json.loads(path.read_text()), **json.loads(f"{{{said}}}")}))
    assert find_image_text("aesthetic", LAION_L14, {"image_text": ref}) == "image_text"


def test_weights_of_others_with_the_same_width_are_refused(tmp_path: Path) -> None:
    models = {"image_text": _folder(tmp_path / "l14", "ViT-L-14", "laion2b_s32b_b82k")}
    with pytest.raises(ModelError, match="head aesthetic must be on the embeddings of ViT-L-14/op"):
        find_image_text("aesthetic", LAION_L14, models)
    offline = {"image_text": ModelRef(kind="conse", paths=(tmp_path,))}
    with pytest.raises(ModelError, match="use the pair that was trained together"):
        find_image_text("aesthetic", LAION_L14, offline)


def test_a_folder_that_names_its_model_is_taken_at_its_word(tmp_path: Path) -> None:
    own = {"latentmill": {"name": "ViT-L-14/laion400m_e32"}}
    models = {"image_text": _folder(tmp_path / "l14", "ViT-L-14", "openai", **own)}
    with pytest.raises(ModelError, match="must be on the embeddings of ViT-L-14/openai"):
        find_image_text("aesthetic", LAION_L14, models)
    assert find_image_text("x", _head(image_text="ViT-L-14/laion400m_e32"), models) == "image_text"


def test_a_digest_says_it_exactly(tmp_path: Path) -> None:
    toy = load_pack("toy")
    models = {
        "image_text": _folder(tmp_path / "b32", "ViT-B-32", "openai"),
        "clip_toy": toy["image_text"],
    }
    assert find_image_text("watermark", load_head(toy["watermark"]), models) == "clip_toy"


def test_a_head_that_names_no_model_belongs_to_the_main_one(tmp_path: Path) -> None:
    models = {"clip_toy": load_pack("toy")["image_text"], "image_text": load_pack("toy")["vae"]}
    assert find_image_text("aesthetic", _head(), models) == "image_text"
