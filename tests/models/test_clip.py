"""The image-text model: loaded from a folder alone, unit vectors, and what it can tell apart."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from curate.core.errors import ModelError
from curate.core.seed import make_rng
from curate.models.clip import ImageTextModel, OpenClipModel, load_image_text, read_lengths
from curate.models.open_clip_folder import load_open_clip
from curate.models.packs import ModelRef, load_pack
from pipelines.toyweb.scene import describe, describe_short, random_split_scene, render


@pytest.fixture(scope="module")
def model() -> ImageTextModel:
    return load_image_text(load_pack("toy")["image_text"])


def _copy(folder: Path) -> ModelRef:
    source = load_pack("toy")["image_text"].paths[0]
    shutil.copytree(source, folder / "moved clip")
    return ModelRef(kind="open_clip", paths=(folder / "moved clip",))


def test_embeddings_are_unit_vectors_of_the_stated_dimension(model: ImageTextModel) -> None:
    images = [Image.new("RGB", (50, 30), "red"), Image.new("RGB", (9, 200), "blue")]
    for found in (model.embed_images(images), model.embed_texts(["a red circle", ""])):
        assert found.shape == (2, model.dim)
        assert found.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-4)


def test_nothing_in_gives_nothing_out(model: ImageTextModel) -> None:
    assert model.embed_images([]).shape == (0, model.dim)
    assert model.embed_texts([]).shape == (0, model.dim)


def test_more_items_than_a_batch_keep_their_order(model: ImageTextModel) -> None:
    texts = ["a red circle"] * 70 + ["a blue star"]
    found = model.embed_texts(texts)
    np.testing.assert_allclose(found[69], found[0], atol=1e-4)
    assert found[70] @ found[0] < 0.99


def test_a_very_long_text_is_embedded(model: ImageTextModel) -> None:
    assert model.embed_texts(["a red circle " * 8000]).shape == (1, model.dim)


def test_a_text_is_truncated_when_words_no_longer_reach_the_network(model: ImageTextModel) -> None:
    texts = [" ".join(["red"] * count) for count in range(50, 80)]
    cut = model.is_truncated(texts)
    embedded = model.embed_texts(texts)
    assert cut == sorted(cut) and not cut[0] and cut[-1]
    first = cut.index(True)
    np.testing.assert_allclose(
        embedded[first:], embedded[first - 1 : -1][-1:].repeat(30 - first, 0), atol=1e-5
    )
    assert model.is_truncated([]) == []


@pytest.mark.parametrize("write", [describe, describe_short])
def test_true_texts_score_above_other_pictures_texts(model: ImageTextModel, write: object) -> None:
    rng = make_rng(3, "test_clip")
    scenes = [random_split_scene(rng, "heldout") for _ in range(64)]
    pictures = [Image.fromarray(render(scene, 80, 120)) for scene in scenes]
    texts = model.embed_texts([write(scene) for scene in scenes])  # type: ignore[operator]
    similarity = model.embed_images(pictures) @ texts.T
    true = np.diag(similarity)
    other = similarity[~np.eye(64, dtype=bool)]
    assert (true[:, None] > other[None, :]).mean() >= 0.95


def test_the_folder_loads_from_anywhere_without_a_network(
    model: ImageTextModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("loading opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    moved = load_image_text(_copy(tmp_path))
    text = ["a small green cross on a black background"]
    np.testing.assert_array_equal(moved.embed_texts(text), model.embed_texts(text))


def test_missing_weights_are_one_line(tmp_path: Path) -> None:
    ref = _copy(tmp_path)
    (ref.paths[0] / "open_clip_model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"safetensors: weights must exist") as caught:
        load_image_text(ref)
    assert "\n" not in str(caught.value)


def test_weights_of_another_config_name_the_tensor(tmp_path: Path) -> None:
    ref = _copy(tmp_path)
    path = ref.paths[0] / "open_clip_config.json"
    config = json.loads(path.read_text())
    config["model_cfg"]["text_cfg"]["layers"] += 1
    path.write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"text\.transformer\.resblocks.* must be"):
        load_image_text(ref)


def test_a_broken_file_is_one_line(tmp_path: Path) -> None:
    ref = _copy(tmp_path)
    (ref.paths[0] / "open_clip_model.safetensors").write_bytes(b"not tensors")
    with pytest.raises(ModelError, match="must be a safetensors file"):
        load_image_text(ref)
    (ref.paths[0] / "open_clip_config.json").write_text("{")
    with pytest.raises(ModelError, match="must be JSON"):
        load_image_text(ref)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ModelError, match="kind must be one of open_clip"):
        load_image_text(ModelRef(kind="nothing", paths=()))


def test_short_texts_are_embedded_as_padded_ones_are(model: ImageTextModel) -> None:
    """The library's own way, with all tokens of the context, is the oracle."""
    texts = ["a red circle", "", "a small green cross " * 30, "red", "a blue star on white"] * 8
    tokens = model._tokenizer(texts)  # type: ignore[attr-defined]
    with torch.inference_mode():
        wanted = model._network.encode_text(tokens, normalize=True).numpy()  # type: ignore[attr-defined]
    lengths = read_lengths(model._network, tokens)  # type: ignore[attr-defined]
    assert lengths.min() < 8 and lengths.max() == tokens.shape[1]
    np.testing.assert_allclose(model.embed_texts(texts), wanted, atol=1e-6)


