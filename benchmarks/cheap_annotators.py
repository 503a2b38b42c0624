"""Measure how many pictures a second all cheap annotators take together, and a script beside them.

`python -m benchmarks.cheap_annotators [--pictures 200] [--rounds 3]`

Two processes (spawn, one thread each) take half of the pictures each: JPEGs of a megapixel and
about 290 KB, structure and grain. `ours` decodes and runs every annotator that needs no model, in
batches, as the annotate stage does. `script` is what one writes without this project: PIL's decode,
`imagehash.phash` and `dhash`, and `pdqhash` on the full picture; it measures nothing else. Rounds
are interleaved, medians are printed; a step's share is of CPU time.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from curate.annotators.annotator import Annotator, Batch, Options, measure
from curate.annotators.table import ANNOTATORS
from curate.core.batches import batched
from curate.core.image import decode_image
from curate.core.seed import make_rng

ANNOTATOR_NAMES = ("pixels", "hashes", "phash", "pdq", "caption_text", "caption_repair")
PROCESSES = 2
PIXELS = 1_000_000
_CAPTION = "A red fox sleeps on fresh snow behind the old farm house, Norway, photo no. {}"


def main() -> None:
    """Print pictures per second of both ways and the share of each step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    # Workers inherit this; numpy's BLAS reads it when it is loaded.
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        paths = write_pictures(Path(folder), options.pictures)
        size = sum(path.stat().st_size for path in paths) / len(paths)
        print(f"{len(paths)} JPEGs of 1 megapixel, {size / 1e3:.0f} KB, {PROCESSES} processes")
        rates: dict[str, list[float]] = {name: [] for name in WAYS}
        steps: dict[str, Counter[str]] = {name: Counter() for name in WAYS}
        with ProcessPoolExecutor(PROCESSES, mp_context=get_context("spawn")) as pool:
            for round_number in range(options.rounds + 1):
                for way in WAYS:
                    rate, seconds = run_round(pool, way, paths)
                    if round_number:  # the first one starts the workers and warms the caches
                        rates[way].append(rate)
                        steps[way].update(seconds)
    for way in WAYS:
        report(way, rates[way], steps[way], len(paths) * options.rounds)
    ours, script = (statistics.median(rates[way]) for way in ("ours", "script"))
    print(f"ours / script: {ours / script:.2f}")


def run_round(
    pool: ProcessPoolExecutor, way: str, paths: Sequence[Path]
) -> tuple[float, Counter[str]]:
    """Run one way over all pictures: (pictures per second, CPU seconds of each step)."""
    start = time.perf_counter()
    parts = list(pool.map(WAYS[way], [paths[n::PROCESSES] for n in range(PROCESSES)]))
    rate = len(paths) / (time.perf_counter() - start)
    return rate, sum(parts, Counter[str]())


def annotate(paths: Sequence[Path]) -> Counter[str]:
    """Decode and measure pictures as the annotate stage does."""
    seconds: Counter[str] = Counter()
    annotators = load_annotators()
    for part in batched(paths, 64):
        with Clock(seconds, "decode"):
            images = [decode_image(path.read_bytes()) for path in part]
        names = [path.stem for path in part]
        captions = [_CAPTION.format(name) for name in names]
        batch = Batch(keys=names, images=images, captions=captions, columns={})
        for annotator in annotators:
            with Clock(seconds, annotator.name):
                batch.columns.update(measure(annotator, batch))
    return seconds


@cache  # once per process, as in a stage
def load_annotators() -> list[Annotator]:
    """Build the annotators and let them load what they need."""
    annotators = [ANNOTATORS[name]({}, Options()) for name in ANNOTATOR_NAMES]
    for annotator in annotators:
        annotator.setup()
    return annotators


def script(paths: Sequence[Path]) -> Counter[str]:
    """Hash pictures with the libraries one would take."""
    import imagehash
    import pdqhash

    seconds: Counter[str] = Counter()
    for path in paths:
        with Clock(seconds, "decode"), Image.open(path) as file:
            image = file.convert("RGB")
        with Clock(seconds, "phash, dhash"):
            imagehash.phash(image)
            imagehash.dhash(image)
        with Clock(seconds, "pdq"):
            pdqhash.compute(np.asarray(image))
    return seconds


WAYS: Mapping[str, Callable[[Sequence[Path]], Counter[str]]] = {"ours": annotate, "script": script}


class Clock:
    """Add the CPU seconds of a block to a counter.

    Args:
        seconds: counter to add to.
        step: its entry.
    """

    def __init__(self, seconds: Counter[str], step: str) -> None:
        self._seconds = seconds
        self._step = step

    def __enter__(self) -> None:
        self._start = time.process_time()

    def __exit__(self, *_: object) -> None:
        self._seconds[self._step] += time.process_time() - self._start  # type: ignore[assignment]


def report(way: str, rates: Sequence[float], seconds: Counter[str], count: int) -> None:
    """Print the median rate and the time of each step."""
    total = sum(seconds.values())
    print(
        f"{way:<8} {statistics.median(rates):6.1f} pictures/s "
        f"(of {', '.join(f'{rate:.1f}' for rate in rates)}), "
        f"{total / count * 1e3:.1f} ms of CPU each"
    )
    for step, value in seconds.items():
        print(f"  {step:<16} {value / count * 1e3:6.2f} ms  {value / total:5.1%}")


def write_pictures(folder: Path, count: int) -> list[Path]:
    """Write JPEGs of coarse colour fields, finer texture and grain; no two sizes are equal."""
    paths: list[Path] = []
    for number in range(count):
        rng = make_rng(0, "cheap annotators", number)
        width = 900 + 401 * number // count  # equal sizes would find every table of weights cached
        height = PIXELS // width
        coarse = _field(rng, (8, 6), (width, height))
        fine = _field(rng, (64, 48), (width, height))
        pixels = 0.7 * coarse + 0.3 * fine + rng.normal(0, 8, (height, width, 1))
        stream = io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(stream, "JPEG", quality=85)
        path = folder / f"{number:05d}.jpg"
        path.write_bytes(stream.getvalue())
        paths.append(path)
    return paths


def _field(
    rng: np.random.Generator, cells: tuple[int, int], size: tuple[int, int]
) -> NDArray[np.float64]:
    """Draw random colours on (width, height) cells and enlarge them to a size."""
    colors = Image.fromarray(rng.integers(0, 256, (cells[1], cells[0], 3), dtype=np.uint8))
    return np.asarray(colors.resize(size, Image.Resampling.BICUBIC), np.float64)


if __name__ == "__main__":
    main()
