"""Folders that are no whole vision-language model: each refused in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from curate.captioners.vlm import VlmCaptioner
from curate.captioners.vlm_folder import digest_folder, load_vlm
from curate.core.errors import ModelError
from curate.core.model_ref import ModelRef
from curate.models.hub import HubModel
from tests.captioners.tiny_vlms import save_blip, save_llava

PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llava")
    save_llava(folder)
    return folder


def drop_processor(folder: Path) -> None:
    for name in PROCESSOR_FILES:
        (folder / name).unlink(missing_ok=True)


def drop_tokenizer(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()


def pickle_weights(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def drop_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def damage_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"damaged")


def cut_weights(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def reshape_weights(folder: Path) -> None:
    file = folder / "model.safetensors"
    weights = load_file(file)
    name = next(name for name in weights if name.endswith("lm_head.weight"))
    save_file({**weights, name: weights[name][:-1].contiguous()}, file, metadata={"format": "pt"})


def lose_a_weight(folder: Path) -> None:
    file = folder / "model.safetensors"
    weights = {k: v for k, v in load_file(file).items() if not k.endswith("lm_head.weight")}
    save_file(weights, file, metadata={"format": "pt"})


def set_config(**changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    return change


def write_garbage(folder: Path) -> None:
    (folder / "config.json").write_text("[1, 2")


def drop_chat_template(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()


@pytest.mark.parametrize(
    ("spoil", "rule"),
    [
        (drop_processor, "must hold preprocessor_config.json or processor_config.json"),
        (drop_tokenizer, "token"),
        (pickle_weights, r"must hold \*.safetensors, got the pickle pytorch_model.bin"),
        (drop_weights, r"must hold \*.safetensors, got none"),
        (damage_weights, "must load as a transformers image-text-to-text model"),
        (cut_weights, "must load as a transformers image-text-to-text model"),
        (reshape_weights, "must load as a transformers image-text-to-text model"),
        (lose_a_weight, "must hold every weight of a 'llava' model, got no lm_head.weight"),
        (set_config(model_type="bert"), "model_type must be an image-text-to-text type"),
        (set_config(model_type=None), "model_type must be an image-text-to-text type"),
        (write_garbage, "must be JSON"),
        (drop_chat_template, "must come with a chat template"),
    ],
)
def test_a_folder_that_is_not_whole_is_refused_in_one_line(
    tmp_path: Path, whole: Path, spoil: Callable[[Path], None], rule: str
) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "llava"))
    spoil(folder)
    with pytest.raises(ModelError, match=rule) as caught:
        VlmCaptioner(ModelRef(kind="vlm", paths=(folder,)))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_an_empty_or_missing_folder_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(ModelError, match=r"must hold \*.safetensors"):
            VlmCaptioner(ModelRef(kind="vlm", paths=(folder,)))


def test_code_in_a_folder_is_never_run(tmp_path: Path, whole: Path) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "llava"))
    marker = tmp_path / "ran"
    (folder / "evil.py").write_text(f"open({str(marker)!r}, 'w')\nclass Evil: ...\n")
    classes = {"AutoConfig": "evil.Evil", "AutoModelForImageTextToText": "evil.Evil"}
    set_config(auto_map=classes)(folder)
    VlmCaptioner(ModelRef(kind="vlm", paths=(folder,)))
    assert not marker.exists()


def test_digests_change_with_their_own_files_only(tmp_path: Path, whole: Path) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "llava"))

    def digests(of: Path) -> tuple[str, str]:
        return digest_folder(of, of_weights=True), digest_folder(of, of_weights=False)

    weights, processor = digests(folder)
    assert (weights, processor) == digests(whole)
    moved = Path(shutil.copytree(folder, tmp_path / "moved"))
    (moved / "chat_template.jinja").write_text("{{ 'describe' }}")
    (moved / "README.md").write_text("a card")
    assert digests(moved)[0] == weights
    assert digests(moved)[1] != processor
    heavier = Path(shutil.copytree(folder, tmp_path / "heavier"))
    damage_weights(heavier)
    assert digests(heavier)[0] != weights
    assert digests(heavier)[1] == processor


def test_a_model_of_the_hub_is_named_by_name_and_commit(whole: Path) -> None:
    hub = HubModel(name="acme/llava", commit="0" * 40)
    ref = ModelRef(kind="vlm", paths=(whole,), settings=hub)
    found, local = (VlmCaptioner(r).provenance for r in (ref, ModelRef(kind="vlm", paths=(whole,))))
    assert (found.model, found.revision) == ("acme/llava", "0" * 40)
    assert (local.model, local.revision) == (f"llava/{whole.name}", "")
    assert found.model_digest == local.model_digest


def test_blip_ends_where_its_generate_stops(tmp_path: Path) -> None:
    save_blip(tmp_path)
    loaded = load_vlm(tmp_path)
    text = loaded.model.config.text_config
    assert text.eos_token_id != text.sep_token_id  # as in the published ones
    assert loaded.end_tokens == (text.sep_token_id,)
