"""Sum up losses between two log lines, without moving a number to Python at each step.

A line holds no clock: the same run gives the same `metrics.jsonl` on any day. Throughput goes to
the log.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

# Chosen by us: float32 sums carry about 7 digits; the sixth is the last worth reading.
_DIGITS = 6


class LossMeter:
    """Accumulate losses by timestep bin and gradient norms.

    Args:
        num_bins: bins of equal width over t in [0, 1].
    """

    def __init__(self, num_bins: int) -> None:
        self._num_bins = num_bins
        self._loss = torch.zeros(num_bins)
        self._count = torch.zeros(num_bins)
        self._grad_norm = torch.zeros(2)  # sum, number of steps

    def add(self, losses: Tensor, t: Tensor, grad_norm: Tensor) -> None:
        """Add one step: losses [B], t [B] in [0, 1], grad_norm a scalar tensor."""
        bins = (t * self._num_bins).long().clamp(max=self._num_bins - 1)
        self._loss.index_add_(0, bins, losses.detach())
        self._count.index_add_(0, bins, torch.ones_like(t))
        self._grad_norm += torch.stack([grad_norm.detach(), torch.ones(())])

    def read(self) -> dict[str, Any]:
        """Give mean loss, mean loss by bin (null where no t fell) and mean gradient norm; reset."""
        counts = self._count.tolist()
        sums = self._loss.tolist()
        total, steps = self._grad_norm.tolist()
        self.load_state({name: torch.zeros_like(value) for name, value in self.state().items()})
        return {
            "loss": _round(sum(sums) / sum(counts)),
            "loss_bins": [
                _round(value / count) if count else None
                for value, count in zip(sums, counts, strict=True)
            ],
            "grad_norm": _round(total / steps),
        }

    def state(self) -> dict[str, Tensor]:
        """Give the sums, for a checkpoint."""
        return {"loss": self._loss, "count": self._count, "grad_norm": self._grad_norm}

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Set what `state` gave."""
        self._loss, self._count, self._grad_norm = (
            tensors[name].clone() for name in ("loss", "count", "grad_norm")
        )


def to_jsonl(lines: Sequence[dict[str, Any]]) -> str:
    """Write one JSON object a line."""
    return "".join(json.dumps(line) + "\n" for line in lines)


def _round(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
