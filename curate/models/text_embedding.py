"""Say what a text encoder is and what it gives of a caption.

Only real tokens are given, so a store keeps no padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class TextEmbedding:
    """Hold one caption's embedding.

    Args:
        tokens: [T, D], float32, real tokens only; T >= 1, for the end mark is always there.
        pooled: [P], float32, root mean square 1.
        num_truncated: tokens that did not fit and were cut off.
    """

    tokens: NDArray[np.float32]
    pooled: NDArray[np.float32]
    num_truncated: int


class TextEncoder(Protocol):
    """Encode captions; D is `dim`, P is `pooled_dim`, T is at most `max_tokens`."""

    name: str
    dim: int
    pooled_dim: int
    max_tokens: int

    def encode(self, captions: Sequence[str]) -> list[TextEmbedding]:
        """Encode captions, in order."""
        ...
