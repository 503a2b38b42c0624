"""Kill a run again and again, client and workers alike, and compare what comes out, byte by byte.

`python -m benchmarks.kills [--kills 50] [--shards 40] [--engine local] [--seed 0] [--folder DIR]`

A folder of toy pictures goes through seven stages twice: once undisturbed, once with SIGKILLs at
random moments, each followed by the same command line again. Every committed file (tars, tables,
markers, stage.json) must have the same bytes in both trees, and the journals of captions the same
attempts, each once. Exit code 1 when they differ.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from PIL import Image

from curate.core.seed import make_rng
from pipelines.toyweb.scene import describe, random_split_scene, render

CURATE = str(Path(sys.executable).with_name("curate"))
PICTURES_PER_SHARD = 6
STAGES = "stages=[ingest,annotate,filter,dedup,recaption,judge,bucket]"
VOLATILE = {"live.json", "metrics.jsonl", ".lock", ".fence", "config.yaml"}
CLOCKS = {"created_at", "latency_s", "seconds", "batch_size"}  # of a line of a journal


def make_folder(folder: Path, count: int, seed: int) -> None:
    """Draw toy pictures with their captions beside them."""
    folder.mkdir(parents=True)
    rng = make_rng(seed, "kills", "pictures")
    for number in range(count):
        scene = random_split_scene(rng, "train")
        Image.fromarray(render(scene, 96, 96)).save(folder / f"{number:05d}.png")
        (folder / f"{number:05d}.txt").write_text(describe(scene))


def command(options: argparse.Namespace, pictures: Path, out: Path) -> list[str]:
    return [
        CURATE, "run", STAGES, f"input={pictures}", f"out={out}", "models=toy",
        f"ingest.shard_size={PICTURES_PER_SHARD}",
        "bucket.resolutions=[64]", "bucket.shard_size=32",
        f"engine={options.engine}", f"engine.num_workers={options.workers}",
        "engine.retry_pause_s=0", "retry_quarantined=true",
    ]  # fmt: skip


def snapshot(out: Path) -> dict[str, str]:
    """Digest every file but those that tell clocks, owners and unfinished work."""
    return {
        str(path.relative_to(out)): digest(str(path.relative_to(out)), path.read_bytes())
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name not in VOLATILE and ".work" not in path.parts
    }


def digest(name: str, data: bytes) -> str:
    """Hash a file; of a journal its attempts, without clocks and the order of windows."""
    if Path(name).parent.name == "journal":
        lines = [json.loads(line) for line in data.splitlines() if line.endswith(b"}")]
        kept = [{k: v for k, v in line.items() if k not in CLOCKS} for line in lines]
        data = "\n".join(sorted(json.dumps(line, sort_keys=True) for line in kept)).encode()
    return hashlib.sha256(data).hexdigest()


def children(pid: int) -> list[int]:
    """List the processes below a process, from /proc."""
    below: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended meanwhile
            below.setdefault(parent, []).append(int(folder.name))
    found, waiting = list[int](), [pid]
    while waiting:
        some = below.get(waiting.pop(), [])
        found += some
        waiting += some
    return found


def disturb(line: list[str], kills: int, rng: random.Random, longest_s: float) -> dict[str, int]:
    """Run the line with kills until it ends or none is left; count what they hit."""
    hits = {"client": 0, "worker": 0, "runs": 0}
    process: subprocess.Popen[bytes] | None = None
    while sum(hits.values()) - hits["runs"] < kills:
        if process is None:
            process = start(line)
            hits["runs"] += 1
        time.sleep(rng.uniform(0.3, longest_s))
        workers = children(process.pid)
        if process.poll() is not None:
            return hits
        victim = rng.choice(workers) if workers and rng.random() < 0.5 else process.pid
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            continue
        if victim == process.pid:
            process.wait()
            process = None
            hits["client"] += 1
        else:
            hits["worker"] += 1
    if process is not None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return hits


def finish(line: list[str], out: Path, straight: dict[str, str]) -> list[str]:
    """Run the line to its end and list the files that differ from the undisturbed tree's."""
    last = subprocess.run(line, capture_output=True, text=True)
    if last.returncode:
        return [f"exit code {last.returncode}: {last.stderr[-500:]}"]
    killed = snapshot(out)
    return sorted(
        name for name in straight.keys() | killed if straight.get(name) != killed.get(name)
    )


def start(line: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--shards", type=int, default=40)
    parser.add_argument("--engine", default="local")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        pictures = root / "pictures"
        make_folder(pictures, options.shards * PICTURES_PER_SHARD, options.seed)
        begun = time.monotonic()
        subprocess.run(
            command(options, pictures, root / "straight"), check=True, capture_output=True
        )
        straight_s = time.monotonic() - begun
        straight = snapshot(root / "straight")
        line = command(options, pictures, root / "killed")
        rng = random.Random(options.seed)
        # Kills come so often that a run gets about a tenth of the way, start-up included.
        longest_s = 4.0 + straight_s / 10
        totals, differing, trees = Counter[str](), list[str](), 0
        while totals["client"] + totals["worker"] < options.kills and not differing:
            left = options.kills - totals["client"] - totals["worker"]
            totals.update(disturb(line, left, rng, longest_s))
            differing = finish(line, root / "killed", straight)
            trees += 1
            shutil.rmtree(root / "killed")
        facts = {
            "engine": options.engine,
            "shards": options.shards,
            "undisturbed_s": round(straight_s, 1),
            "killed": dict(totals),
            "finished_trees": trees,
            "files_in_each": len(straight),
            "differing": differing[:10],
        }
        print(json.dumps(facts), flush=True)
        return 1 if differing else 0
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
