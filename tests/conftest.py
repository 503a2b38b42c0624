"""Keep tests off the network and on one thread."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.core.faulty_proxy import FaultyProxy

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def proxy() -> Iterator[FaultyProxy]:
    """Serve S3 on loopback, behind a proxy that can break requests."""
    from tests.core.s3_server import serve_s3

    with serve_s3() as proxy:
        yield proxy


@pytest.fixture
def bucket(proxy: FaultyProxy) -> Iterator[str]:
    """Give the URL of a new bucket; what was copied from it goes afterwards."""
    from curate.core.remote_copies import drop_copies
    from tests.core.s3_server import use_s3

    with use_s3(proxy) as url:
        yield url
        drop_copies()
