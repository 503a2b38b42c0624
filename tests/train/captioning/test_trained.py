"""What is trained: the layers that get a low-rank update, or the weights but the vision tower's."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForImageTextToText

from curate.core.errors import ConfigError, ModelError
from tests.captioners.tiny_vlms import SAVERS, find_head, save_llava
from train.captioning.config import FitConfig, LoraOptions
from train.captioning.trained import adapt, choose_layers, count_parameters, is_vision

Load = Callable[[], Any]


@pytest.fixture(scope="module", params=list(SAVERS))
def load(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Load:
    folder = tmp_path_factory.mktemp(request.param)
    SAVERS[request.param](folder)
    return lambda: AutoModelForImageTextToText.from_pretrained(folder)


@pytest.fixture
def llava(tmp_path: Path) -> Any:
    save_llava(tmp_path)
    return AutoModelForImageTextToText.from_pretrained(tmp_path)


def test_updates_lie_beside_every_linear_layer_of_the_language_part_alone(load: Load) -> None:
    model = load()
    head = find_head(model)
    linear = {
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not head
    }
    before = {name: value.clone() for name, value in model.state_dict().items()}
    adapt(model, FitConfig(), seed=0)
    updated = {
        name.partition(".lora_")[0]
        for name, value in model.named_parameters()
        if value.requires_grad
    }
    assert updated == {name for name in linear if not is_vision(name)}
    assert any(is_vision(name) for name in linear)
    after = model.state_dict()
    for name, value in before.items():
        holder, _, leaf = name.rpartition(".")
        name = f"{holder}.base_layer.{leaf}" if holder in updated else name
        assert torch.equal(after[name], value)


def test_full_weights_leave_the_vision_tower_frozen(load: Load) -> None:
    model = load()
    assert adapt(model, FitConfig(method="full"), seed=0) is None
    frozen = {name for name, value in model.named_parameters() if not value.requires_grad}
    assert frozen
    assert frozen == {name for name, _ in model.named_parameters() if is_vision(name)}


def test_the_vision_tower_is_trained_if_asked_for(llava: Any) -> None:
    layers = choose_layers(llava, FitConfig(tune_vision=True))
    assert any(is_vision(name) for name in layers)
    adapt(llava, FitConfig(method="full", tune_vision=True), seed=0)
    assert all(value.requires_grad for value in llava.parameters())


def test_targets_choose_layers_by_their_last_names(llava: Any) -> None:
    layers = choose_layers(llava, FitConfig(lora=LoraOptions(targets=["q_proj", "v_proj"])))
    assert len(layers) == 4
    assert {name.rpartition(".")[2] for name in layers} == {"q_proj", "v_proj"}
    assert not any(is_vision(name) for name in layers)


def test_a_target_that_is_no_layer_is_refused(llava: Any) -> None:
    with pytest.raises(ConfigError, match=r"lora\.targets: must be of .*q_proj.*, got 'wq'"):
        choose_layers(llava, FitConfig(lora=LoraOptions(targets=["q_proj", "wq"])))


def test_an_update_starts_as_zero_by_its_seed_alone(tmp_path: Path) -> None:
    save_llava(tmp_path)
    found: list[torch.Tensor] = []
    for seed, state in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(state)
        expected = torch.rand(2)
        torch.manual_seed(state)
        model = AutoModelForImageTextToText.from_pretrained(tmp_path)
        adapt(model, FitConfig(), seed)
        assert torch.equal(torch.rand(2), expected)
        named = dict(model.named_parameters())
        assert all(not value.any() for name, value in named.items() if "lora_B" in name)
        found.append(torch.cat([v.flatten() for n, v in named.items() if "lora_A" in n]))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_parameters_are_counted(llava: Any) -> None:
    total = sum(value.numel() for value in llava.parameters())
    adapt(llava, FitConfig(lora=LoraOptions(rank=3, targets=["q_proj"])), seed=0)
    added = 2 * 3 * (32 + 32)  # of two layers: A [3, 32], B [32, 3]
    assert count_parameters(llava) == {"num_trained": added, "num_params": total + added}


def test_full_weights_are_trained_in_float32(llava: Any) -> None:
    adapt(llava.bfloat16(), FitConfig(method="full"), seed=0)
    assert {value.dtype for value in llava.parameters()} == {torch.float32}


def test_a_model_without_a_known_vision_tower_is_refused(llava: Any) -> None:
    llava.model.eye = llava.model.vision_tower
    del llava.model.vision_tower
    with pytest.raises(ModelError, match=r"vision tower's name .* got a 'llava' without"):
        adapt(llava, FitConfig(), seed=0)


def test_lora_without_peft_is_refused_and_full_weights_go_on(
    llava: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ConfigError, match=r"needs the package peft, got none; run `pip install"):
        adapt(llava, FitConfig(), seed=0)
    assert adapt(llava, FitConfig(method="full"), seed=0) is None
