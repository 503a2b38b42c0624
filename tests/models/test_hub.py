"""Models of the hub: from the cache without a question, else downloaded once, without pickles."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest

from curate.core.errors import ModelError
from curate.core.model_ref import ModelRef
from curate.models.hub import HubModel, find_hub_model
from curate.models.packs import load_pack
from tests.models.hub_server import Hub, serve_hub

NAME, COMMIT = "acme/captioner", "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "config.json": b'{"model_type": "blip"}',
    "model.safetensors": b"weights",
    "pytorch_model.bin": b"pickle",
    "modeling_evil.py": b"code",
    "onnx/model.json": b"{}",
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    with serve_hub(Hub(name=NAME, commit=COMMIT, files=FILES)) as hub:
        yield hub


def find(hub: Hub, cache: Path, revision: str = "main", name: str = NAME) -> ModelRef:
    return find_hub_model(
        "vlm", name, revision, "pack.yaml: captioner", cache=cache, endpoint=hub.url
    )


def test_weights_and_configs_are_downloaded_and_neither_pickles_nor_code(
    hub: Hub, tmp_path: Path
) -> None:
    ref = find(hub, tmp_path)
    (folder,) = ref.paths
    assert {file.name for file in folder.rglob("*")} == {"config.json", "model.safetensors"}
    assert (folder / "model.safetensors").read_bytes() == b"weights"
    assert ref.settings == HubModel(name=NAME, commit=COMMIT)


def test_what_is_in_the_cache_is_not_asked_for_again(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = find(hub, tmp_path)
    hub.asked.clear()
    assert find(hub, tmp_path) == first
    assert find(hub, tmp_path, COMMIT) == first
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert find(hub, tmp_path) == first
    assert hub.asked == []


def test_a_download_that_was_cut_off_is_completed(hub: Hub, tmp_path: Path) -> None:
    (folder,) = find(hub, tmp_path).paths
    (folder / "model.safetensors").unlink()
    assert find(hub, tmp_path).paths == (folder,)
    assert (folder / "model.safetensors").read_bytes() == b"weights"


def test_offline_says_how_to_fetch(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"`hf download {NAME} --revision main`"):
        find_hub_model("vlm", NAME, "main", "pack.yaml: captioner", cache=tmp_path)


def test_a_model_that_the_hub_does_not_have_is_refused_in_one_line(
    hub: Hub, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="must be a model of the hub") as caught:
        find(hub, tmp_path, name="acme/other")
    assert "\n" not in str(caught.value)


def test_a_hub_that_cannot_be_reached_is_refused_in_one_line(hub: Hub, tmp_path: Path) -> None:
    hub.url = "http://127.0.0.1:1"
    with pytest.raises(ModelError, match="check name, revision, network") as caught:
        find(hub, tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("revision", ["", "../../etc", "a/b", "-x", "..", "a..b", "x" * 200])
def test_a_revision_that_is_no_name_is_refused(tmp_path: Path, revision: str) -> None:
    with pytest.raises(ModelError, match=r"captioner.revision: must be a commit, tag or branch"):
        find_hub_model("vlm", NAME, revision, "pack.yaml: captioner", cache=tmp_path)


@pytest.mark.parametrize("name", ["", "a/b/c", "../x", "a b/c", "https://evil.example/x"])
def test_a_name_that_is_none_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError, match=r"captioner.hub: must be ORGANISATION/MODEL"):
        find_hub_model("vlm", name, "main", "pack.yaml: captioner", cache=tmp_path)


@pytest.mark.parametrize(
    "entry",
    [
        "{kind: vlm, hub: acme/captioner}",
        "{kind: vlm, hub: acme/captioner, revision: 123}",
        "{kind: vlm, hub: acme/captioner, revision: main, paths: [x]}",
        "{hub: acme/captioner, revision: main}",
    ],
)
def test_a_pack_names_kind_model_and_revision(tmp_path: Path, entry: str) -> None:
    file = tmp_path / "pack.yaml"
    file.write_text(f"captioner: {entry}")
    with pytest.raises(ModelError, match="hub: ORGANISATION/MODEL, revision: COMMIT"):
        load_pack(str(file))


def test_a_pack_finds_a_model_of_the_hub_in_the_cache(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = find(hub, tmp_path)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    file = tmp_path / "pack.yaml"
    file.write_text(f"captioner: {{kind: vlm, hub: {NAME}, revision: main}}")
    assert load_pack(str(file))["captioner"] == found
