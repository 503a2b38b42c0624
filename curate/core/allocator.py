"""Keep freed memory at hand: pictures are buffers of 0.1 to 10 MB that come and go by the thousand.

Dask starts its workers with MALLOC_TRIM_THRESHOLD_=65536: every such buffer is returned to the
kernel, which clears its pages anew for the next one. That costs 330 page faults a picture instead
of 28, and ingest takes 1.6 times as long (`benchmarks/download.py`).
"""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # Source: glibc, malloc.h
_KEPT_BYTES = 2**27  # free memory at the top of the heap; chosen by us
_LARGEST_FROM_HEAP = 2**25  # Source: glibc's DEFAULT_MMAP_THRESHOLD_MAX on 64 bits


def keep_freed_memory() -> None:
    """Tell glibc's malloc to return memory in large pieces only; others are left alone."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_MMAP_THRESHOLD, _LARGEST_FROM_HEAP)
