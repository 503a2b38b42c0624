"""Configure the fitting of a captioner; imports no torch, so that the command line reads it."""

from __future__ import annotations

from dataclasses import dataclass, field

from curate.core.errors import ConfigError

METHODS = ("lora", "full")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraOptions:
    """Size the low-rank updates.

    Args:
        rank: of each update.
        alpha: the update is scaled by alpha / rank. Source: Hu et al. 2021 (arXiv 2106.09685),
            section 4.1; twice the rank is what LLaVA trains with (its `finetune_lora.sh`).
        dropout: of the update's input. Source: likewise LLaVA.
        targets: last names of the linear layers that get one, e.g. [q_proj, v_proj]; none stands
            for all. Source: Dettmers et al. 2023 (arXiv 2305.14314), section 4: adapters on all
            linear layers are what reaches full fine-tuning.
    """

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.05
    targets: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha <= 0 or not 0 <= self.dropout < 1:
            raise ConfigError(
                "lora: rank >= 1, alpha > 0 and 0 <= dropout < 1, got "
                f"{self.rank}, {self.alpha} and {self.dropout}; change them"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class FitConfig:
    """Say how a captioner is fitted.

    Args:
        method: "lora" trains low-rank updates of linear layers, "full" the weights themselves.
        lora: sizes of the updates.
        tune_vision: train the vision tower as well; it stays as it is by default, as in LLaVA
            (arXiv 2304.08485, section 4.2).
        num_epochs: passes over the samples; a part of one is fine.
        batch_size: samples of an update.
        micro_batch_size: samples in memory at once; gradients of a batch's parts are summed, so it
            changes nothing but memory and rounding.
        learning_rate: at its peak; then it falls along a cosine to 0. Source: 2e-4 is LLaVA's for
            LoRA; for "full" take its 2e-5.
        warmup_frac: share of the updates over which the rate rises. Source: likewise LLaVA.
        weight_decay: of AdamW, on matrices.
        max_grad_norm: larger gradients are scaled down to it.
        log_every_samples: of a line in metrics.jsonl.
        checkpoint_every_samples: of a checkpoint; changes no byte of the result.
    """

    method: str = "lora"
    lora: LoraOptions = field(default_factory=LoraOptions)
    tune_vision: bool = False
    num_epochs: float = 3.0
    batch_size: int = 32
    micro_batch_size: int = 8
    learning_rate: float = 2e-4
    warmup_frac: float = 0.03
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    log_every_samples: int = 320
    checkpoint_every_samples: int = field(default=3200, metadata={"fingerprint": False})

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ConfigError(
                f"method: must be one of {', '.join(METHODS)}, got {self.method!r}; choose one"
            )
        for name in (
            "batch_size",
            "micro_batch_size",
            "log_every_samples",
            "checkpoint_every_samples",
        ):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: must be >= 1, got {getattr(self, name)}; raise it")
        for name in ("num_epochs", "learning_rate", "max_grad_norm"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name}: must be > 0, got {getattr(self, name)}; raise it")
        if not 0 <= self.warmup_frac < 1 or self.weight_decay < 0:
            raise ConfigError(
                "warmup_frac: must be in [0, 1) and weight_decay >= 0, got "
                f"{self.warmup_frac} and {self.weight_decay}; change them"
            )

    def num_steps(self, num_samples: int) -> int:
        """Give the number of updates; at least one."""
        return max(1, round(self.num_epochs * num_samples / self.batch_size))
