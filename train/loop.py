"""Train: one function that reads from top to bottom. Everything it calls is elsewhere and tested.

The state is `TrainState`; the cursor is `samples_seen`. Which samples a step takes and every random
draw follow from (seed, cursor), so a run that is killed and started again ends in the same bytes.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from curate.core.errors import StageError
from curate.core.stage import plain_config
from train.backbones.backbone import Backbone
from train.backbones.table import BACKBONES
from train.batches import finish
from train.card import backbone_shape
from train.checkpoint import Checkpoint, find_checkpoint, save_checkpoint
from train.config import TrainConfig
from train.data import BatchReader, LatentSet
from train.ema import Ema, ema_decay
from train.loader import Loader
from train.metrics import LossMeter
from train.mix import CaptionMix
from train.objective import make_pair, make_timesteps, sample_losses
from train.optim import Optimizers, clip_gradients, lr_factor
from train.plan import report_repeats
from train.reading import Wishes

logger = logging.getLogger(__name__)

OnStep = Callable[["TrainState"], None]


@dataclass(slots=True, kw_only=True)
class TrainState:
    """Hold what training changes.

    Args:
        backbone: the model in training.
        ema: averages of its parameters.
        optimizers: their moments.
        meter: sums since the last metrics line.
        lines: metrics so far.
        samples_seen: the cursor.
    """

    backbone: Backbone
    ema: Ema
    optimizers: Optimizers
    meter: LossMeter
    lines: list[dict[str, Any]]
    samples_seen: int


def train(
    config: TrainConfig,
    data: LatentSet,
    checkpoints: Path,
    identity: dict[str, Any],
    seed: int,
    on_step: OnStep | None = None,
) -> TrainState:
    """Train to the end of the run, going on from the newest checkpoint if there is one.

    Args:
        config: the run.
        data: encoded samples.
        checkpoints: folder of checkpoints; survives kills.
        identity: names this run; a checkpoint of another is refused.
        seed: the run's seed.
        on_step: called after every step with the state; for in-training evaluation and tests.

    Raises:
        StageError: a checkpoint of another run, or a loss that is no number.
    """
    warn_of_slow_products(config.precision)
    # 1. The start: fresh weights, then the newest checkpoint over them.
    state = start(config, data, seed)
    saved = find_checkpoint(checkpoints, identity)
    if saved is not None:
        restore(state, saved)
        logger.info("going on at %d of %d samples", state.samples_seen, config.num_samples)
    reader = make_reader(config, data, seed)
    params = list(state.backbone.module.parameters())
    total = config.num_steps * config.batch_size
    state.backbone.module.train()
    clock = _Clock(state.samples_seen)

    first_step = state.samples_seen // config.batch_size
    with make_loader(config, reader, first_step) as loader:
        for raw in loader:
            # 2. Data and every random draw, by name.
            batch = finish(raw, data.space)
            t = make_timesteps(config.objective, batch.uniform)
            pair = make_pair(config.objective, batch.latents, batch.noise, t)

            # 3. Forward and backward; weights stay float32, matrix products run in bfloat16.
            with autocast(config.precision):
                predicted = state.backbone(pair.x_t, t, batch.text.tokens, batch.text.pooled)
            losses = sample_losses(config.objective, predicted, pair, t)
            losses.mean().backward()

            # 4. Update weights and averages.
            grad_norm = clip_gradients(params, config.max_grad_norm)
            factor = lr_factor(state.samples_seen, total, config.warmup_samples, config.decay_frac)
            state.optimizers.step(factor)
            before = state.samples_seen
            state.samples_seen += config.batch_size
            decay = ema_decay(config.batch_size, state.samples_seen, config.ema_half_life_samples)
            state.ema.update(params, decay)

            # 5. Numbers; the only place where a value leaves the tensors.
            state.meter.add(losses, t, grad_norm)
            is_last = batch.step + 1 == config.num_steps
            if is_last or _crossed(before, state.samples_seen, config.log_every_samples):
                line = {"samples_seen": state.samples_seen, **state.meter.read()}
                line["lr"] = state.optimizers.rates(factor)
                _check_finite(line)
                state.lines.append(line)
                clock.report(line, total)

            # 6. Checkpoint.
            if not is_last and _crossed(
                before, state.samples_seen, config.checkpoint_every_samples
            ):
                save_checkpoint(checkpoints, snapshot(state, identity))
            if on_step is not None:
                on_step(state)
    _report(reader)
    return state


def make_reader(config: TrainConfig, data: LatentSet, seed: int) -> BatchReader:
    """Plan the run's batches, and say how they are read."""
    plan = data.plan(config.batch_size, seed)
    report_repeats(plan)
    mix = CaptionMix(weights=config.caption_weights, dropout_frac=config.caption_dropout_frac)
    return BatchReader(data, plan, mix, seed, Wishes(text=config.text_shape))


