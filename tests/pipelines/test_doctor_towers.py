"""The doctor examines further text encoders and models of features as it does the main ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from curate.models.packs import load_pack
from pipelines.doctor import examine
from pipelines.golden import write_goldens
from tests.models.tiny_text import write_clip, write_t5
from tests.stages.test_encode_forms import write_dino


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    write_t5(tmp_path / "t5")
    write_clip(tmp_path / "clip", projected=True)
    write_dino(tmp_path / "dino")
    path = tmp_path / "pack.yaml"
    path.write_text(
        "text_encoder: {kind: t5, paths: [t5]}\n"
        "text_encoder_clip: {kind: clip, paths: [clip/text_encoder, clip/tokenizer]}\n"
        "features_dino: {kind: vision, paths: [dino]}\n"
    )
    return path


def test_towers_and_features_are_loaded_and_have_golden_values(pack: Path) -> None:
    models = load_pack(str(pack))
    assert set(models) == {"text_encoder", "text_encoder_clip", "features_dino"}
    told = list(write_goldens(models, overwrite=False))
    assert [line.split(" ")[1] for line in told] == ["wrote", "wrote", "has"]
    found = {check.name.rpartition("/")[2]: check for check in examine(str(pack))}
    for role, words in (
        ("text_encoder", "tokens of 16; golden values within"),
        ("text_encoder_clip", "tokens of 16; golden values within"),
        ("features_dino", "patches of 16"),
    ):
        assert found[role].ok
        assert words in found[role].detail


def test_a_role_that_is_none_is_refused(tmp_path: Path) -> None:
    from curate.core.errors import ModelError

    path = tmp_path / "pack.yaml"
    path.write_text("text_t5: {kind: t5, paths: [x]}\n")
    with pytest.raises(ModelError, match="text_encoder_NAME, features_NAME"):
        load_pack(str(path))
