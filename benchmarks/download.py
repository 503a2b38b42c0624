"""Download from one loopback server: our ingest with all guards on, beside img2dataset.

`python -m benchmarks.download [--rounds 3] [--repeats 16] [--shard-rows 600] [--modes pass,resize]`

300 JPEGs of about 270 KB (1050 x 900) are served from memory by a process of its own, each under
`--repeats` URLs. Both tools run as a user runs them, with two processes and 32 downloads at once in
each, into WebDataset shards: `curate run stage=ingest engine=local` and
`python -m img2dataset.main`. Modes:

    pass     original bytes: ours checks every picture; img2dataset with disable_all_reencoding
    resize   shorter side 256: ingest.resize_px=256; img2dataset with resize_mode=keep_ratio

Start-up is left out on both sides alike: the time runs from the first picture that the server is
asked for to the last shard's marker. img2dataset starts each of its processes anew after five
shards, which users with 10,000 rows a shard hardly notice; with more than ten shards in all the
time has that in it. Rounds are interleaved; the table has medians. CPU seconds are those of all
processes of a tool from start to end, start-up included.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

NUM_PICTURES, HEIGHT, WIDTH, QUALITY = 300, 900, 1050, 90
NUM_WORKERS, NUM_THREADS = 2, 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Hold one run: pictures per second without start-up, CPU seconds, the server's CPU seconds."""

    rate: float
    cpu_s: float
    server_cpu_s: float


def make_pictures(folder: Path) -> float:
    """Write the pictures; give their mean size in KB."""
    for index in range(NUM_PICTURES):
        rng = np.random.default_rng(index)
        coarse = rng.integers(0, 256, (HEIGHT // 30, WIDTH // 30, 3), dtype=np.uint8)
        smooth = Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        grain = rng.normal(0, 4.2, (HEIGHT, WIDTH, 1))
        pixels = np.clip(np.asarray(smooth) + grain, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:03d}.jpg", quality=QUALITY)
    return sum(path.stat().st_size for path in folder.glob("*.jpg")) / NUM_PICTURES / 1000


@contextlib.contextmanager
def serve(folder: Path) -> Generator[str]:
    """Run the server; give its base URL."""
    command = [sys.executable, "-m", "benchmarks.download_server", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


def our_command(table: Path, out: Path, mode: str, shard_rows: int) -> list[str]:
    resize = ["ingest.resize_px=256"] if mode == "resize" else []
    return [
        sys.executable, "-m", "pipelines.cli", "run", "stages=[ingest]", f"input={table}",
        f"out={out}", "engine=local", f"engine.num_workers={NUM_WORKERS}",
        f"ingest.shard_size={shard_rows}", f"ingest.num_threads={NUM_THREADS}",
        "ingest.allow_private=true", *resize,
    ]  # fmt: skip


def their_command(table: Path, out: Path, mode: str, shard_rows: int) -> list[str]:
    ways = {
        "pass": ["--disable_all_reencoding=True", "--resize_mode=no"],
        "resize": ["--resize_mode=keep_ratio", "--image_size=256"],
    }
    return [
        sys.executable, "-W", "ignore", "-m", "img2dataset.main", f"--url_list={table}",
        "--input_format=parquet", "--url_col=url", "--caption_col=caption",
        "--output_format=webdataset", f"--output_folder={out}", f"--processes_count={NUM_WORKERS}",
        f"--thread_count={NUM_THREADS}", f"--number_sample_per_shard={shard_rows}",
        "--enable_wandb=False", *ways[mode],
    ]  # fmt: skip


def measure(
    command: list[str], out: Path, marker: str, base: str, num_rows: int, num_shards: int
) -> Run:
    """Run a tool once.

    Args:
        command: of the tool.
        out: where it writes.
        marker: pattern of the files that end a shard.
        base: the server.
        num_rows: that it must have asked for.
        num_shards: that it must have written.
    """
    _clock(base)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "NO_ALBUMENTATIONS_UPDATE": "1", "OMP_NUM_THREADS": "1"}
    log = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    clock = _clock(base)
    ends = [path.stat().st_mtime for path in out.rglob(marker)]
    if clock["num"] != num_rows or len(ends) != num_shards:
        raise SystemExit(f"{command[3]}: {clock['num']} pictures, {len(ends)} shards\n{log.stderr}")
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    rate = num_rows / (max(ends) - clock["first_s"])
    return Run(rate=rate, cpu_s=cpu_s, server_cpu_s=clock["cpu_s"])


def _clock(base: str) -> dict[str, float]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{base}/clock", timeout=10) as answer:
        return json.load(answer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=16, help="URLs per picture")
    parser.add_argument("--shard-rows", type=int, default=600)
    parser.add_argument("--modes", default="pass,resize")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pictures").mkdir()
        print(f"{NUM_PICTURES} JPEGs of {make_pictures(folder / 'pictures'):.0f} KB in the mean")
        with serve(folder / "pictures") as base:
            for mode in options.modes.split(","):
                _compare(folder, base, mode, options)


def _compare(folder: Path, base: str, mode: str, options: argparse.Namespace) -> None:
    table, num_rows = folder / "urls.parquet", NUM_PICTURES * options.repeats
    num_shards = -(-num_rows // options.shard_rows)
    urls = [f"{base}/picture/{row % NUM_PICTURES}?{row}" for row in range(num_rows)]
    captions = [f"picture {row}" for row in range(num_rows)]
    pq.write_table(pa.table({"url": urls, "caption": captions}), table)
    tools = {"ours": (our_command, "*.done.json"), "img2dataset": (their_command, "*_stats.json")}
    runs: dict[str, list[Run]] = {tool: [] for tool in tools}
    for number in range(options.rounds):
        for tool, (command, marker) in tools.items():
            with tempfile.TemporaryDirectory(dir=folder) as place:
                out = Path(place) / f"{tool}-{number}"
                line = command(table, out, mode, options.shard_rows)
                run = measure(line, out, marker, base, num_rows, num_shards)
                runs[tool].append(run)
    rates = {tool: median(run.rate for run in found) for tool, found in runs.items()}
    for tool, found in runs.items():
        print(
            f"{mode}: {tool} {rates[tool]:.0f} pictures/s "
            f"({min(r.rate for r in found):.0f} to {max(r.rate for r in found):.0f}), "
            f"CPU {median(r.cpu_s for r in found):.1f} s and the server's "
            f"{median(r.server_cpu_s for r in found):.1f} s for {num_rows}"
        )
    print(f"{mode}: {rates['ours'] / rates['img2dataset']:.2f} times img2dataset")


if __name__ == "__main__":
    main()
