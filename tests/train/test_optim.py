import pytest
import torch
from torch import nn

from train.optim import Optimizers, is_block_matrix, lr_factor


def make_module() -> nn.Module:
    torch_state = torch.random.get_rng_state()
    module = nn.ModuleDict({"embed": nn.Linear(4, 8), "transformer_blocks": nn.Linear(8, 8)})
    torch.random.set_rng_state(torch_state)
    generator = torch.Generator().manual_seed(0)
    for param in module.parameters():
        nn.init.normal_(param, generator=generator)
    return module


def step(module: nn.Module, optimizers: Optimizers, scale: float = 1.0) -> None:
    for i, param in enumerate(module.parameters()):
        param.grad = torch.cos(param.detach() * (i + 1)) * scale
    optimizers.step(1.0)


def make_optimizers(module: nn.Module) -> Optimizers:
    return Optimizers(module, muon_lr=3e-3, adamw_lr=1e-3, weight_decay=0.01)


def test_muon_takes_block_matrices_only() -> None:
    matrix, vector = torch.zeros(2, 2), torch.zeros(2)
    assert is_block_matrix("transformer_blocks.0.ff.weight", matrix)
    assert not is_block_matrix("transformer_blocks.0.ff.bias", vector)
    assert not is_block_matrix("proj_out.weight", matrix)


def test_muon_step_does_not_depend_on_the_gradient_scale() -> None:
    steps: list[torch.Tensor] = []
    for scale in (1.0, 1000.0):
        module = make_module()
        before = module["transformer_blocks"].weight.detach().clone()
        step(module, make_optimizers(module), scale)
        steps.append(module["transformer_blocks"].weight.detach() - before)
    assert torch.allclose(*steps, atol=2e-4)


def test_every_parameter_moves_and_gradients_are_dropped() -> None:
    module = make_module()
    before = [param.detach().clone() for param in module.parameters()]
    step(module, make_optimizers(module))
    for old, param in zip(before, module.parameters(), strict=True):
        assert not torch.equal(old, param)
        assert param.grad is None


def test_state_continues_bit_for_bit() -> None:
    straight, cut = make_module(), make_module()
    one, other = make_optimizers(straight), make_optimizers(cut)
    for _ in range(3):
        step(straight, one)
        step(cut, other)
    fresh = make_optimizers(cut)
    fresh.load_state({name: tensor.clone() for name, tensor in other.state().items()})
    for _ in range(3):
        step(straight, one)
        step(cut, fresh)
    for a, b in zip(straight.parameters(), cut.parameters(), strict=True):
        assert torch.equal(a, b)


def test_learning_rate_warms_up_stays_and_falls_to_nothing() -> None:
    def rate(samples_seen: int) -> float:
        return lr_factor(samples_seen, 1000, 100, 0.3)

    assert rate(0) == pytest.approx(0.01)
    assert rate(49) == pytest.approx(0.5)
    assert [rate(99), rate(500), rate(700)] == [1.0, 1.0, 1.0]
    assert rate(850) == pytest.approx(0.5)
    assert rate(1000) == 0.0


def test_learning_rate_without_warmup_and_decay_is_constant() -> None:
    assert {lr_factor(n, 1000, 0, 0.0) for n in (0, 500, 999)} == {1.0}
