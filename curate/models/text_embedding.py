"""Say what a text encoder is and what it gives of a caption.

    caption -> tokenize -> token ids [T] -> encode_ids -> tokens [T, D], pooled [P]

Only real tokens are given, so a store keeps no padding. The two steps stand apart so that a store
may hold ids alone and whoever trains encodes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenIds:
    """Hold one caption's token ids.

    Args:
        ids: [T], int32, marks at start and end included; T >= 1.
        num_truncated: tokens that did not fit and were cut off; the end mark is kept.
    """

    ids: NDArray[np.int32]
    num_truncated: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TextEmbedding:
    """Hold one caption's embedding.

    Args:
        tokens: [T, D], float32, real tokens only; T >= 1, for the end mark is always there.
        pooled: [P], float32; P is 0 for an encoder that has no such vector.
        num_truncated: tokens that did not fit and were cut off; 0 where only ids were given.
    """

    tokens: NDArray[np.float32]
    pooled: NDArray[np.float32]
    num_truncated: int = 0


class TextEncoder(Protocol):
    """Encode captions; D is `dim`, P is `pooled_dim`, T is at most `max_tokens`.

    A caption's embedding does not depend on those beside it, but for rounding.
    """

    name: str
    dim: int
    pooled_dim: int
    max_tokens: int

    def tokenize(self, captions: Sequence[str]) -> list[TokenIds]:
        """Turn captions into token ids, cut at `max_tokens`, in order."""
        ...

    def encode_ids(self, ids: Sequence[NDArray[np.int32]]) -> list[TextEmbedding]:
        """Encode token ids as `tokenize` gives them, in order."""
        ...

    def encode(self, captions: Sequence[str]) -> list[TextEmbedding]:
        """Encode captions, in order."""
        found = self.tokenize(captions)
        embedded = self.encode_ids([one.ids for one in found])
        return [
            replace(embedding, num_truncated=one.num_truncated)
            for embedding, one in zip(embedded, found, strict=True)
        ]
