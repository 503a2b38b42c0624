"""`retry_failed=true` fetches failed rows of finished shards again, and only those."""

from __future__ import annotations

import io
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from curate.core.commit import remove_shard
from curate.core.engine import StageReport
from curate.core.manifest import find_marker
from curate.core.shard import ShardSet
from curate.core.store import LocalStore
from curate.stages import earlier
from pipelines.request import parse_request
from pipelines.run import run_request
from tests.silent import Silent

NUM_ROWS = 8


class Site:
    """Serve pictures on loopback; the paths in `down` answer as they are told to."""

    def __init__(self) -> None:
        self.down: dict[str, int] = {}
        self.asked: Counter[str] = Counter()
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path.endswith(".txt") or self.path.endswith(".json"):
                    self.send_error(404)
                    return
                site.asked[self.path] += 1
                if self.path in site.down:
                    self.send_error(site.down[self.path])
                    return
                body = draw(int(self.path.strip("/").removesuffix(".png")))
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


def draw(number: int) -> bytes:
    rng = np.random.Generator(np.random.Philox(key=number))
    stream = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (16, 16, 3), np.uint8)).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    thread = threading.Thread(target=site.server.serve_forever, args=(0.02,))
    thread.start()
    yield site
    site.server.shutdown()
    thread.join()
    site.server.server_close()


@pytest.fixture
def folder(tmp_path: Path, site: Site) -> Path:
    """Ingest eight rows in two shards; row 1 answers 503, row 2 404, row 6 503."""
    rows = {"url": [f"{site.url}/{n}.png" for n in range(NUM_ROWS)]}
    rows["caption"] = [f"picture {n}" for n in range(NUM_ROWS)]
    pq.write_table(pa.table(rows), tmp_path / "urls.parquet")
    site.down = {"/1.png": 503, "/2.png": 404, "/6.png": 503}
    ingest(tmp_path)
    site.asked.clear()
    return tmp_path


def ingest(folder: Path, *more: str) -> StageReport:
    arguments = [
        "stages=[ingest]", f"input={folder / 'urls.parquet'}", f"out={folder / 'out'}",
        "engine=inline", "ingest.shard_size=4", "ingest.allow_private=true", "ingest.retries=0",
    ]  # fmt: skip
    (report,) = run_request(parse_request([*arguments, *more]), Silent())
    return report


def statuses(folder: Path) -> list[str]:
    tables = ShardSet(folder / "out" / "ingest").tables(["row", "status"])
    rows = {row["row"]: row["status"] for _, table in tables for row in table.to_pylist()}
    return [rows[number] for number in range(NUM_ROWS)]


def files(folder: Path) -> dict[str, bytes]:
    out = folder / "out" / "ingest"
    return {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}


def test_rows_that_may_do_better_are_fetched_and_no_others(folder: Path, site: Site) -> None:
    assert statuses(folder) == ["ok", "http_503", "http_404", "ok", "ok", "ok", "http_503", "ok"]
    site.down = {"/6.png": 503}
    report = ingest(folder, "retry_failed=true")
    assert site.asked == {"/1.png": 1, "/6.png": 1}
    assert statuses(folder) == ["ok", "ok", "http_404", "ok", "ok", "ok", "http_503", "ok"]
    assert (report.num_run, report.counts["kept"], report.counts["in"]) == (2, 6, 8)


def test_the_merged_shards_are_those_of_a_run_without_faults(
    folder: Path, site: Site, tmp_path_factory: pytest.TempPathFactory
) -> None:
    site.down = {"/2.png": 404}
    ingest(folder, "retry_failed=true")
    fresh = tmp_path_factory.mktemp("fresh")
    (fresh / "urls.parquet").write_bytes((folder / "urls.parquet").read_bytes())
    ingest(fresh)
    assert files(folder) == files(fresh)


def test_without_the_word_nothing_is_fetched_again(folder: Path, site: Site) -> None:
    report = ingest(folder)
    assert (report.num_run, report.num_skipped) == (0, 2)
    assert not site.asked


def test_a_retry_that_is_killed_before_its_marker_costs_no_picture(
    folder: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill = KeyboardInterrupt("killed between the old marker and the new files")

    def remove_and_die(store: LocalStore, shard: str, but: set[str] | None = None) -> None:
        remove_shard(store, shard, but)
        raise kill

    before = statuses(folder)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("curate.core.commit.remove_shard", remove_and_die)
        ingest(folder, "retry_failed=true")
    assert find_marker(LocalStore(folder / "out" / "ingest"), "00000") is None
    site.down = {f"/{number}.png": 410 for number in range(NUM_ROWS)}  # the web has gone since
    ingest(folder)
    assert [now == "ok" for now in statuses(folder)] == [then == "ok" for then in before]


def test_a_retry_that_is_given_up_leaves_the_shard_as_it_was(
    folder: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files(folder)
    site.down = {}

    def fail(*args: Any) -> Any:
        raise OSError("the disk is tired")

    monkeypatch.setattr(earlier.EarlierShard, "rows", fail)
    report = ingest(folder, "retry_failed=true", "engine.retry_pause_s=0")
    assert report.quarantined == {}
    assert report.counts["in"] == NUM_ROWS
    assert files(folder) == before
