"""Fetch URLs with img2dataset as a supervised subprocess; original bytes, nothing re-encoded.

A subprocess, because `img2dataset.download` works only in the main thread of a process with a
spawn guard, and because it hangs for ever when one of its own workers is killed: a watchdog ends
it when its files stop growing, and it is started again (reference dependencies.md section 1).

    urls.parquet -> python -m img2dataset.main -> 00000.tar + 00000.parquet -> row -> Fetched
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curate.core.errors import SampleError, StageError
from curate.sources.fetching.fetch_config import FetchConfig
from curate.sources.fetching.fetcher import Fetched
from curate.sources.fetching.targets import parse_target

logger = logging.getLogger(__name__)

_ROW = "latentmill_row"
_POLL_S = 0.2
_TRIES = 3
_PR_SET_PDEATHSIG = 1  # Source: Linux prctl(2)

_HTTP_ERROR = re.compile(r"HTTP Error ([2-5]\d\d)\b")
# What img2dataset writes in `error_message`, in the order of the checks; first match wins.
STATUS_BY_TEXT = (
    ("disallowed by X-Robots-Tag", "opted_out"),
    ("infinite loop", "redirect_loop"),
    ("HTTP Error 30", "redirect_loop"),
    ("timed out", "timeout"),
    ("IncompleteRead", "short_body"),
    ("Name or service not known", "dns"),
    ("No address associated with hostname", "dns"),
    ("Temporary failure in name resolution", "dns_busy"),
    ("Connection refused", "connect"),
    ("Remote end closed", "connect"),
    ("Connection reset", "connect"),
    ("CERTIFICATE", "tls"),
    ("SSL", "tls"),
    ("unknown url type", "bad_url"),
    ("Invalid IPv6 URL", "bad_url"),
)


class Img2datasetFetcher:
    """Fetch a task's URLs with one run of img2dataset.

    Args:
        config: how to fetch; `allow_private` is set, for img2dataset checks no address.
    """

    def __init__(self, config: FetchConfig) -> None:
        self._config = config

    @contextlib.contextmanager
    def fetch_all(
        self, urls: Mapping[int, str], scratch: Path
    ) -> Generator[Callable[[int], Fetched]]:
        """Fetch URLs into a scratch folder; see `fetchers.Fetcher`.

        Args:
            urls: source row -> URL.
            scratch: survives kills; a finished download found there is used again.

        Raises:
            StageError: img2dataset made no progress three times, or failed without output.
        """
        refused = {row: refusal for row, url in urls.items() if (refusal := _refuse(url))}
        wanted = {row: url for row, url in urls.items() if row not in refused}
        with _fetched(wanted, scratch, self._config) as fetched:
            yield lambda row: refused.get(row) or fetched(row)


def _refuse(url: str) -> Fetched | None:
    """Refuse what img2dataset would open although it is no web address (file:, data:)."""
    try:
        parse_target(url, allow_private=True)
    except SampleError as error:
        return Fetched(status=error.status, error=error.detail)
    return None


@contextlib.contextmanager
def _fetched(
    urls: Mapping[int, str], scratch: Path, config: FetchConfig
) -> Generator[Callable[[int], Fetched]]:
    folder = scratch / "fetched"
    if not urls:
        yield lambda row: Fetched(status="not_fetched", error="no URL")
        return
    if not (folder / "00000_stats.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        _download(urls, scratch, config).rename(folder)
    with (folder / "00000.tar").open("rb") as tar:
        positions = _tar_positions(tar)
        outcomes = _read_outcomes(folder / "00000.parquet")

        def outcome(row: int) -> Fetched:
            key, status, error = outcomes.get(row, ("", "lost", "img2dataset reported no row"))
            if status != "ok":
                return Fetched(status=status, error=error)
            offset, size = positions[key]
            return Fetched(data=os.pread(tar.fileno(), size, offset))

        yield outcome


def _download(urls: Mapping[int, str], scratch: Path, config: FetchConfig) -> Path:
    for attempt in range(_TRIES):
        # A folder of its own per attempt: a process that outlived a kill cannot write into it.
        folder = scratch / f"fetching-{os.getpid()}-{attempt}"
        folder.mkdir()
        table = pa.table({"url": list(urls.values()), _ROW: pa.array(urls.keys(), pa.int64())})
        pq.write_table(table, folder / "urls.parquet")
        if _run_supervised(folder, len(urls), config):
            return folder / "out"
        logger.warning("img2dataset made no progress for %s s; starting it again", config.stall_s)
    raise StageError(
        f"ingest.stall_s: img2dataset must make progress within {config.stall_s} s, got none in "
        f"{_TRIES} tries; see {scratch}/fetching-*/log.txt or raise ingest.stall_s"
    )


def _run_supervised(folder: Path, num_urls: int, config: FetchConfig) -> bool:
    """Run img2dataset until it ends; False when it stalled or ended without a finished shard."""
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            _command(folder, num_urls, config),
            env=_environment(config),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
        try:
            size, moved_at = -1, time.monotonic()
            while process.poll() is None:
                time.sleep(_POLL_S)
                now_size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
                if now_size != size:
                    size, moved_at = now_size, time.monotonic()
                elif time.monotonic() - moved_at > config.stall_s:
                    return False
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return (folder / "out" / "00000_stats.json").exists()


def _command(folder: Path, num_urls: int, config: FetchConfig) -> list[str]:
    options: dict[str, Any] = {
        "url_list": folder / "urls.parquet",
        "input_format": "parquet",
        "url_col": "url",
        "save_additional_columns": f"['{_ROW}']",
        "output_folder": folder / "out",
        "output_format": "webdataset",
        "number_sample_per_shard": num_urls,
        "processes_count": 1,
        "thread_count": config.num_threads,
        "timeout": config.timeout_s,
        "retries": config.retries,
        "resize_mode": "no",
        "disable_all_reencoding": True,
        "extract_exif": False,
        "compute_hash": "None",
        "enable_wandb": False,
        "user_agent_token": config.user_agent,
        "disallowed_header_directives": repr(config.disallowed_directives),
    }
    arguments = [f"--{name}={value}" for name, value in options.items()]
    return [sys.executable, "-W", "ignore", "-m", "img2dataset.main", *arguments]


def _environment(config: FetchConfig) -> dict[str, str]:
    environment = {**os.environ, "NO_ALBUMENTATIONS_UPDATE": "1", "PYTHONSAFEPATH": "1"}
    if config.proxy:
        environment |= {"http_proxy": config.proxy, "https_proxy": config.proxy, "no_proxy": ""}
    return environment


def _die_with_parent() -> None:
    """Ask the kernel to end this child when the worker dies, so that no fetch is orphaned."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _tar_positions(stream: Any) -> dict[str, tuple[int, int]]:
    """Map img2dataset's key to (offset, size) of the picture member."""
    positions: dict[str, tuple[int, int]] = {}
    with tarfile.open(fileobj=stream, mode="r:") as tar:
        for member in tar:
            key, _, ext = member.name.partition(".")
            if ext not in ("json", "txt"):
                positions[key] = (member.offset_data, member.size)
    return positions


def _read_outcomes(path: Path) -> dict[int, tuple[str, str, str]]:
    """Map source row to (img2dataset's key, our status, error text)."""
    outcomes: dict[int, tuple[str, str, str]] = {}
    for row in pq.read_table(path, columns=[_ROW, "key", "status", "error_message"]).to_pylist():
        error = row["error_message"] or ""
        status = "ok" if row["status"] == "success" else _status_of(error)
        outcomes[row[_ROW]] = (row["key"], status, error)
    return outcomes


def _status_of(error: str) -> str:
    for text, status in STATUS_BY_TEXT:
        if text in error:
            return status
    found = _HTTP_ERROR.match(error)
    return f"http_{found[1]}" if found else "download_failed"
