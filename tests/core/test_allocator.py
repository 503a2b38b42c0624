"""Buffers that come and go must not cost new pages each time."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

NUM_BUFFERS, BUFFER_BYTES = 200, 2**20
MEASURE = f"""
import resource
from curate.core.allocator import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range({NUM_BUFFERS}):
        bytearray({BUFFER_BYTES})
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(faults())
keep_freed_memory()
print(faults())
"""


@pytest.mark.skipif(
    getattr(ctypes.CDLL(None), "mallopt", None) is None, reason="glibc's malloc only"
)
def test_freed_buffers_are_used_again_as_a_dask_worker_is_started() -> None:
    environment = {**os.environ, "MALLOC_TRIM_THRESHOLD_": "65536"}  # as distributed's nanny sets
    command = [sys.executable, "-c", MEASURE]
    answer = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    ).stdout
    before, after = (int(line) for line in answer.split())
    pages = BUFFER_BYTES // os.sysconf("SC_PAGE_SIZE")
    assert before >= NUM_BUFFERS * pages // 2
    assert after <= 4 * pages
