"""A run whose `out` lies in an object store gives the bytes of a local one, faults or not."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from s3fs import S3FileSystem

from benchmarks.kills import VOLATILE, digest, make_folder, snapshot
from tests.core.faulty_proxy import FaultyProxy
from tests.core.s3_server import ENVIRONMENT, serve_s3, use_s3
from tests.pipelines.test_engines import CHEAP, CURATE, ran

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def proxy() -> Iterator[FaultyProxy]:
    with serve_s3() as proxy:
        yield proxy


def curate(proxy: FaultyProxy, *arguments: str) -> str:
    done = subprocess.run(
        [CURATE, *arguments],
        env={**os.environ, **ENVIRONMENT, "AWS_ENDPOINT_URL": proxy.url},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def remote_snapshot(url: str) -> dict[str, str]:
    system = S3FileSystem()
    root = url.removeprefix("s3://")
    found: dict[str, str] = {}
    for path in system.find(root):
        name = str(path).removeprefix(root + "/")
        if Path(name).name not in VOLATILE:
            found[name] = digest(name, system.cat_file(path))
    return found


def test_an_out_behind_a_url_gets_the_bytes_of_a_local_one_despite_faults(
    proxy: FaultyProxy, tmp_path: Path
) -> None:
    pictures, local = tmp_path / "pictures", tmp_path / "out"
    make_folder(pictures, 12, seed=0)
    line = ["run", *CHEAP, "stages=[ingest,annotate,filter,dedup,recaption,judge,bucket,encode]"]
    line += ["bucket.resolutions=[64]", f"input={pictures}", "engine=local", "engine.num_workers=2"]
    curate(proxy, *line, f"out={local}")
    with use_s3(proxy) as bucket:
        # Every ninth request fails once: an error of the server, then a cut connection, in turn.
        proxy.plan = lambda number, method, path: {0: "500", 9: "reset"}.get(number % 18, "")
        out = f"{bucket}/sets/out"
        curate(proxy, *line, f"out={out}")
        assert proxy.faults["500"] > 10 and proxy.faults["reset"] > 10
        proxy.plan = lambda number, method, path: ""
        assert remote_snapshot(out) == snapshot(local)
        assert set(ran(curate(proxy, *line, f"out={out}")).values()) == {0}
        status = curate(proxy, "status", f"out={out}").splitlines()
        assert [row.split()[-1] for row in status[1:]] == ["done"] * 8
        assert " 0 damaged" in curate(proxy, "verify", f"out={out}")
