"""The loop that fits a captioner: its mean, its memory, its end. The model is a softmax of rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from curate.core.errors import StageError
from train.captioning.config import FitConfig
from train.captioning.loop import FitState, fit, lr_factor
from train.captioning.order import Pick

KEYS = [f"key{index}" for index in range(12)]
CONFIG = FitConfig(
    num_epochs=4, batch_size=6, micro_batch_size=6, learning_rate=0.05, weight_decay=0.1,
    log_every_samples=12, checkpoint_every_samples=6,
)  # fmt: skip
IDENTITY = {"name": "test"}


@dataclass(frozen=True)
class Rows:
    """A lesson: rows of the model's table, and what each should say; row i has i + 1 tokens."""

    model: Reader
    picks: Sequence[Pick]

    @property
    def num_tokens(self) -> int:
        return sum(pick.index + 1 for pick in self.picks)

    def loss_sum(self) -> Tensor:
        rows = [pick.index for pick in self.picks for _ in range(pick.index + 1)]
        logits = self.model(torch.tensor(rows))
        labels = torch.tensor([row % 3 for row in rows])
        return functional.cross_entropy(logits, labels, reduction="sum")


class Reader(nn.Module):
    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.table = nn.Embedding(12, 8)
        self.drop = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 3)
        self.frozen = nn.Linear(8, 8).requires_grad_(False)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for value in self.parameters():
                value.normal_(generator=generator)

    def forward(self, rows: Tensor) -> Tensor:
        return self.head(self.norm(self.drop(self.frozen(self.table(rows)))))


def run(
    folder: Path, config: FitConfig = CONFIG, *, dropout: float = 0.0, stop_at: int = 0
) -> tuple[Reader, FitState | None]:
    """Fit a fresh reader; `stop_at` kills it after so many samples."""
    model = Reader(dropout)

    def on_step(state: FitState) -> None:
        if state.samples_seen == stop_at:
            raise KeyboardInterrupt

    state = None
    try:
        state = fit(
            model, lambda picks: Rows(model, picks), KEYS, config, folder, IDENTITY, 0, on_step
        )
    except KeyboardInterrupt:
        assert stop_at
    return model, state


def weights(model: nn.Module) -> Tensor:
    return torch.cat([value.detach().flatten() for value in model.parameters()])


def test_the_loss_falls_to_the_end(tmp_path: Path) -> None:
    _, state = run(tmp_path, replace(CONFIG, num_epochs=40))
    assert state is not None
    assert state.samples_seen == 480
    assert state.lines[-1]["loss"] < 0.1 * state.lines[0]["loss"]


@pytest.mark.parametrize("stop_at", [6, 18, 30, 42])
def test_a_run_that_goes_on_ends_in_the_same_bits(tmp_path: Path, stop_at: int) -> None:
    straight, whole = run(tmp_path / "straight", dropout=0.3)
    run(tmp_path / "killed", dropout=0.3, stop_at=stop_at)
    torch.manual_seed(stop_at)  # another process has another global state
    resumed, rest = run(tmp_path / "killed", dropout=0.3)
    assert whole is not None and rest is not None
    assert torch.equal(weights(straight), weights(resumed))
    assert whole.lines == rest.lines


def test_dropout_draws_by_seed_and_leaves_the_global_state_alone(tmp_path: Path) -> None:
    first = Reader(dropout=0.3)
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    fit(first, lambda p: Rows(first, p), KEYS, CONFIG, tmp_path / "a", IDENTITY, 0)
    assert torch.equal(torch.rand(3), expected)
    second, _ = run(tmp_path / "b", dropout=0.3)
    none, _ = run(tmp_path / "c")
    assert torch.equal(weights(first), weights(second))
    assert not torch.equal(weights(first), weights(none))


@pytest.mark.parametrize("size", [1, 4])
def test_the_cut_of_a_batch_changes_rounding_alone(tmp_path: Path, size: int) -> None:
    """A mean of parts' means would not pass: rows have 1 to 12 tokens."""
    whole, _ = run(tmp_path / "whole")
    parts, _ = run(tmp_path / "parts", replace(CONFIG, micro_batch_size=size))
    assert torch.allclose(weights(whole), weights(parts), atol=1e-5)


def test_the_line_has_the_mean_over_tokens(tmp_path: Path) -> None:
    model = Reader()
    config = replace(CONFIG, num_epochs=1, batch_size=12, learning_rate=1e-12)
    lesson = Rows(model, [Pick(index=index, epoch=0) for index in range(12)])
    expected = lesson.loss_sum().item() / 78
    _, state = run(tmp_path, config)
    assert state is not None
    assert state.lines == [
        {
            "samples_seen": 12,
            "loss": pytest.approx(expected, rel=1e-5),
            "grad_norm": pytest.approx(state.lines[0]["grad_norm"]),
            "learning_rate": pytest.approx(1e-12),
        }
    ]


def test_what_is_frozen_stays_and_the_rest_moves(tmp_path: Path) -> None:
    model, _ = run(tmp_path)
    fresh = Reader()
    assert torch.equal(model.frozen.weight, fresh.frozen.weight)
    for name in ("table", "norm", "head"):
        assert not torch.equal(getattr(model, name).weight, getattr(fresh, name).weight)
    assert not model.training


def test_matrices_decay_and_vectors_do_not(tmp_path: Path) -> None:
    _, state = run(tmp_path)
    assert state is not None
    for group in state.optimizer.param_groups:
        sizes = {value.ndim > 1 for value in group["params"]}
        assert sizes == {group["weight_decay"] > 0}


def test_a_gradient_that_is_no_number_stops_before_it_is_saved(tmp_path: Path) -> None:
    model = Reader()

    def poison(state: FitState) -> None:
        if state.samples_seen == 12:
            with torch.no_grad():
                model.frozen.weight.fill_(math.inf)

    with pytest.raises(StageError, match=r"must be finite, got nan after 12 samples"):
        fit(model, lambda picks: Rows(model, picks), KEYS, CONFIG, tmp_path, IDENTITY, 0, poison)
    saved = sorted(path.name for path in tmp_path.iterdir())
    assert saved == ["000000000000006", "000000000000012"]


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    run(tmp_path, stop_at=12)
    model = Reader()
    with pytest.raises(StageError, match="equal name"):
        fit(model, lambda picks: Rows(model, picks), KEYS, CONFIG, tmp_path, {"name": "other"}, 0)


def test_the_rate_rises_and_falls_to_nothing() -> None:
    factors = [lr_factor(step, 110, 0.1) for step in range(110)]
    assert factors[0] == pytest.approx(1 / 11)
    assert factors[10:12] == [1.0, 1.0]
    assert factors[60] == pytest.approx(0.5 * (1 + math.cos(math.pi * 49 / 99)))
    assert 0 < factors[-1] < 1e-3
    assert lr_factor(0, 1, 0.0) == 1.0
