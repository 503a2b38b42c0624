"""Plan which requests a model answers together, so that little of a batch is padding.

Path: cost of every request -> sorted by what is asked and by length -> cut into batches. Rows of a
batch are padded to the longest, so a batch is charged its rows times its longest row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from curate.core.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchLimits:
    """Bound a batch and its pictures.

    Args:
        batch_size: requests at a time. 64 chosen by us: on 2 cores the toy model gains nothing
            above it.
        max_batch_tokens: of prompts, pictures and answers together. 32,768 chosen by us: 1.9 GB of
            keys and values in a decoder as wide as Qwen2-VL-7B's (28 layers x 4 heads x 128 x 2
            values of 2 bytes), which leaves a card of 24 GB room for its weights.
        max_pixels: area of a picture for families whose tokens grow with it. 1,048,576 chosen by
            us: 1024 x 1024, the area that SDXL and SD3 are trained on; some 1,340 tokens of
            Qwen2-VL, whose own limit is 12 times that.

    Raises:
        ConfigError: a value is below 1.
    """

    batch_size: int = 64
    max_batch_tokens: int = 32_768
    max_pixels: int = 1_048_576

    def __post_init__(self) -> None:
        """Refuse what would leave no batch."""
        for name in ("batch_size", "max_batch_tokens", "max_pixels"):
            value = getattr(self, name)
            if value < 1:
                raise ConfigError(f"recaption.{name}: must be >= 1, got {value}; raise it")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Say how long a request is, in tokens.

    Args:
        prompt: of the instruction's words.
        visual: of the picture.
        answer: at most; requests with other limits are answered in other batches.
    """

    prompt: int
    visual: int
    answer: int

    @property
    def total(self) -> int:
        """Give the length of the row."""
        return self.prompt + self.visual + self.answer


def plan_batches(costs: Sequence[Cost], limits: BatchLimits) -> list[list[int]]:
    """Group requests of alike lengths; a request above the budget is a batch of its own.

    Returns:
        Indices of `costs`, each once; the shorter rows first.
    """
    order = sorted(range(len(costs)), key=lambda i: (costs[i].answer, costs[i].total, i))
    batches: list[list[int]] = []
    for index in order:
        if batches and _has_room(costs[batches[-1][0]], len(batches[-1]), costs[index], limits):
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def _has_room(first: Cost, count: int, cost: Cost, limits: BatchLimits) -> bool:
    """Tell whether a row, the longest so far, can join a batch that began with `first`."""
    is_alike = first.answer == cost.answer
    return (
        is_alike
        and count < limits.batch_size
        and (count + 1) * cost.total <= limits.max_batch_tokens
    )
