"""`curate fit-captioner` from end to end, on tiny random models of every family."""

from __future__ import annotations

import io
import json
import resource
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText

from curate.captioners.captioner import CaptionRequest, Sampling
from curate.captioners.instructions import TEMPLATES
from curate.captioners.table import load_captioner
from curate.captioners.teaching import Teacher
from curate.captioners.vlm import VlmCaptioner
from curate.captioners.vlm_folder import digest_folder
from curate.core.errors import ConfigError, DataError, ModelError, StageError, StoreError
from curate.core.model_ref import ModelRef
from curate.core.schema import make_key
from pipelines import cli
from pipelines.fit_captioner import find_captioner, fit_captioner, parse_config
from pipelines.fitting.folder import naming_full_disk
from tests.captioners.tiny_vlms import SAVERS, save_llava
from train.captioning.loop import FitState

PICTURES = {"red": "a red cat", "lime": "a bird on the tree", "blue": "the blue sky"}
ARGUMENTS = (
    "template=short", "batch_size=8", "micro_batch_size=4", "num_epochs=2", "learning_rate=0.01",
    "heldout_frac=0.25", "log_every_samples=16", "checkpoint_every_samples=8",
)  # fmt: skip
pytestmark = [
    # PaliGemma's processor hands a tensor to numpy in the old way.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    # peft asks transformers for a name that is on its way out.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning"),
]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 pictures of three colours; each colour has its caption."""
    folder = tmp_path_factory.mktemp("shards")
    with tarfile.open(folder / "00000.tar", "w") as tar:
        for index in range(36):
            color, text = list(PICTURES.items())[index % 3]
            stream = io.BytesIO()
            Image.new("RGB", (36 + index, 48), color).save(stream, "PNG")
            for ext, data in (("png", stream.getvalue()), ("txt", text.encode())):
                info = tarfile.TarInfo(f"{make_key(str(index))}.{ext}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return folder


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llava")
    save_llava(folder)
    return folder


def fit(shards: Path, base: Path, out: Path, *more: str, stop_at: int = 0) -> list[str]:
    """Fit; `stop_at` kills it after so many samples."""

    def on_step(state: FitState) -> None:
        if state.samples_seen == stop_at:
            raise KeyboardInterrupt

    arguments = [f"input={shards}", f"captioner={base}", f"out={out}", *ARGUMENTS, *more]
    return list(fit_captioner(parse_config(arguments), on_step))


def files_of(out: Path) -> dict[str, bytes]:
    """Read all that a fit left; where the base lies is not among it."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def load(folder: Path) -> VlmCaptioner:
    captioner = load_captioner(ModelRef(kind="vlm", paths=(folder,)))
    assert isinstance(captioner, VlmCaptioner)
    return captioner


def logits_of(captioner: VlmCaptioner, model: Any) -> torch.Tensor:
    requests = [
        CaptionRequest(key="a", image=Image.new("RGB", size, "red"), template=TEMPLATES["short"])
        for size in ((40, 60), (64, 30))
    ]
    teacher = Teacher(captioner)
    batch = teacher.encode(requests, [teacher.tokenize("a red cat", 20)] * 2)
    with torch.inference_mode():
        return model.eval()(**batch.inputs).logits


@pytest.mark.parametrize("name", SAVERS)
def test_every_family_is_fitted_and_its_folder_is_a_captioner(
    name: str, shards: Path, tmp_path: Path
) -> None:
    if name == "smolvlm":
        pytest.importorskip("num2words")  # its processor spells numbers of video frames
    SAVERS[name](tmp_path / "base")
    out = tmp_path / "out"
    fit(shards, tmp_path / "base", out, "num_epochs=1", "num_heldout=4")
    heldout = json.loads((out / "fit.json").read_text())["heldout"]
    assert heldout["after"]["loss"] < heldout["before"]["loss"]
    fitted = load(out / "model")
    assert fitted.vlm.model_type == name
    adapter = peft.PeftModel.from_pretrained(
        AutoModelForImageTextToText.from_pretrained(tmp_path / "base"), out / "adapter"
    )
    merged = AutoModelForImageTextToText.from_pretrained(out / "model")
    expected = logits_of(fitted, adapter)
    assert (logits_of(fitted, merged) - expected).abs().max() < 1e-5 * expected.abs().max()
    base = AutoModelForImageTextToText.from_pretrained(tmp_path / "base")
    assert (logits_of(fitted, base) - expected).abs().max() > 1e-2


