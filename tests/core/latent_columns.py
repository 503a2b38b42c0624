"""Write small columns of a latent store for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from curate.core.latent_column import ArrayColumn, CaptionColumn, CaptionRecord
from curate.core.schema import make_key
from curate.core.seed import make_rng

SHAPE = (8, 4, 6)
DIM, POOLED_DIM = 6, 5


def keys(count: int) -> list[str]:
    return sorted(make_key("sample", str(number)) for number in range(count))


def moments(key: str, shape: tuple[int, ...] = SHAPE) -> np.ndarray[Any, Any]:
    return make_rng(0, "moments", key).standard_normal(shape).astype(np.float16)


def caption(
    key: str, source: str, num_tokens: int, text: str = "", pooled_dim: int = POOLED_DIM
) -> CaptionRecord:
    rng = make_rng(0, "caption", key, source)
    return CaptionRecord(
        source=source,
        text=text or f"{source} of {key}",
        tokens=rng.standard_normal((num_tokens, DIM)).astype(np.float16),
        pooled=rng.standard_normal(pooled_dim).astype(np.float16),
        num_truncated=0,
    )


def write_arrays(folder: Path, count: int = 5, name: str = "00000") -> Path:
    column = ArrayColumn(folder, name, {"bucket": "32x48"})
    for key in keys(count):
        column.add(key, {"moments": moments(key)})
    column.close()
    return folder / f"{name}.tar"


def captions_of(key: str, number: int) -> list[CaptionRecord]:
    """Give two captions, or none for every fourth sample."""
    if number % 4 == 3:
        return []
    return [caption(key, "alt", 1 + number), caption(key, "detailed", 7)]


def write_captions(
    folder: Path, count: int = 5, name: str = "00000", facts: dict[str, Any] | None = None
) -> Path:
    column = CaptionColumn(folder, name, facts or {"encoder": "main"})
    for number, key in enumerate(keys(count)):
        column.add(key, captions_of(key, number))
    column.close()
    return folder / f"{name}.tar"
