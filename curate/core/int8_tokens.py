"""Store token vectors in a byte a channel: int8 with a scale for each token.

    row [D + 2], int8:   D numbers q, then two bytes: a float16 scale (little-endian)
    value = q * scale, scale = the token's largest magnitude / 127

Source: absmax quantisation by vector, LLM.int8() (Dettmers et al. 2022, arXiv 2208.07339), section
2.1. Half the size of float16 plus two bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SCALE_BYTES = 2
_LARGEST = 127  # -128 is left out, so that both signs reach as far
_SCALES = np.float16(6e-8), np.float16(515.5)  # of float16, times 127 within its range
# Relative root mean square error of float8 e4m3, the other format of a byte, on normal numbers
# (measured; tests compute it again): where int8 is worse than that, it is the wrong form.
MAX_ERROR = 0.027


@dataclass(frozen=True, slots=True, kw_only=True)
class Int8Error:
    """Hold what int8 costs, as relative root mean square errors.

    Args:
        overall: of all numbers together; large channels hide small ones in it.
        by_channel: of each channel on its own scale, averaged over channels: what is left where a
            few outlier channels set every token's scale.
    """

    overall: float
    by_channel: float

    @property
    def worst(self) -> float:
        """Give the larger one, which decides."""
        return max(self.overall, self.by_channel)


def pack_int8(tokens: NDArray[Any]) -> NDArray[np.int8]:
    """Pack tokens.

    Args:
        tokens: [T, D], floating point, finite.

    Returns:
        [T, D + 2], int8.
    """
    values = tokens.astype(np.float32)
    scale = (np.abs(values).max(axis=1, initial=0.0) / _LARGEST).astype(np.float16)
    scale = scale.clip(*_SCALES)[:, None]  # [T, 1]
    numbers = np.rint(values / scale.astype(np.float32)).clip(-_LARGEST, _LARGEST)
    scale_bytes = scale.astype("<f2").view(np.int8)  # [T, 2]
    return np.concatenate([numbers.astype(np.int8), scale_bytes], axis=1)


def unpack_int8(
    rows: NDArray[np.int8], out: NDArray[np.float16] | NDArray[np.float32] | None = None
) -> NDArray[Any]:
    """Unpack tokens.

    Args:
        rows: [..., D + 2], int8, as `pack_int8` gives them.
        out: [..., D], float16 or float32, to be filled; a new float16 array when absent.

    Returns:
        [..., D].
    """
    if out is None:
        out = np.empty((*rows.shape[:-1], rows.shape[-1] - SCALE_BYTES), np.float16)
    scale = np.ascontiguousarray(rows[..., -SCALE_BYTES:]).view("<f2")  # [..., 1]
    np.multiply(rows[..., :-SCALE_BYTES], scale, out=out, dtype=np.float32, casting="same_kind")
    return out


def measure_int8(tokens: Iterable[NDArray[Any]]) -> Int8Error:
    """Measure what packing changes in some captions' tokens, each [T, D].

    Channels that are zero throughout are left out.
    """
    power, lost = 0.0, 0.0  # [D], sums of squares
    for one in tokens:
        values = one.astype(np.float64)
        back = unpack_int8(pack_int8(one), np.empty(one.shape, np.float32))
        power = power + np.square(values).sum(axis=0)
        lost = lost + np.square(values - back).sum(axis=0)
    power, lost = np.atleast_1d(power), np.atleast_1d(lost)
    known = power > 0
    if not known.any():
        return Int8Error(overall=0.0, by_channel=0.0)
    return Int8Error(
        overall=float(np.sqrt(lost.sum() / power.sum())),
        by_channel=float(np.sqrt(np.mean(lost[known] / power[known]))),
    )