def test_a_captioner_learns_its_captions_by_heart(
    shards: Path, llava: Path, tmp_path: Path
) -> None:
    lines = fit(shards, llava, tmp_path, "num_epochs=10", "lora.dropout=0")
    record = json.loads((tmp_path / "fit.json").read_text())
    assert record["heldout"]["before"]["exact"] == 0
    assert record["heldout"]["after"]["exact"] == 1
    assert record["heldout"]["after"]["bleu"] > 0.6  # the captions have few 4-grams
    assert record["heldout"]["after"]["cut_off"] == 0
    assert lines[0].startswith(f"samples: 36 read, {record['num_learnt']} to learn from, ")
    assert "exact 1.000" in lines[-2]
    assert lines[-1] == f"captioner: {tmp_path / 'model'}"
    picture = Image.new("RGB", (50, 50), "lime")
    request = CaptionRequest(key="a", image=picture, template=TEMPLATES["short"])
    (attempt,) = load(tmp_path / "model").caption([request], Sampling())
    assert (attempt.text_raw, attempt.finish_reason) == ("a bird on the tree", "stop")


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_killed_fit_goes_on_to_the_same_bytes(
    shards: Path, llava: Path, tmp_path: Path, method: str
) -> None:
    fit(shards, llava, tmp_path / "straight", f"method={method}")
    with pytest.raises(KeyboardInterrupt):
        fit(shards, llava, tmp_path / "killed", f"method={method}", stop_at=32)
    assert not (tmp_path / "killed" / "model").exists()
    torch.manual_seed(7)  # another process has another global state
    fit(shards, llava, tmp_path / "killed", f"method={method}")
    straight, resumed = files_of(tmp_path / "straight"), files_of(tmp_path / "killed")
    assert straight == resumed
    assert ("adapter/adapter_model.safetensors" in straight) == (method == "lora")
    assert {"fit.json", "metrics.jsonl", "model/model.safetensors"} <= set(straight)
    assert not (tmp_path / "killed" / ".work").exists()
    metrics = [json.loads(line) for line in straight["metrics.jsonl"].splitlines()]
    assert [line["samples_seen"] for line in metrics] == [16, 32, 48, 56]


def test_full_weights_move_and_the_vision_tower_does_not(
    shards: Path, llava: Path, tmp_path: Path
) -> None:
    fit(shards, llava, tmp_path, "method=full", "learning_rate=0.001")
    base, fitted = (
        AutoModelForImageTextToText.from_pretrained(folder).state_dict()
        for folder in (llava, tmp_path / "model")
    )
    moved = {name for name, value in base.items() if not torch.equal(value, fitted[name])}
    assert moved
    assert not any("vision_tower" in name for name in moved)
    assert any("language_model" in name for name in moved)
    assert any("multi_modal_projector" in name for name in moved)


def test_the_fitted_folder_has_the_bases_processor_and_settings(
    shards: Path, llava: Path, tmp_path: Path
) -> None:
    fit(shards, llava, tmp_path)
    assert digest_folder(tmp_path / "model", of_weights=False) == digest_folder(
        llava, of_weights=False
    )
    own = (llava / "generation_config.json").read_bytes()
    assert (tmp_path / "model" / "generation_config.json").read_bytes() == own


def test_cards_name_base_samples_template_and_config(
    shards: Path, llava: Path, tmp_path: Path
) -> None:
    fit(shards, llava, tmp_path)
    record = json.loads((tmp_path / "fit.json").read_text())
    for name in ("model", "adapter"):
        card = (tmp_path / name / "README.md").read_text()
        assert digest_folder(llava, of_weights=True) in card
        assert record["data"] in card
        assert TEMPLATES["short"].digest in card
        assert TEMPLATES["short"].text in card
        assert '"learning_rate": 0.01' in card
    settings = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (settings["r"], settings["lora_alpha"]) == (16, 32)


def test_a_fit_that_is_done_is_told_again_and_another_is_refused(
    shards: Path, llava: Path, tmp_path: Path
) -> None:
    lines = fit(shards, llava, tmp_path)
    before = files_of(tmp_path)
    assert fit(shards, llava, tmp_path, "checkpoint_every_samples=24") == lines
    with pytest.raises(ConfigError, match=r"must hold no other fit, got one with another config"):
        fit(shards, llava, tmp_path, "learning_rate=0.02")
    assert files_of(tmp_path) == before


