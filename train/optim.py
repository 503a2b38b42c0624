"""Group parameters, step the optimizers, and give the learning rate as a function of samples_seen.

Muon turns the gradient of each block matrix into an orthogonal update; everything else (biases,
norms, embedders, output) is AdamW's. Both are torch's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn


class Optimizers:
    """Hold Muon for the block matrices and AdamW for the rest.

    Args:
        module: the model to train; its block matrices are the 2-D weights below
            "transformer_blocks".
        muon_lr: peak learning rate of Muon, in AdamW's scale (`match_rms_adamw`).
        adamw_lr: peak learning rate of AdamW.
        weight_decay: decoupled, on all matrices; vectors are not decayed.
    """

    def __init__(
        self, module: nn.Module, *, muon_lr: float, adamw_lr: float, weight_decay: float
    ) -> None:
        named = dict(module.named_parameters())
        self._names = {id(param): name for name, param in named.items()}
        matrices = [param for name, param in named.items() if is_block_matrix(name, param)]
        taken = {id(param) for param in matrices}
        others = [param for param in named.values() if id(param) not in taken]
        # AdamW's betas are torch's defaults. Source: SD3 and PixArt train with (0.9, 0.999).
        adamw = torch.optim.AdamW(
            [
                {"params": [p for p in others if p.ndim > 1], "weight_decay": weight_decay},
                {"params": [p for p in others if p.ndim <= 1], "weight_decay": 0.0},
            ],
            lr=adamw_lr,
            fused=True,
        )
        self._all: list[tuple[torch.optim.Optimizer, float]] = [(adamw, adamw_lr)]
        if matrices:
            muon = torch.optim.Muon(
                matrices, lr=muon_lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
            )
            self._all.append((muon, muon_lr))

    def step(self, lr_factor: float) -> None:
        """Update all parameters at this fraction of the peak rates, and drop the gradients."""
        for optimizer, peak in self._all:
            for group in optimizer.param_groups:
                group["lr"] = peak * lr_factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def rates(self, lr_factor: float) -> dict[str, float]:
        """Give the learning rate of each optimizer at this fraction of the peak."""
        names = ("adamw", "muon")
        return {n: peak * lr_factor for n, (_, peak) in zip(names, self._all, strict=False)}

    def state(self) -> dict[str, Tensor]:
        """Give every tensor of state under "<parameter>/<name>"."""
        return {
            f"{self._names[id(param)]}/{name}": value
            for param, values in self._states()
            for name, value in values.items()
        }

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Set what `state` gave."""
        for optimizer, _ in self._all:
            for group in optimizer.param_groups:
                for param in group["params"]:
                    prefix = self._names[id(param)] + "/"
                    optimizer.state[param] = {
                        name.removeprefix(prefix): tensor.clone()
                        for name, tensor in tensors.items()
                        if name.startswith(prefix)
                    }

    def _states(self) -> Iterator[tuple[Any, dict[str, Tensor]]]:
        for optimizer, _ in self._all:
            yield from optimizer.state.items()


def is_block_matrix(name: str, param: Tensor) -> bool:
    """Tell whether Muon trains this parameter.

    Source: K. Jordan et al., Muon (2024): hidden matrices only; embeddings, output and vectors stay
    with AdamW.
    """
    return "transformer_blocks." in name and param.ndim == 2


def lr_factor(samples_seen: int, total: int, warmup_samples: int, decay_frac: float) -> float:
    """Give the fraction of the peak learning rate: linear warm-up, constant, linear decay to 0.

    Args:
        samples_seen: before the step.
        total: samples of the whole run.
        warmup_samples: length of the warm-up.
        decay_frac: share of the run, at its end, over which the rate falls.

    Source: trapezoid schedule, Haegele et al. 2024 (arXiv:2405.18392).
    """
    warmup = (samples_seen + 1) / warmup_samples if warmup_samples else 1.0
    decay = (total - samples_seen) / (decay_frac * total) if decay_frac else 1.0
    return min(1.0, warmup, decay)


def clip_gradients(params: Iterable[Tensor], max_norm: float) -> Tensor:
    """Scale all gradients so that their joint norm is at most `max_norm`.

    Returns:
        The norm before clipping, a scalar tensor (not yet moved to Python).
    """
    return nn.utils.clip_grad_norm_(params, max_norm)
