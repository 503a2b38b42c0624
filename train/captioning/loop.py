"""Fit a model to labelled answers: one function that reads from top to bottom.

The cursor is `samples_seen`. Which samples an update takes, which masks dropout draws and how high
the rate is follow from (seed, cursor), so a run that was killed ends in the same bytes. The loss of
an update is the mean over all its answer tokens, however the batch is cut: a mean of parts' means
would weigh the tokens of short answers more.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from curate.core.ahead import map_ahead
from curate.core.errors import StageError
from curate.core.seed import derive_seed
from train.captioning.config import FitConfig
from train.captioning.order import Pick, SampleOrder
from train.checkpoint import Checkpoint, find_checkpoint, save_checkpoint
from train.optim import clip_gradients

logger = logging.getLogger(__name__)


class Lesson(Protocol):
    """Hold pictures and the answers to them, ready for the model."""

    @property
    def num_tokens(self) -> int:
        """Count the answer tokens that the loss is over."""
        ...

    def loss_sum(self) -> Tensor:
        """Run the model; give the sum of the answer tokens' losses, a scalar with a graph."""
        ...


Prepare = Callable[[Sequence[Pick]], Lesson]
OnStep = Callable[["FitState"], None]


@dataclass(slots=True, kw_only=True)
class FitState:
    """Hold what fitting changes.

    Args:
        params: what is trained, by name.
        optimizer: AdamW over them.
        sums: since the last line: losses, answer tokens, gradient norms, updates; [4], float64.
        lines: metrics so far.
        samples_seen: the cursor.
    """

    params: dict[str, torch.nn.Parameter]
    optimizer: torch.optim.AdamW
    sums: Tensor
    lines: list[dict[str, Any]]
    samples_seen: int


def fit(
    module: torch.nn.Module,
    prepare: Prepare,
    keys: Sequence[str],
    config: FitConfig,
    checkpoints: Path,
    identity: dict[str, Any],
    seed: int,
    on_step: OnStep | None = None,
) -> FitState:
    """Fit to the end of the run, going on from the newest checkpoint if there is one.

    Args:
        module: what requires gradients in it is trained, in place; it is left in evaluation mode.
        prepare: makes the lesson of some picks; called in another thread, one update ahead.
        keys: of the samples.
        config: the run.
        checkpoints: folder of checkpoints; survives kills.
        identity: names this run; a checkpoint of another is refused.
        seed: the run's seed.
        on_step: called after every update with the state.

    Raises:
        StageError: a checkpoint of another run, or a gradient that is no number.
    """
    # 1. The start: the weights as they are, then the newest checkpoint over them.
    state = _start(module, config)
    saved = find_checkpoint(checkpoints, identity)
    if saved is not None:
        _restore(state, saved)
        logger.info("going on at %d samples", state.samples_seen)
    num_steps = config.num_steps(len(keys))
    steps = range(state.samples_seen // config.batch_size, num_steps)
    clock = _Clock(state.samples_seen, num_steps * config.batch_size)
    module.train()

    # 2. The samples of each update, in parts that fit into memory; the next are prepared meanwhile.
    order = SampleOrder(keys, seed)
    parts = map_ahead(lambda step: _prepare(order, prepare, step, config), steps, ahead=2)
    for step, lessons in zip(steps, parts, strict=True):
        num_tokens = sum(lesson.num_tokens for lesson in lessons)

        # 3. Forward and backward, part by part; dropout draws by (seed, step).
        with torch.random.fork_rng():
            torch.manual_seed(derive_seed(seed, "captioner dropout", step) % 2**63)
            for lesson in lessons:
                loss = lesson.loss_sum()
                (loss / num_tokens).backward()
                state.sums[0] += loss.detach().double().cpu()

        # 4. Update the weights.
        norm = float(clip_gradients(state.params.values(), config.max_grad_norm))
        _check_finite(norm, state.samples_seen)
        rate = config.learning_rate * lr_factor(step, num_steps, config.warmup_frac)
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        state.sums[1:] += torch.tensor([num_tokens, norm, 1.0], dtype=torch.float64)
        before = state.samples_seen
        state.samples_seen += config.batch_size

        # 5. Numbers and checkpoints.
        is_last = step + 1 == num_steps
        if is_last or _crossed(before, state.samples_seen, config.log_every_samples):
            state.lines.append(_read_line(state, rate))
            clock.report(state.lines[-1])
        if not is_last and _crossed(before, state.samples_seen, config.checkpoint_every_samples):
            save_checkpoint(checkpoints, _snapshot(state, identity))
        if on_step is not None:
            on_step(state)
    module.eval()
    return state


def lr_factor(step: int, num_steps: int, warmup_frac: float) -> float:
    """Give the fraction of the peak rate: a linear rise, then half a cosine down to 0.

    Source: Loshchilov and Hutter 2017 (arXiv 1608.03983), equation 5, without restarts.
    """
    warmup = round(warmup_frac * num_steps)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, num_steps - warmup)))


