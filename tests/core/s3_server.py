"""Serve the S3 protocol on loopback with moto, behind a proxy that can break requests."""

from __future__ import annotations

import contextlib
import logging
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fsspec.config
import pytest
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem

from curate.core import remote_store
from tests.core.faulty_proxy import FaultyProxy, serve_proxy

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
}


@contextlib.contextmanager
def serve_s3() -> Iterator[FaultyProxy]:
    """Run moto and the proxy in threads until the block ends."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        with serve_proxy(server.get_host_and_port()[1]) as proxy:
            yield proxy
    finally:
        server.stop()


@contextlib.contextmanager
def use_s3(proxy: FaultyProxy, **config: Any) -> Iterator[str]:
    """Point every s3:// URL of this process at the proxy; give the URL of a new bucket.

    Args:
        proxy: passes everything on until a test sets its plan.
        config: of botocore; a silent socket counts as broken after one second.
    """
    proxy.plan = lambda number, method, path: ""
    options = {"endpoint_url": proxy.url, "config_kwargs": {"read_timeout": 1, **config}}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        patch.setitem(fsspec.config.conf, "s3", options)
        # The shortest of botocore's random pauses, and short ones of our own.
        patch.setattr("botocore.retryhandler.random", SimpleNamespace(random=lambda: 0.001))
        patch.setattr(remote_store, "_PAUSE_S", 0.001)
        bucket = f"bucket-{uuid.uuid4().hex[:8]}"
        S3FileSystem().mkdir(bucket)
        proxy.restart()
        try:
            yield f"s3://{bucket}"
        finally:
            proxy.plan = lambda number, method, path: ""


def copy_tree(folder: Path, url: str) -> None:
    """Upload a local folder, file by file."""
    system, root = fsspec.url_to_fs(url)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            system.put_file(str(path), f"{root}/{path.relative_to(folder).as_posix()}")
