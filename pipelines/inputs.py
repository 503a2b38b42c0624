"""Make `input=` ready: a path as it is, or the toy web with its tables and its loopback server.

`describe_input` fills in paths (enough to plan); `open_input` also serves the toy web while stages
run. The server is used as an HTTP proxy, so its port never enters a URL or a key.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from curate.core.commit import Output
from curate.core.store import LocalStore, open_store
from curate.core.tombstones import FOLDER
from curate.stages.matching.benchmark_config import Benchmark
from pipelines.config import TOYWEB, RunConfig, ToywebConfig

if TYPE_CHECKING:
    from pipelines.toyweb.site import Site

URLS, TRUTH, PROMPTS, MARKER = "urls.parquet", "truth.parquet", "prompts.parquet", "toyweb.json"
BENCHMARK = "benchmark"  # folder of the toy web's evaluation set, see `toyweb/heldout.py`
_TOYWEB_VERSION = 2  # raised when equal sizes and seeds give other rows


def describe_input(config: RunConfig, *, plan_only: bool = True) -> RunConfig:
    """Put the input's paths into the sections of the stages that read them.

    Args:
        config: of the run.
        plan_only: leave `out` alone: another run may be reading the toy web's tables there.
    """
    if config.input != TOYWEB:
        return _with_source(config, config.input)
    folder = toyweb_folder(config.out)
    if plan_only and not _is_written(folder, config.toyweb):
        name = hashlib.sha256(_identity(config.toyweb).encode()).hexdigest()[:16]
        folder = Path(tempfile.gettempdir()) / f"latentmill-toyweb-{os.getuid()}" / name
    write_toyweb(folder, config.toyweb)
    config = _with_source(config, str(folder / URLS))
    sample = dataclasses.replace(config.sample, prompts=str(folder / PROMPTS))
    return _with_benchmark(dataclasses.replace(config, sample=sample), folder / BENCHMARK)


@contextlib.contextmanager
def open_input(config: RunConfig) -> Generator[RunConfig]:
    """Give the config with its input reachable until the block ends."""
    described = describe_input(config, plan_only=False)
    if config.input != TOYWEB:
        yield described
        return
    from pipelines.toyweb.server import serve

    with serve(_site(config.toyweb)) as served:
        ingest = dataclasses.replace(described.ingest, proxy=served.proxy_url)
        yield dataclasses.replace(described, ingest=ingest)


def toyweb_folder(out: str) -> Path:
    """Give the local folder of the toy web's tables: in `out`, or beside a remote one."""
    store = open_store(out).child(TOYWEB)
    return store.folder if isinstance(store, LocalStore) else Output(store=store).work


def write_toyweb(folder: Path, toyweb: ToywebConfig) -> None:
    """Write the toy web's URL table, truth table, held-out prompts and benchmark, once per size."""
    if _is_written(folder, toyweb):
        return
    from pipelines.toyweb.heldout import write_benchmark
    from pipelines.toyweb.site import write_truth, write_url_table

    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).unlink(missing_ok=True)
    site = _site(toyweb)
    write_url_table(site, folder / URLS)
    write_truth(site, folder / TRUTH)
    _write_prompts(toyweb, folder / PROMPTS)
    write_benchmark(toyweb.seed, folder / BENCHMARK)
    LocalStore(folder).write(MARKER, _identity(toyweb).encode())


def _is_written(folder: Path, toyweb: ToywebConfig) -> bool:
    marker = folder / MARKER
    return marker.exists() and marker.read_text() == _identity(toyweb)


def _identity(toyweb: ToywebConfig) -> str:
    identity = {**dataclasses.asdict(toyweb), "version": _TOYWEB_VERSION}
    return json.dumps(identity, sort_keys=True) + "\n"


def _with_benchmark(config: RunConfig, folder: Path) -> RunConfig:
    """Compare with the toy web's own benchmark where the pipeline decontaminates by no other."""
    if "decontaminate" not in config.stages or config.decontaminate.benchmarks:
        return config
    from pipelines.toyweb.heldout import PICTURES_FOLDER, PROMPTS_FILE

    files = Benchmark(pictures=str(folder / PICTURES_FOLDER), prompts=str(folder / PROMPTS_FILE))
    decontaminate = dataclasses.replace(config.decontaminate, benchmarks={TOYWEB: files})
    return dataclasses.replace(config, decontaminate=decontaminate)


def _write_prompts(toyweb: ToywebConfig, path: Path) -> None:
    """Write the held-out detailed prompts; their keys come from their texts."""
    from pipelines.toyweb.heldout import heldout_prompts

    prompts = heldout_prompts(toyweb.seed, toyweb.num_prompts, toyweb.max_objects)
    pq.write_table(pa.table({"prompt": [item.prompt for item in prompts]}), path)


def _site(toyweb: ToywebConfig) -> Site:
    from pipelines.toyweb.site import build_site

    return build_site(toyweb.seed, toyweb.num_images, "train")


def _with_source(config: RunConfig, source: str) -> RunConfig:
    takedowns = open_store(config.out).child(FOLDER).url
    ingest = dataclasses.replace(config.ingest, source=source, takedowns=takedowns)
    return dataclasses.replace(config, ingest=ingest)