def _prepare(order: SampleOrder, prepare: Prepare, step: int, config: FitConfig) -> list[Lesson]:
    """Prepare the parts of an update; what is drawn follows from the step alone."""
    picks = order.picks(step * config.batch_size, config.batch_size)
    size = config.micro_batch_size
    return [prepare(picks[at : at + size]) for at in range(0, len(picks), size)]


def _start(module: torch.nn.Module, config: FitConfig) -> FitState:
    params = {name: value for name, value in module.named_parameters() if value.requires_grad}
    groups = [
        {
            "params": [value for value in params.values() if value.ndim > 1],
            "weight_decay": config.weight_decay,
        },
        {"params": [value for value in params.values() if value.ndim <= 1], "weight_decay": 0.0},
    ]
    # Betas are torch's defaults, which LLaVA keeps.
    optimizer = torch.optim.AdamW([group for group in groups if group["params"]])
    sums = torch.zeros(4, dtype=torch.float64)
    return FitState(params=params, optimizer=optimizer, sums=sums, lines=[], samples_seen=0)


def _snapshot(state: FitState, identity: dict[str, Any]) -> Checkpoint:
    """Collect the state for a checkpoint; tensors are shared, not copied."""
    tensors: dict[str, Tensor] = {"meter/sums": state.sums}
    for name, value in state.params.items():
        tensors[f"model/{name}"] = value.detach()
        for kind, moment in state.optimizer.state[value].items():
            tensors[f"optimizer/{kind}/{name}"] = moment
    return Checkpoint(
        samples_seen=state.samples_seen, tensors=tensors, lines=state.lines, identity=identity
    )


@torch.no_grad()
def _restore(state: FitState, saved: Checkpoint) -> None:
    """Set the state from a checkpoint; `_start` has fixed all shapes before."""
    weights, moments = saved.part("model"), saved.part("optimizer")
    for name, value in state.params.items():
        value.copy_(weights[name])
        state.optimizer.state[value] = {
            kind: moments[f"{kind}/{name}"].to("cpu" if kind == "step" else value.device)
            for kind in ("step", "exp_avg", "exp_avg_sq")
        }
    state.sums = saved.part("meter")["sums"]
    state.lines = list(saved.lines)
    state.samples_seen = saved.samples_seen


def _read_line(state: FitState, rate: float) -> dict[str, Any]:
    """Give the means since the last line, and start anew."""
    loss, tokens, norm, steps = state.sums.tolist()
    state.sums = torch.zeros_like(state.sums)
    means = {"loss": loss / tokens, "grad_norm": norm / steps, "learning_rate": rate}
    return {
        "samples_seen": state.samples_seen,
        **{name: float(f"{value:.6g}") for name, value in means.items()},
    }


def _check_finite(norm: float, samples_seen: int) -> None:
    """Stop before a gradient that is no number reaches weights or a checkpoint."""
    if not math.isfinite(norm):
        raise StageError(
            f"fit-captioner: the gradient must be finite, got {norm} after {samples_seen} samples; "
            "lower learning_rate"
        )


def _crossed(before: int, after: int, interval: int) -> bool:
    """Tell whether a multiple of the interval lies in (before, after]."""
    return before // interval != after // interval


class _Clock:
    """Report throughput to the log, never to a file that is kept."""

    def __init__(self, samples_seen: int, total: int) -> None:
        self._first = samples_seen
        self._total = total
        self._start = time.monotonic()

    def report(self, line: dict[str, Any]) -> None:
        seen = line["samples_seen"]
        rate = (seen - self._first) / max(time.monotonic() - self._start, 1e-9)
        logger.info(
            "%d of %d samples, loss %.4f, gradient %.3f, %.1f samples/s, %.0f s left",
            seen,
            self._total,
            line["loss"],
            line["grad_norm"],
            rate,
            (self._total - seen) / rate,
        )
