"""Time the loader beside other formats' readers, on the same samples, in interleaved passes.

    python -m benchmarks.loader --peers /tmp/peers/bin/python --kind small --samples 50000
    python -m benchmarks.loader --peers /tmp/peers/bin/python --kind big --samples 8000
    python -m benchmarks.loader --samples 8000 --passes 1      # ours and arrays alone, a minute

Small samples are 8 KiB of latents and 4 KiB of text, big ones 8 KiB and 115 KiB. Each pass is a
process of its own (see `loader_readers.py` for the contract); CPU seconds are of the whole process.
The peers' Python needs webdataset, wids, mosaicml-streaming, litdata, datasets and pyarrow; a peer
that is not there is left out and said so. Goals, of CPU time: 8 times the webdataset reader, 3
times MDS, 2 times litdata, 0.5 of a memory-mapped array in the same order; big samples 0.6 of what
copying allows; a seek among 10^9 samples in less than 10 ms; an index below 64 B a sample.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.loader_formats import OURS as OUR_FORMATS
from benchmarks.loader_formats import PEERS as PEER_FORMATS
from benchmarks.loader_readers import OURS, PEERS, TEXT
from train.plan import BatchPlan, PlanSet

_HERE = Path(__file__).parent
_SAMPLE_BYTES = {kind: 8192 + 2 * int(np.prod(shape)) for kind, shape in TEXT.items()}


def write_all(folder: Path, num_samples: int, peers: str | None) -> set[str]:
    """Write every format; give those that could be written."""
    written: set[str] = set()
    jobs = [(sys.executable, name) for name in OUR_FORMATS]
    jobs += [(peers, name) for name in PEER_FORMATS] if peers else []
    for python, name in jobs:
        command = [python, str(_HERE / "loader_formats.py"), name, str(folder), str(num_samples)]
        done = _run(command)
        if done.returncode == 0:
            written.add(name)
        else:
            print(f"{name}: not written, {_last_line(done.stderr)}")
    return written


def measure_all(
    folder: Path, num_samples: int, peers: str | None, passes: int
) -> dict[str, list[dict[str, Any]]]:
    """Run every reader once a pass, in turns; the first pass warms the page cache and is left."""
    readers = [(sys.executable, name) for name in OURS]
    readers += [(peers, name) for name in PEERS] if peers else []
    found: dict[str, list[dict[str, Any]]] = {}
    for number in range(passes + 1):
        for python, name in readers:
            script = str(_HERE / "loader_readers.py")
            done = _run([python, script, name, str(folder), str(num_samples)])
            if done.returncode:
                print(f"{name}: failed, {_last_line(done.stderr)}")
            elif number:
                found.setdefault(name, []).append(json.loads(_last_line(done.stdout)))
    return found


def report(found: dict[str, list[dict[str, Any]]], kind: str) -> None:
    """Print a line for each reader, the best one first."""
    rows = sorted((cpu_us(runs), name, runs) for name, runs in found.items())
    mine = cpu_us(found["ours-1"])
    print(f"\n{kind}: {_SAMPLE_BYTES[kind]} B a sample, median of {len(rows[0][2])} passes")
    print(
        f"{'reader':20s} {'CPU us':>8s} {'samples/s':>10s} {'MB/s':>7s} {'of ours-1':>9s}  "
        "CPU us of every pass"
    )
    for cpu, name, runs in rows:
        rate = statistics.median(run["samples"] / run["wall_s"] for run in runs)
        every = ", ".join(f"{1e6 * run['cpu_s'] / run['samples']:.1f}" for run in runs)
        whole = "" if all(run["is_complete"] for run in runs) else "  NOT COMPLETE"
        print(
            f"{name:20s} {cpu:8.1f} {rate:10.0f} {rate * _SAMPLE_BYTES[kind] / 1e6:7.0f} "
            f"{cpu / mine:9.2f}  {every}{whole}"
        )


def cpu_us(runs: list[dict[str, Any]]) -> float:
    """Give the median CPU time of a sample, in microseconds."""
    return statistics.median(1e6 * run["cpu_s"] / run["samples"] for run in runs)


def report_copying(kind: str, found: dict[str, list[dict[str, Any]]]) -> None:
    """Compare with copying as many bytes from memory, the same pieces at a time."""
    size = _SAMPLE_BYTES[kind]
    source = np.random.default_rng(0).integers(0, 256, (4096, size), np.uint8)
    out = np.empty((64, size), np.uint8)
    places = np.random.default_rng(1).integers(0, len(source), (200, 64))
    np.take(source, places[0], axis=0, out=out, mode="clip")
    started = time.process_time()
    for chosen in places:
        np.take(source, chosen, axis=0, out=out, mode="clip")
    bound = 1e6 * (time.process_time() - started) / places.size
    print(f"copying {size} B from random places of memory: {bound:.1f} CPU us; of that bound:")
    for name in OURS:
        print(f"  {name:20s} {bound / cpu_us(found[name]):.2f}")


def report_sizes(folder: Path, num_samples: int, kind: str) -> None:
    """Print what the store's tars and indexes add to the numbers."""
    files = [path for path in (folder / "store").rglob("*") if path.is_file()]
    index = sum(path.stat().st_size for path in files if path.suffix == ".idx")
    tars = sum(path.stat().st_size for path in files if path.suffix == ".tar")
    print(f"index: {index / num_samples:.1f} B a sample (latents and one text column)")
    print(f"tars: {tars / num_samples - _SAMPLE_BYTES[kind]:.0f} B a sample above the numbers")


def report_seek(num_samples: int = 10**9, num_seeks: int = 100) -> None:
    """Print how long any step of a plan takes."""
    rng = np.random.default_rng(0)
    sizes = {f"{i}": int(n) + 1 for i, n in enumerate(rng.dirichlet(np.ones(40)) * num_samples)}
    started = time.perf_counter()
    plan = BatchPlan([PlanSet(sizes=sizes)], 256, 0)
    built = time.perf_counter() - started
    took: list[float] = []
    for step in rng.integers(0, 10**8, num_seeks).tolist():
        started = time.perf_counter()
        plan.batch(step)
        took.append(time.perf_counter() - started)
    started = time.process_time()
    for step in range(2000):
        plan.batch(step)
    following = (time.process_time() - started) / 2000
    print(
        f"plan of {num_samples:.0e} samples in 40 buckets: made in {1e3 * built:.1f} ms, a random "
        f"step in {1e3 * statistics.median(took):.1f} ms (longest {1e3 * max(took):.1f}), the next "
        f"one in {1e6 * following:.0f} CPU us"
    )


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONPATH": str(_HERE.parent), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"}
    environment |= {"HOME": tempfile.gettempdir()}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--peers", help="Python that has the peers' libraries")
    parser.add_argument("--kind", choices=sorted(TEXT), default="small")
    parser.add_argument("--samples", type=int, default=50_000)
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="kept; a temporary one when absent")
    options = parser.parse_args()
    report_seek()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)) / f"{options.kind}-{options.samples}"
        if not folder.exists():
            folder.mkdir(parents=True)
            write_all(folder, options.samples, options.peers)
        report_sizes(folder, options.samples, options.kind)
        found = measure_all(folder, options.samples, options.peers, options.passes)
        report(found, options.kind)
        report_copying(options.kind, found)


if __name__ == "__main__":
    main()
