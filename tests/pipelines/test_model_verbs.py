"""convert-weights, golden and doctor, as a user types them."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

from curate.models.packs import load_pack
from pipelines.cli import main


def _call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["curate", *map(str, arguments)])
    return main()


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """A pack file with a copy of the toy CLIP, without golden values."""
    shutil.copytree(load_pack("toy")["image_text"].paths[0], tmp_path / "clip")
    (tmp_path / "clip" / "golden.json").unlink()
    path = tmp_path / "pack.yaml"
    path.write_text("image_text: {kind: open_clip, paths: [clip]}")
    return path


def test_a_converted_head_is_scored_by_the_pack_that_names_it(
    tmp_path: Path, pack: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(torch.nn.Linear(192, 1).state_dict(), tmp_path / "looks.pth")
    out = tmp_path / "looks.safetensors"
    assert (
        _call(monkeypatch, "convert-weights", tmp_path / "looks.pth", out, "image_text=mine") == 0
    )
    said = capsys.readouterr().out
    assert "linear from looks.pth" in said and "{kind: linear_head, paths: [" in said
    assert out.is_file() and (tmp_path / "looks.golden.json").is_file()


def test_a_pickle_that_does_more_is_refused_by_the_verb_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.pth").write_bytes(b"cposix\nsystem\n(S'echo run'\ntR.")
    out = tmp_path / "out.safetensors"
    assert _call(monkeypatch, "convert-weights", tmp_path / "bad.pth", out) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and said.err.startswith("curate: ") and not said.out
    assert not out.exists()


def test_two_paths_are_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _call(monkeypatch, "convert-weights", "one.pt") == 2
    assert "needs two paths, got 1" in capsys.readouterr().err
    assert _call(monkeypatch, "convert-weights", "a.pt", "b.safetensors", "modle=ViT-B-32") == 2


def test_golden_values_are_written_once_and_then_show_a_changed_model(
    pack: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _call(monkeypatch, "golden", f"models={pack}") == 0
    assert f"image_text: wrote {pack.parent / 'clip' / 'golden.json'}" in capsys.readouterr().out
    golden = json.loads((pack.parent / "clip" / "golden.json").read_text())
    assert golden["tolerance"]["fp32"] < golden["tolerance"]["bf16"] <= 0.1
    assert _call(monkeypatch, "golden", f"models={pack}") == 0
    assert "image_text: kept" in capsys.readouterr().out
    assert _call(monkeypatch, "doctor", f"models={pack}") == 0
    assert "golden values within" in capsys.readouterr().out

    path = pack.parent / "clip" / "open_clip_config.json"
    path.write_text(path.read_text().replace("bicubic", "bilinear"))
    assert _call(monkeypatch, "doctor", f"models={pack}") == 2
    said = capsys.readouterr().out
    assert f"FAIL {pack}/image_text" in said and "must give images[" in said


def test_the_doctor_says_where_golden_values_are_missing(
    pack: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _call(monkeypatch, "doctor", f"models={pack}") == 0
    assert "no golden values (`curate golden` writes them)" in capsys.readouterr().out


def test_a_named_pack_without_its_folder_fails_in_the_doctor(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _call(monkeypatch, "doctor", "models=laion") == 2
    assert "models_folder: must be set for models=laion" in capsys.readouterr().out
