"""Configure training; imports no torch, so that the command line reads it for nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from curate.core.errors import ConfigError
from train.backbones.backbone import BackboneConfig
from train.backbones.table import BACKBONES
from train.objective import ObjectiveConfig
from train.reading import ReadConfig, TextShape

PRECISIONS = ("bf16", "fp32")
NULL_CAPTIONS = ("zeros", "encoded")


def _default_weights() -> dict[str, float]:
    return {"alt": 0.1, "short": 0.2, "detailed": 0.7}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """Configure one training run; all intervals are in samples.

    Args:
        backbone: a name in `BACKBONES`.
        model: size of the backbone.
        objective: what is trained.
        num_samples: samples to train on, each epoch's visit counted; rounded up to whole batches.
        batch_size: samples a step, all of one bucket.
        caption_weights: caption source -> weight; a source of weight 0 stands in for absent ones,
            one that is not named is never shown. See `train/mix.py`.
        caption_dropout_frac: share of samples shown with the null caption, for guidance.
            Source: 10 % in DiT, PixArt and SDXL.
        max_text_tokens: longer captions are cut to this many tokens; 0 takes what the text encoder
            allows. Every caption is padded to it, so it sets the cost of a step.
        null_caption: what stands for no caption: "zeros" in tokens and pooled vector, or what the
            text encoder makes of the empty caption ("encoded").
        muon_lr: peak rate for block matrices, in AdamW's scale.
        adamw_lr: peak rate for the rest.
        weight_decay: decoupled, on matrices.
        warmup_samples: length of the linear warm-up.
        decay_frac: share of the run over which the rates fall to 0.
        max_grad_norm: gradients are clipped to this joint norm.
        ema_half_life_samples: half-life of the averaged weights; 0 takes the last weights.
        precision: "bf16" (autocast, float32 master weights) or "fp32".
        num_threads: CPU threads; 0 takes all cores. Another number may move the last bits.
        num_loss_bins: timestep bins of the loss in metrics.jsonl.
        log_every_samples: a metrics line at least this often.
        checkpoint_every_samples: a checkpoint at least this often; changes no byte of the result.
        other_stores: further latent stores to mix in: folder or URL -> how often their samples are
            met, relative to those of this run's.
        reading: how records are read; changes no byte of the result while no record is bad.
    """

    backbone: str = "sd3"
    model: BackboneConfig = field(default_factory=BackboneConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    num_samples: int = 96_000
    batch_size: int = 96
    caption_weights: dict[str, float] = field(default_factory=_default_weights)
    caption_dropout_frac: float = 0.1
    max_text_tokens: int = 0
    null_caption: str = "zeros"
    muon_lr: float = 3e-3
    adamw_lr: float = 1e-3
    weight_decay: float = 0.01
    warmup_samples: int = 2_000
    decay_frac: float = 0.3
    max_grad_norm: float = 1.0
    ema_half_life_samples: int = 4_000
    precision: str = "bf16"
    num_threads: int = 0
    num_loss_bins: int = 10
    log_every_samples: int = 2_000
    checkpoint_every_samples: int = field(default=10_000, metadata={"fingerprint": False})
    other_stores: dict[str, float] = field(default_factory=dict[str, float])
    reading: ReadConfig = field(default_factory=ReadConfig, metadata={"fingerprint": False})

    def __post_init__(self) -> None:
        """Refuse what cannot be trained, in one line."""
        _choice("backbone", self.backbone, tuple(BACKBONES))
        _choice("precision", self.precision, PRECISIONS)
        _choice("null_caption", self.null_caption, NULL_CAPTIONS)
        for name in (
            "num_samples",
            "batch_size",
            "num_loss_bins",
            "log_every_samples",
            "checkpoint_every_samples",
            "muon_lr",
            "adamw_lr",
            "max_grad_norm",
        ):
            if not getattr(self, name) > 0:
                raise ConfigError(
                    f"train.{name} must be > 0, got {getattr(self, name)}; see `curate config`"
                )
        for name in (
            "weight_decay",
            "warmup_samples",
            "ema_half_life_samples",
            "max_text_tokens",
            "num_threads",
        ):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"train.{name} must be >= 0, got {getattr(self, name)}; 0 is off")
        for name in ("caption_dropout_frac", "decay_frac"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(
                    f"train.{name} must be in [0, 1), got {getattr(self, name)}; 0 is off"
                )
        for store, weight in self.other_stores.items():
            if not (weight > 0 and math.isfinite(weight)):
                raise ConfigError(
                    f"train.other_stores: weights must be > 0, got {weight} for {store}; "
                    "leave it out"
                )
        weights = self.caption_weights.values()
        if not all(w >= 0 and math.isfinite(w) for w in weights) or not sum(weights) > 0:
            raise ConfigError(
                f"train.caption_weights must be >= 0 with a positive sum, got "
                f"{self.caption_weights}; e.g. {{alt: 0.5, detailed: 0.5}}"
            )

    @property
    def text_shape(self) -> TextShape:
        """Give the layout of captions: one shape for the whole run."""
        null = "encoded" if self.null_caption == "encoded" else "zeros"
        return TextShape(max_tokens=self.max_text_tokens, null=null)

    @property
    def num_steps(self) -> int:
        """Give the number of optimizer steps."""
        return -(-self.num_samples // self.batch_size)


def _choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(
            f"train.{name} must be one of {', '.join(allowed)}, got {value!r}; choose one"
        )
