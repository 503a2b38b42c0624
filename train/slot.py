"""Keep the memory of one batch, allocated once and used again for batches of any shape."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_MAX_VIEWS = 256  # chosen by us: shapes are few, but for the lengths of texts


class Slot:
    """Give arrays by name whose memory is reused; an array is valid until its name comes again.

    Args:
        is_pinned: memory that a GPU copies from without a detour; needs CUDA.
    """

    def __init__(self, *, is_pinned: bool = False) -> None:
        self._is_pinned = is_pinned
        self._flat: dict[str, NDArray[np.uint8]] = {}
        self._views: dict[tuple[Any, ...], tuple[NDArray[Any], list[memoryview]]] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """Give an array; its content is whatever was there."""
        return self._view(name, shape, np.dtype(dtype))[0]

    def rows(self, name: str, shape: tuple[int, ...], dtype: Any) -> list[memoryview]:
        """Give the bytes of each row (first axis) of the same array."""
        return self._view(name, shape, np.dtype(dtype))[1]

    def _view(
        self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> tuple[NDArray[Any], list[memoryview]]:
        at = name, shape, dtype
        if at not in self._views:
            self._views[at] = self._make(name, shape, dtype)
        return self._views[at]

    def _make(
        self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> tuple[NDArray[Any], list[memoryview]]:
        row_bytes = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
        num_bytes = shape[0] * row_bytes
        if name not in self._flat or len(self._flat[name]) < num_bytes or self._is_full():
            self._flat[name] = self._allocate(num_bytes)
            self._views = {at: view for at, view in self._views.items() if at[0] != name}
        flat = self._flat[name][:num_bytes]
        raw = flat.data
        rows = [raw[i * row_bytes : (i + 1) * row_bytes] for i in range(shape[0])]
        return flat.view(dtype).reshape(shape), rows

    def _is_full(self) -> bool:
        return len(self._views) >= _MAX_VIEWS

    def _allocate(self, num_bytes: int) -> NDArray[np.uint8]:
        if not self._is_pinned:
            return np.empty(num_bytes, np.uint8)
        import torch

        return torch.empty(num_bytes, dtype=torch.uint8, pin_memory=True).numpy()