def test_a_fit_under_way_goes_on_only_with_its_own_config(
    shards: Path, llava: Path, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(shards, llava, tmp_path, stop_at=24)
    with pytest.raises(StageError, match="goes on only with equal config"):
        fit(shards, llava, tmp_path, "learning_rate=0.02")


def test_a_full_disk_leaves_nothing_that_looks_whole(
    shards: Path, llava: Path, tmp_path: Path
) -> None:
    """No file may grow beyond 100 kB: adapter and checkpoints fit, the model does not."""
    limit = 100_000
    assert (llava / "model.safetensors").stat().st_size > limit
    with pytest.raises(Exception, match=r"File too large|os error 27"), file_size_limit(limit):
        fit(shards, llava, tmp_path, "lora.rank=1")
    assert not (tmp_path / "model").exists()
    assert not (tmp_path / "fit.json").exists()
    fit(shards, llava, tmp_path, "lora.rank=1")
    load(tmp_path / "model")
    assert (tmp_path / "fit.json").exists()


def test_a_full_disk_is_one_line_though_safetensors_has_its_own_error(tmp_path: Path) -> None:
    from safetensors import SafetensorError

    full = "I/O error: No space left on device (os error 28)"
    with (
        pytest.raises(StoreError, match=r"has no space left .*free some") as caught,
        naming_full_disk(tmp_path),
    ):
        raise SafetensorError(full)
    assert "\n" not in str(caught.value)
    with pytest.raises(SafetensorError), naming_full_disk(tmp_path):
        raise SafetensorError("Error while deserializing header")


def test_captions_that_are_not_there_are_one_line(
    shards: Path, llava: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"captions of source detailed, got none of 36 \("):
        fit(shards, llava, tmp_path, "source=detailed")


def test_a_folder_without_processor_is_refused(shards: Path, tmp_path: Path) -> None:
    save_llava(tmp_path / "base")
    (tmp_path / "base" / "processor_config.json").unlink()
    with pytest.raises(ModelError, match=r"must hold preprocessor_config\.json or"):
        fit(shards, tmp_path / "base", tmp_path / "out")


def test_a_style_that_the_family_cannot_follow_is_refused(shards: Path, tmp_path: Path) -> None:
    SAVERS["blip"](tmp_path / "base")
    with pytest.raises(ModelError, match=r"one of the styles short, got 'detailed-v"):
        fit(shards, tmp_path / "base", tmp_path / "out", "template=detailed")


def test_a_captioner_of_another_kind_cannot_be_fitted() -> None:
    with pytest.raises(ModelError, match=r"pack 'offline' must have one of kind 'vlm'"):
        find_captioner("offline")
    with pytest.raises(ModelError, match=r"must be a folder, a \.yaml file or one of toy, offline"):
        find_captioner("nowhere")


def test_a_pack_gives_its_captioner(llava: Path, tmp_path: Path) -> None:
    assert find_captioner("toy").paths[0].name == "captioner"
    pack = tmp_path / "pack.yaml"
    pack.write_text(f"captioner: {{kind: vlm, paths: [{llava}]}}\n")
    assert find_captioner(str(pack)).paths == (llava,)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("captioner=''", "captioner: must be set, got nothing"),
        ("template=poem", "template: must be one of .*detailed, .*got 'poem'"),
        ("learning_rat=1", "learning_rat is not a config key; did you mean learning_rate"),
        ("lora.rank=x", "lora.rank"),
        ("out=s3://bucket/fit", "out: must be a folder of this machine"),
        ("heldout_frac=0", "heldout_frac: must be between 0 and 1"),
        ("num_heldout=0", "num_heldout >= 1"),
    ],
)
def test_bad_arguments_are_one_line_each(argument: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse_config(["input=shards", argument])
    assert "\n" not in str(caught.value)


def test_an_input_must_be_given() -> None:
    with pytest.raises(ConfigError, match="input: must be set, got nothing"):
        parse_config([])


def test_the_verb_prints_what_it_did(
    shards: Path, llava: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    arguments = [f"input={shards}", f"captioner={llava}", f"out={tmp_path}", *ARGUMENTS]
    monkeypatch.setattr(sys, "argv", ["curate", "fit-captioner", *arguments])
    assert cli.main() == 0
    printed = capsys.readouterr().out
    assert "before loss" in printed
    assert "after  loss" in printed
    monkeypatch.setattr(sys, "argv", ["curate", "fit-captioner", *arguments, "source=none"])
    assert cli.main() == 2
    assert capsys.readouterr().err.startswith("curate: ")


@contextmanager
def file_size_limit(num_bytes: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
