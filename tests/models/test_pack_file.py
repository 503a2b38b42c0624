"""Packs that a user wrote, and those that need a folder: what they give and what they refuse."""

from __future__ import annotations

from pathlib import Path

import pytest

from curate.core.errors import ModelError
from curate.models.packs import is_role, load_pack


def _write(folder: Path, text: str) -> str:
    path = folder / "pack.yaml"
    path.write_text(text)
    return str(path)


def _folder(tmp_path: Path) -> Path:
    for name in ("ViT-B-32", "ViT-L-14"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "open_clip_config.json").write_text("{}")
    return tmp_path


def test_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "heads").mkdir()
    (tmp_path / "heads" / "looks.safetensors").write_bytes(b"x")
    _write(tmp_path, "aesthetic: {kind: linear_head, paths: [heads/looks.safetensors]}")
    monkeypatch.chdir(tmp_path / "heads")
    pack = load_pack("../pack.yaml")
    assert list(pack) == ["aesthetic"]
    assert pack["aesthetic"].kind == "linear_head"
    assert pack["aesthetic"].paths[0].samefile(tmp_path / "heads" / "looks.safetensors")
    assert pack["aesthetic"].paths[0].is_absolute()


def test_a_base_gives_the_roles_that_the_file_does_not_name(tmp_path: Path) -> None:
    (tmp_path / "clip").mkdir()
    pack = load_pack(_write(tmp_path, "base: toy\nclip_big: {kind: open_clip, paths: clip}"))
    toy = load_pack("toy")
    assert {role: pack[role] for role in toy} == toy
    assert pack["clip_big"].paths == (tmp_path / "clip",)


def test_further_image_text_models_are_roles() -> None:
    assert is_role("clip_l14") and is_role("image_text")
    assert not is_role("clip_") and not is_role("clip-l14") and not is_role("nonsense")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("aestetic: {kind: linear_head, paths: [x]}", "a role must be one of .*got 'aestetic'"),
        ("vae: {kind: autoencoder, paths: [none]}", r"vae\.paths must exist, got .*none; fix"),
        ("vae: {kind: autoencoder}", "vae must be {kind: NAME, paths"),
        ("vae: {kind: autoencoder, paths: [x], on: cuda}", "vae must be {kind: NAME, paths"),
        ("vae: here", "vae must be {kind: NAME, paths"),
        ("- vae", "must be a mapping role -> {kind, paths}, got list"),
        ("", "must be a mapping role -> {kind, paths}, got NoneType"),
        ("vae: {kind: [", "must be YAML, got"),
        ("base: none", "models: must be one of toy, offline, laion, datacomp or a .yaml file"),
    ],
)
def test_a_malformed_pack_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        load_pack(_write(tmp_path, text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".ckpt", ".pkl", ".PT"])
def test_a_pickle_is_refused_with_the_command_that_converts_it(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"head{suffix}").write_bytes(b"\x80\x04.")
    text = f"aesthetic: {{kind: linear_head, paths: [head{suffix}]}}"
    with pytest.raises(
        ModelError, match=r"run `curate convert-weights head\.\w+ out\.safetensors`"
    ):
        load_pack(_write(tmp_path, text))


def test_a_pack_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="a pack file must exist, got no"):
        load_pack(str(tmp_path / "none.yaml"))


def test_laion_and_datacomp_differ_in_the_main_model(tmp_path: Path) -> None:
    folder = str(_folder(tmp_path))
    laion, datacomp = load_pack("laion", folder), load_pack("datacomp", folder)
    assert laion["image_text"].paths[0].name == "ViT-B-32"
    assert datacomp["image_text"].paths[0].name == "ViT-L-14"
    assert laion["aesthetic"] == datacomp["aesthetic"]
    assert "watermark" not in laion


def test_laion_and_datacomp_name_both_models_alike(tmp_path: Path) -> None:
    folder = str(_folder(tmp_path))
    for name in ("laion", "datacomp"):
        pack = load_pack(name, folder)
        assert pack["clip_b32"].paths[0].name == "ViT-B-32"
        assert pack["clip_l14"].paths[0].name == "ViT-L-14"


def test_the_watermark_model_is_taken_where_it_lies(tmp_path: Path) -> None:
    (_folder(tmp_path) / "watermark.safetensors").write_bytes(b"x")
    assert load_pack("laion", str(tmp_path))["watermark"].kind == "laion_watermark"


def test_a_pack_without_its_folder_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"models_folder: must be set for models=laion"):
        load_pack("laion")
    with pytest.raises(
        ModelError, match=r"models_folder: must hold ViT-L-14/, an open_clip folder"
    ):
        load_pack("datacomp", str(tmp_path))


def test_golden_values_do_not_change_a_models_digest(tmp_path: Path) -> None:
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip" / "weights").write_bytes(b"x")
    name = _write(tmp_path, "image_text: {kind: open_clip, paths: clip}")
    before = load_pack(name)["image_text"].digest
    (tmp_path / "clip" / "golden.json").write_text("{}")
    from curate.core import model_ref

    model_ref._digest_files.cache_clear()  # type: ignore[attr-defined]
    assert load_pack(name)["image_text"].digest == before
