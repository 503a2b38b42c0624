"""Hold the keys of `curate fit-captioner`; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from curate.core.errors import ConfigError
from train.captioning.config import FitConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class FitCaptionerConfig(FitConfig):
    """Say what is learnt from what; how it is learnt is inherited.

    Args:
        input: shards of ingest or bucket, other WebDataset tars, a folder of pictures with their
            text files, or tables that hold pictures.
        captioner: a folder that transformers wrote, or a model pack, whose captioner is taken.
        models_folder: of packs that do not ship their models.
        out: folder for what is fitted.
        source: caption sources to learn from, e.g. alt or detailed; several with commas, and `*`
            stands for any letters. A sample with several shows one of them in each epoch.
        template: the instruction that asks for such a caption, a name in `TEMPLATES`.
        seed: of the held-out share, of order, caption choice, first weights and dropout.
        num_samples: samples to learn from at most, drawn by key; 0 takes all.
        heldout_frac: share of the keys that is never learnt from.
        num_heldout: samples of it that are captioned before and after. 256 chosen by us: a rate of
            90 % is known to 4 points.
        debug: show tracebacks of user errors.
    """

    input: str = ""
    captioner: str = "toy"
    models_folder: str = ""
    out: str = "out/captioner"
    source: str = "alt"
    template: str = "detailed"
    seed: int = 0
    num_samples: int = 0
    heldout_frac: float = 0.05
    num_heldout: int = 256
    debug: bool = False

    def __post_init__(self) -> None:
        FitConfig.__post_init__(self)  # super() does not work in a dataclass with slots
        for name in ("input", "captioner", "out", "source"):
            if not getattr(self, name):
                raise ConfigError(f"{name}: must be set, got nothing; set {name}=...")
        if "://" in self.out:
            raise ConfigError(f"out: must be a folder of this machine, got {self.out}; set out=DIR")
        if self.num_samples < 0 or self.num_heldout < 1:
            raise ConfigError(
                "num_samples: must be >= 0 and num_heldout >= 1, got "
                f"{self.num_samples} and {self.num_heldout}; change them"
            )
        if not 0 < self.heldout_frac < 1:
            raise ConfigError(
                f"heldout_frac: must be between 0 and 1, got {self.heldout_frac}; e.g. 0.05"
            )

    @property
    def sources(self) -> tuple[str, ...]:
        """Give the patterns of `source`."""
        return tuple(self.source.split(","))
