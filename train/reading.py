"""Say how latents are read: options of the loader, without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from curate.core.errors import ConfigError
from curate.core.record_files import Io

Verify = Literal["never", "sampled", "always"]
NullCaption = Literal["zeros", "encoded"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadConfig:
    """Configure how records are read; nothing here but `verify` and `max_bad` needs thought.

    Args:
        num_threads: that read ahead of training; 0 reads when a batch is asked for. One is enough:
            a second costs more in waiting for the interpreter than it reads (RESULTS.md).
        ahead_steps: steps whose ranges are announced to the kernel or fetched; 0 is none.
        io: "preadv" or "mmap", see `core/record_files.py`.
        verify: which records' digests are compared: "never", "sampled" (1 % of visits) or
            "always" (1 us for 8 KB).
        max_bad: bad records that are replaced by others before the run is stopped.
        cache_bytes: disk for ranges of remote stores, of each process.
        cache_folder: where they lie; "" is the machine's folder for temporary files.
    """

    num_threads: int = 1
    ahead_steps: int = 4
    io: Io = "preadv"
    verify: Verify = "sampled"
    max_bad: int = 100
    cache_bytes: int = 64 << 30
    cache_folder: str = ""

    def __post_init__(self) -> None:
        """Refuse what cannot be, in one line."""
        for name in ("num_threads", "ahead_steps", "max_bad", "cache_bytes"):
            if getattr(self, name) < 0:
                raise ConfigError(
                    f"train.reading.{name} must be >= 0, got {getattr(self, name)}; 0 is none"
                )
        choose("train.reading.io", self.io, ("preadv", "mmap"))
        choose("train.reading.verify", self.verify, ("never", "sampled", "always"))


def choose(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Refuse a value that is none of the allowed.

    Raises:
        ConfigError: names them.
    """
    if value not in allowed:
        raise ConfigError(f"{name} must be one of {', '.join(allowed)}, got {value!r}; choose one")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextShape:
    """Say how captions are laid out.

    Args:
        max_tokens: longer ones are cut; 0 takes what the text encoder allows.
        step: 0 pads all captions to the most that there may be, one shape for a whole run; n pads
            to the batch's longest, rounded up to a multiple of n.
        null: what stands for no caption: "zeros", or the "encoded" empty one.
    """

    max_tokens: int = 0
    step: int = 0
    null: NullCaption = "zeros"

    def length(self, limit: int, longest: int) -> int:
        """Give the length that a batch is padded to.

        Args:
            limit: the text encoder's.
            longest: caption of the batch, in tokens.
        """
        most = min(limit, self.max_tokens or limit)
        if not self.step:
            return most
        return min(most, max(self.step, math.ceil(longest / self.step) * self.step))


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """Say what a batch shall have besides latents and captions.

    Args:
        text: layout of captions.
        features: names of feature columns.
        with_flips: take the mirrored record for half of the visits, where a store has them.
        with_noise: draw the noise of diffusion too.
    """

    text: TextShape = field(default_factory=TextShape)
    features: tuple[str, ...] = ()
    with_flips: bool = True
    with_noise: bool = True
