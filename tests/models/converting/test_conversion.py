"""Others' weights become ours: equal scores, metadata that says whence, golden values beside."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor, nn

from curate.core.errors import ModelError
from curate.models.clip import load_image_text
from curate.models.converting.conversion import Request, convert
from curate.models.converting.foreign import file_sha256
from curate.models.golden import check_golden, golden_embeddings, read_golden
from curate.models.heads import load_head
from curate.models.open_clip_folder import is_model
from curate.models.packs import ModelRef
from curate.models.probes import probe_head
from tests.models.converting.keras_files import write_saved_model

TINY = "latentmill-test-tiny"
TINY_CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[str]:
    """Let open_clip know a tiny architecture for the length of a test."""
    known = open_clip.factory._MODEL_CONFIGS
    before = dict(known)
    (tmp_path / f"{TINY}.json").write_text(json.dumps(TINY_CONFIG))
    open_clip.add_model_config(tmp_path / f"{TINY}.json")
    yield TINY
    known.clear()
    known.update(before)


def _linears(network: nn.Module) -> dict[str, Tensor]:
    """Save as a Lightning module with `self.layers` does."""
    return {f"layers.{name}": tensor for name, tensor in network.state_dict().items()}


def _v2() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(768, 1024), nn.Dropout(0.2), nn.Linear(1024, 128), nn.Dropout(0.2),
        nn.Linear(128, 64), nn.Dropout(0.1), nn.Linear(64, 16), nn.Linear(16, 1),
    ).eval()  # fmt: skip


def _h14() -> nn.Sequential:
    parts: list[nn.Module] = []
    for into, out in ((1024, 1024), (1024, 2048), (2048, 1024), (1024, 256), (256, 128)):
        parts += [nn.Linear(into, out), nn.ReLU(), nn.Dropout(0.2)]
    return nn.Sequential(*parts, nn.Linear(128, 16), nn.Linear(16, 1)).eval()


@pytest.mark.parametrize(
    ("network", "recipe", "kind", "image_text"),
    [
        (_v2, "aesthetic_v2", "linear_head", "ViT-L-14/openai"),
        (_h14, "nsfw_h14", "mlp_head", "ViT-H-14/laion2b_s32b_b79k"),
    ],
)
def test_layers_with_nothing_between_are_folded_exactly(
    tmp_path: Path, network: object, recipe: str, kind: str, image_text: str
) -> None:
    torch.manual_seed(0)
    original = network()  # type: ignore[operator]
    torch.save(_linears(original), tmp_path / "in.pth")
    done = convert(Request(source=tmp_path / "in.pth", out=tmp_path / "out.safetensors"))
    assert (done.recipe, done.kind) == (recipe, kind)
    head = load_head(ModelRef(kind=kind, paths=(tmp_path / "out.safetensors",)))
    vectors = golden_embeddings(head.dim)
    with torch.inference_mode():
        wanted = original(torch.from_numpy(vectors))[:, 0].numpy()
    np.testing.assert_allclose(head(vectors), wanted, atol=1e-5)
    assert head.image_text == image_text


def test_a_linear_head_needs_the_name_of_its_model(tmp_path: Path) -> None:
    layer = nn.Linear(512, 1)
    torch.save(layer.state_dict(), tmp_path / "in.pth")
    request = Request(source=tmp_path / "in.pth", out=tmp_path / "out.safetensors")
    with pytest.raises(ModelError, match="must say whose embeddings it takes, got no image_text"):
        convert(request)
    named = Request(source=request.source, out=request.out, image_text="ViT-B-32/openai")
    assert convert(named).recipe == "linear"
    ref = ModelRef(kind="linear_head", paths=(request.out,))
    head = load_head(ref)
    assert head.image_text == "ViT-B-32/openai"
    assert check_golden("aesthetic", ref, lambda: probe_head(head)) is not None


def test_the_metadata_says_where_a_file_comes_from(tmp_path: Path) -> None:
    torch.save(_linears(_v2()), tmp_path / "in.pth")
    convert(Request(source=tmp_path / "in.pth", out=tmp_path / "out.safetensors"))
    with safe_open(tmp_path / "out.safetensors", framework="np") as file:
        metadata = file.metadata()
    assert metadata == {
        "source": "in.pth",
        "source_sha256": file_sha256(tmp_path / "in.pth"),
        "embedding": "l2-normalised",
        "recipe": "aesthetic_v2",
        "kind": "linear_head",
        "activation": "identity",
        "image_text_digest": "",
        "image_text": "ViT-L-14/openai",
    }


def test_equal_inputs_give_equal_bytes(tmp_path: Path) -> None:
    torch.save(_linears(_v2()), tmp_path / "in.pth")
    for name in ("a", "b"):
        convert(Request(source=tmp_path / "in.pth", out=tmp_path / f"{name}.safetensors"))
    assert file_sha256(tmp_path / "a.safetensors") == file_sha256(tmp_path / "b.safetensors")


def test_a_keras_model_becomes_a_head(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    kernel, bias = rng.random((512, 1)).astype(np.float32), rng.random(1).astype(np.float32)
    mean, variance = rng.random(512).astype(np.float32), rng.random(512).astype(np.float32)
    write_saved_model(tmp_path / "model", [(kernel, bias)], mean, variance, {})
    done = convert(Request(source=tmp_path / "model", out=tmp_path / "out.safetensors"))
    assert (done.recipe, done.kind) == ("nsfw_keras", "mlp_head")
    ref = ModelRef(kind="mlp_head", paths=(tmp_path / "out.safetensors",))
    assert load_head(ref).image_text == "ViT-B-32/openai"  # by its width
    assert read_golden(ref) is not None


def test_a_clip_model_becomes_a_folder(tmp_path: Path, tiny: str) -> None:
    torch.manual_seed(0)
    network = open_clip.create_model(tiny, pretrained=None).eval()
    state = {f"module.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({"epoch": 1, "state_dict": state}, tmp_path / "in.pt")
    out = tmp_path / "clip"
    done = convert(Request(source=tmp_path / "in.pt", out=out, architecture=tiny))
    assert done.recipe == done.kind == "open_clip"
    ref = ModelRef(kind="open_clip", paths=(out,))
    model = load_image_text(ref)
    assert model.name == f"open_clip:{tiny}"
    assert is_model(ref, tiny) and not is_model(ref, "ViT-B-32/openai")
    picture = Image.new("RGB", (50, 40), "red")
    preprocess = open_clip.image_transform(32, is_train=False)
    with torch.inference_mode():
        wanted = network.encode_image(preprocess(picture)[None], normalize=True).numpy()
    np.testing.assert_allclose(model.embed_images([picture]), wanted, atol=1e-5)


def test_a_clip_model_of_another_architecture_names_the_tensor(tmp_path: Path, tiny: str) -> None:
    network = open_clip.create_model(tiny, pretrained=None)
    torch.save(network.state_dict(), tmp_path / "in.pt")
    request = Request(source=tmp_path / "in.pt", out=tmp_path / "clip")
    with pytest.raises(ModelError, match="a CLIP model needs its architecture, got none"):
        convert(request)
    for changed, message in (
        ({"architecture": "ViT-B-32"}, r"ln_final\.bias must be \(512,\), got \(16,\)"),
        ({"architecture": "ViT-B-23"}, "must be an architecture of open_clip, got 'ViT-B-23'"),
        ({"architecture": "ViT-B-32", "pretrained": "opnai"}, "must be among open_clip's tags"),
        ({"architecture": tiny, "out": tmp_path / "x.safetensors"}, "becomes a folder"),
    ):
        fields = {"source": request.source, "out": request.out, **changed}
        with pytest.raises(ModelError, match=message):
            convert(Request(**fields))  # type: ignore[arg-type]


def test_other_tensors_are_written_as_they_are(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(3, dtype=torch.float16)}, tmp_path / "in.bin")
    out = tmp_path / "out.safetensors"
    assert convert(Request(source=tmp_path / "in.bin", out=out)).recipe == "tensors"
    with safe_open(out, framework="pt") as file:
        assert file.get_tensor("weight").dtype == torch.float16


def test_options_and_names_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(3)}, tmp_path / "in.bin")
    with pytest.raises(ModelError, match=r"must be named \.safetensors, got '\.bin'"):
        convert(Request(source=tmp_path / "in.bin", out=tmp_path / "out.bin"))
    with pytest.raises(ModelError, match="model= and pretrained= are for CLIP models"):
        convert(
            Request(
                source=tmp_path / "in.bin",
                out=tmp_path / "out.safetensors",
                architecture="ViT-B-32",
            )
        )