def make_loader(config: TrainConfig, reader: BatchReader, first_step: int) -> Loader:
    """Read the rest of the run ahead of it."""
    return Loader(
        reader,
        first_step=first_step,
        end_step=config.num_steps,
        num_threads=config.reading.num_threads,
        ahead_steps=config.reading.ahead_steps,
    )


def start(config: TrainConfig, data: LatentSet, seed: int) -> TrainState:
    """Make the state before the first step: a function of config, data shapes and seed."""
    backbone = BACKBONES[config.backbone].build(config.model, backbone_shape(data.space), seed)
    return TrainState(
        backbone=backbone,
        ema=Ema(backbone.module.parameters()),
        optimizers=Optimizers(
            backbone.module,
            muon_lr=config.muon_lr,
            adamw_lr=config.adamw_lr,
            weight_decay=config.weight_decay,
        ),
        meter=LossMeter(config.num_loss_bins),
        lines=[],
        samples_seen=0,
    )


def snapshot(state: TrainState, identity: dict[str, Any]) -> Checkpoint:
    """Collect the state for a checkpoint; tensors are shared, not copied."""
    names = [name for name, _ in state.backbone.module.named_parameters()]
    parts: dict[str, dict[str, Tensor]] = {
        "model": {n: p.detach() for n, p in state.backbone.module.named_parameters()},
        "ema": dict(zip(names, state.ema.averages, strict=True)),
        "optimizer": state.optimizers.state(),
        "meter": state.meter.state(),
    }
    return Checkpoint(
        samples_seen=state.samples_seen,
        tensors={
            f"{part}/{n}": value for part, values in parts.items() for n, value in values.items()
        },
        lines=state.lines,
        identity=identity,
    )


@torch.no_grad()
def restore(state: TrainState, saved: Checkpoint) -> None:
    """Set the state from a checkpoint; `start` has fixed all shapes before."""
    model, ema = saved.part("model"), saved.part("ema")
    named = dict(state.backbone.module.named_parameters())
    for (name, param), average in zip(named.items(), state.ema.averages, strict=True):
        param.copy_(model[name])
        average.copy_(ema[name])
    state.optimizers.load_state(saved.part("optimizer"))
    state.meter.load_state(saved.part("meter"))
    state.lines = list(saved.lines)
    state.samples_seen = saved.samples_seen


def autocast(precision: str) -> contextlib.AbstractContextManager[Any]:
    """Give the context of a forward pass; bfloat16 has float32's range and needs no scaler."""
    if precision == "bf16":
        return torch.autocast("cpu", torch.bfloat16)
    return contextlib.nullcontext()


def warn_of_slow_products(precision: str) -> None:
    """Warn where a CPU has no fast bfloat16 product; torch emulates it below AVX512."""
    capability = torch.backends.cpu.get_cpu_capability()
    if precision == "bf16" and "AVX512" not in capability:
        logger.warning(
            "train.precision: bf16 is slow on a CPU with %s; fp32 is likely faster", capability
        )


def make_identity(
    config: TrainConfig, data_digests: Mapping[str, str], seed: int
) -> dict[str, Any]:
    """Name a run by what decides its bytes."""
    return {**plain_config(config), "data": dict(sorted(data_digests.items())), "seed": seed}


def _report(reader: BatchReader) -> None:
    """Say what was shown in place of what the plan and the mix asked for."""
    for name, count in sorted(reader.counts.items()):
        if count:
            logger.warning("%d times %s since this process began", count, name)


def _crossed(before: int, after: int, interval: int) -> bool:
    """Tell whether a multiple of the interval lies in (before, after]."""
    return before // interval != after // interval


def _check_finite(line: dict[str, Any]) -> None:
    if not (math.isfinite(line["loss"]) and math.isfinite(line["grad_norm"])):
        raise StageError(
            f"train: loss and gradient must be finite, got {line['loss']} and {line['grad_norm']} "
            f"before {line['samples_seen']} samples; lower train.muon_lr and train.adamw_lr"
        )


class _Clock:
    """Report throughput to the log, never to a committed file."""

    def __init__(self, samples_seen: int) -> None:
        self._first = samples_seen
        self._start = time.monotonic()

    def report(self, line: dict[str, Any], total: int) -> None:
        rate = (line["samples_seen"] - self._first) / max(time.monotonic() - self._start, 1e-9)
        logger.info(
            "%d of %d samples, loss %.4f, gradient %.3f, %.0f samples/s, %.0f s left",
            line["samples_seen"],
            total,
            line["loss"],
            line["grad_norm"],
            rate,
            (total - line["samples_seen"]) / rate,
        )