@pytest.mark.parametrize("architecture", ["ViT-B-32", "ViT-B-32-quickgelu", "coca_ViT-B-32"])
def test_towers_that_look_ahead_or_pool_otherwise_get_all_tokens(architecture: str) -> None:
    with torch.device("meta"):
        network = open_clip.create_model(architecture, pretrained=None, device="meta")
    tokens = torch.zeros(2, 77, dtype=torch.int64)
    tokens[0, :4] = torch.tensor([49406, 5, 6, 49407])
    tokens[1, :9] = torch.tensor([49406, *range(1, 8), 49407])
    wanted = [77, 77] if architecture.startswith("coca") else [4, 9]
    assert read_lengths(network, tokens).tolist() == wanted


def test_threads_and_batches_change_no_embedding(model: ImageTextModel) -> None:
    parts = load_open_clip(load_pack("toy")["image_text"].paths[0])
    threaded = OpenClipModel(parts, "threaded", threads=3)
    rng = make_rng(1, "test_clip")
    pictures = [
        Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)) for _ in range(40)
    ]
    np.testing.assert_array_equal(threaded.embed_images(pictures), model.embed_images(pictures))


def test_bfloat16_gives_float32_unit_vectors_near_by(model: ImageTextModel) -> None:
    reduced = load_image_text(load_pack("toy")["image_text"], precision="bf16")
    text = ["a red circle"]
    found = reduced.embed_texts(text)
    assert found.dtype == np.float32
    assert 0 < np.abs(found - model.embed_texts(text)).max() < 0.02


def test_a_precision_or_device_that_is_not_there_is_refused() -> None:
    if not torch.cuda.is_available():
        with pytest.raises(ModelError, match=r"annotate\.device: must be there, got 'cuda'"):
            load_image_text(load_pack("toy")["image_text"], device="cuda")
    with pytest.raises(ModelError, match=r"annotate\.precision: must be fp32 for conse"):
        load_image_text(ModelRef(kind="conse", paths=()), precision="bf16")


def test_pickled_weights_in_the_folder_are_refused_with_the_command(tmp_path: Path) -> None:
    ref = _copy(tmp_path)
    (ref.paths[0] / "open_clip_model.safetensors").unlink()
    (ref.paths[0] / "open_clip_pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(ModelError, match=r"got the pickle .*; run `curate convert-weights") as e:
        load_image_text(ref)
    assert "\n" not in str(e.value)


def test_a_config_that_open_clip_cannot_build_is_one_line(tmp_path: Path) -> None:
    ref = _copy(tmp_path)
    (ref.paths[0] / "open_clip_config.json").write_text('{"model_cfg": {"embed_dim": 8}}')
    with pytest.raises(ModelError, match="model_cfg must be one that open_clip builds") as e:
        load_image_text(ref)
    assert "\n" not in str(e.value)
