"""Measure bucket: planning from sizes alone, writing pictures, and what each rule cuts off.

`python -m benchmarks.bucket [plan] [pictures] [rules] [--rows N] [--pictures N] [--rounds N]`

    plan      sizes of `--rows` samples at three resolutions, in source shards of 10,000, placed,
              merged and dealt to output shards: rows/s of CPU time, peak memory of the process
    pictures  JPEGs of a megapixel to 256 x 256 and near, WebP at 95, interleaved:
                  bare    decode, resize, encode; nothing is read or written
                  ours    the stage whole: plan, tar -> decode -> resize -> encode -> tar, parquet
              pictures/s of CPU time, medians over the rounds, and the ratio
    rules     share cut off (median, 95th percentile, mean) for `--rows` sizes as the web has them

Without a name all three. CPU time of this process, one thread; the clock says little beside others.
"""

from __future__ import annotations

import argparse
import io
import resource
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from curate.core.batch_fill import fill_batches
from curate.core.bucket import nearest_buckets
from curate.core.commit import Output, commit
from curate.core.engine import run_stage
from curate.core.executor import InlineExecutor
from curate.core.geometry import Geometry, list_buckets
from curate.core.image import encode_image
from curate.core.manifest import Identity
from curate.core.merge import merge_sorted
from curate.core.schema import INGEST_SCHEMA, OK, VERDICT_FIELDS, VERDICTS, make_key
from curate.core.seed import make_rng
from curate.core.shard import ShardSet, ShardWriter
from curate.core.store import LocalStore
from curate.stages.bucket import BucketStage
from curate.stages.bucketing.config import BucketConfig
from curate.stages.bucketing.plan import PLAN_SCHEMA, count_places, deal, read_placed
from curate.stages.bucketing.sizes import ORDER, SIZES_SCHEMA, read_sizes
from tests.silent import Silent

SHARD_ROWS, OUT_ROWS = 10_000, 5_000
CURRICULUM = Geometry(resolutions=(256, 512, 1024), step_px=32, max_upscale=1.0)
RULES = {
    "square only": Geometry(rule="custom", resolutions=(1024,), custom=("1024x1024",)),
    "area, step 64, aspect 2": Geometry(resolutions=(1024,), step_px=64),
    "area, step 64, aspect 4": Geometry(resolutions=(1024,), step_px=64, max_aspect=4.0),
    "area, step 16, aspect 2": Geometry(resolutions=(1024,), step_px=16),
    "sdxl": Geometry(rule="sdxl", resolutions=(1024,), step_px=64),
    "sdxl_mirrored": Geometry(rule="sdxl_mirrored", resolutions=(1024,), step_px=64),
    "kohya, step 64, aspect 4": Geometry(
        rule="kohya", resolutions=(1024,), step_px=64, max_aspect=4.0
    ),
    "sd3, step 64, aspect 2": Geometry(rule="sd3", resolutions=(1024,), step_px=64),
    "sd3, step 16, aspect 2": Geometry(rule="sd3", resolutions=(1024,), step_px=16),
}
# Aspect ratios that cameras, screens and shops make, and their shares; the rest is drawn freely.
# Chosen by us, after what is common: no statistics of a crawl were at hand.
_ASPECTS = {4 / 3: 0.22, 3 / 2: 0.2, 16 / 9: 0.1, 1.0: 0.18, 5 / 4: 0.05}
_UPRIGHT = 0.35  # share of pictures taller than wide


def draw_sizes(num: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw heights and widths [N] as the web has them: usual aspects, and a quarter of others.

    Those are log-normal around 1 (sigma 0.5); shorter sides are log-normal around 700 pixels,
    100 to 4000; all are rounded, so usual aspects are met to a pixel.
    """
    rng = make_rng(0, "web sizes")
    usual, shares = np.array(list(_ASPECTS)), np.array(list(_ASPECTS.values()))
    free = np.exp(np.abs(rng.normal(0, 0.5, num)))
    is_free = rng.random(num) >= shares.sum()
    aspect = np.where(is_free, free, rng.choice(usual, num, p=shares / shares.sum()))
    short = np.clip(np.exp(rng.normal(np.log(700), 0.6, num)), 100, 4000)
    long = np.round(short * aspect).astype(np.int64)
    short = np.round(short).astype(np.int64)
    is_upright = rng.random(num) < _UPRIGHT
    return np.where(is_upright, long, short), np.where(is_upright, short, long)


def measure_rules(num: int) -> None:
    """Print what each rule cuts off, and how its buckets fill batches of 256."""
    heights, widths = draw_sizes(num)
    print(f"{'rule':26} buckets  median  p95    mean   > 35 %  lost by DropLast at 256 of 100,000")
    for name, geometry in RULES.items():
        buckets = list_buckets(geometry, 1024)
        chosen = nearest_buckets(heights, widths, buckets)
        tall = heights * np.array([one.width for one in buckets])[chosen]
        wide = widths * np.array([one.height for one in buckets])[chosen]
        lost = 1 - np.minimum(tall, wide) / np.maximum(tall, wide)
        median, p95 = np.quantile(lost, [0.5, 0.95])
        sizes = Counter(buckets[place].name for place in chosen[:100_000].tolist())
        fill = fill_batches(sizes, 256)
        print(
            f"{name:26} {len(buckets):7} {median:7.1%} {p95:6.1%} {lost.mean():6.1%} "
            f"{(lost > 0.35).mean():7.2%}  {fill.lost_frac:.2%}, {len(fill.small)} buckets whole"
        )


def measure_plan(num: int, folder: Path) -> None:
    """Print how fast sizes become a plan."""
    heights, widths = draw_sizes(num)
    inputs = {VERDICTS: ShardSet(folder / "dedup"), "ingest": ShardSet(folder / "ingest")}
    shards = range(-(-num // SHARD_ROWS))
    for shard in shards:
        chosen = slice(shard * SHARD_ROWS, (shard + 1) * SHARD_ROWS)
        _write_sizes(folder, shard, heights[chosen], widths[chosen])
    before = _peak_mb()
    start = time.process_time()
    for shard in shards:
        name = f"_sizes-{shard:05d}"
        sizes = read_sizes(inputs, f"{shard:05d}", CURRICULUM, seed=0)
        with ShardWriter(folder, name, SIZES_SCHEMA, with_tar=False) as writer:
            writer.write_table(sizes.rows)
    placed_s = time.process_time() - start
    paths = [folder / f"_sizes-{shard:05d}.parquet" for shard in shards]
    start = time.process_time()
    counts = count_places((pq.read_table(path) for path in paths), CURRICULUM)
    merged = merge_sorted([partial(read_placed, path) for path in paths], ORDER, folder)
    num_shards = num_rows = 0
    with pq.ParquetWriter(folder / "_plan.parquet", PLAN_SCHEMA) as plan:
        for table in deal(merged, counts, CURRICULUM, OUT_ROWS):
            plan.write_table(table)
            num_shards, num_rows = num_shards + 1, num_rows + len(table)
    dealt_s = time.process_time() - start
    print(
        f"plan: {num:,} samples at {CURRICULUM.resolutions}: placed in {placed_s:.1f} s "
        f"({num / placed_s:,.0f}/s), {num_rows:,} rows dealt to {num_shards} shards in "
        f"{dealt_s:.1f} s ({num / dealt_s:,.0f} samples/s); peak {_peak_mb():.0f} MB "
        f"({before:.0f} MB before)"
    )


def measure_pictures(num: int, rounds: int, folder: Path) -> None:
    """Print the stage beside a bare loop over the same pictures."""
    files = _draw_jpegs(num)
    inputs = _write_pictures(folder, files)
    buckets = list_buckets(Geometry(resolutions=(256,), step_px=16), 256)

    def bare() -> None:
        for data in files:
            image = Image.open(io.BytesIO(data)).convert("RGB")
            found = nearest_buckets(np.array([image.height]), np.array([image.width]), buckets)
            bucket = buckets[int(found[0])]
            scale = min(image.height / bucket.height, image.width / bucket.width)
            high, wide = bucket.height * scale, bucket.width * scale
            top, left = (image.height - high) / 2, (image.width - wide) / 2
            box = (left, top, left + wide, top + high)
            size = (bucket.width, bucket.height)
            small = image.resize(size, Image.Resampling.LANCZOS, box=box)
            encode_image(small, "webp", 95)

    def ours(number: int) -> None:
        out = folder / f"bucket-{number}"
        config = BucketConfig(resolutions=[256], step_px=16)
        stage = BucketStage(config, inputs, {}, 0, own=ShardSet(out))
        run_stage(stage, Output(store=LocalStore(out)), InlineExecutor(), Silent())

    times: dict[str, list[float]] = {"bare": [], "ours": []}
    bare()  # caches warm
    for number in range(rounds):
        times["bare"].append(_cpu_s(bare))
        times["ours"].append(_cpu_s(partial(ours, number)))
    rates = {name: num / statistics.median(found) for name, found in times.items()}
    ratios = [a / b for a, b in zip(times["bare"], times["ours"], strict=True)]
    print(
        f"pictures: {num} JPEGs of a megapixel to 256 px, pictures/s of CPU time: "
        f"bare {rates['bare']:.1f}, ours {rates['ours']:.1f}; ratio "
        f"{statistics.median(ratios):.3f} (median of {rounds})"
    )


def _cpu_s(work: Callable[[], None]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _write_sizes(
    folder: Path, shard: int, heights: NDArray[np.int64], widths: NDArray[np.int64]
) -> None:
    keys = pa.array([make_key(str(shard), str(row)) for row in range(len(heights))])
    num = len(keys)
    same: dict[str, Any] = {"status": OK, "caption": "a caption of some words", "bytes": 100_000}
    columns = {name: pa.repeat(pa.scalar(value), num) for name, value in same.items()}
    columns |= {"key": keys, "height": pa.array(heights), "width": pa.array(widths)}
    columns |= {"offset": pa.array(np.arange(num) * 100_352)}
    given = [columns.get(field.name, pa.nulls(num, field.type)) for field in INGEST_SCHEMA]
    table = pa.table([pa.array(c).cast(f.type) for c, f in zip(given, INGEST_SCHEMA, strict=True)],
                     schema=INGEST_SCHEMA)  # fmt: skip
    _commit(folder / "ingest", shard, INGEST_SCHEMA, table)
    schema = pa.schema(VERDICT_FIELDS)
    kept = pa.table([keys, columns["status"], pa.repeat(pa.scalar(True), num),
                     pa.repeat(pa.scalar(""), num)], schema=schema)  # fmt: skip
    _commit(folder / "dedup", shard, schema, kept)


def _commit(folder: Path, shard: int, schema: pa.Schema, table: pa.Table) -> None:
    work = folder / ".work"
    work.mkdir(parents=True, exist_ok=True)
    with ShardWriter(work, f"{shard:05d}", schema, with_tar=False) as writer:
        writer.write_table(table)
    _seal(work, folder, shard, len(table))


def _seal(work: Path, folder: Path, shard: int, num: int) -> None:
    identity = Identity(
        stage=folder.name, version=1, seed=0, config={}, models={}, inputs={}, params={}
    )
    commit(work, Output(store=LocalStore(folder)), f"{shard:05d}", identity, {"kept": num})


def _draw_jpegs(num: int) -> list[bytes]:
    """Draw pictures with edges, gradients and some noise: 1152 x 864 and other aspects."""
    files: list[bytes] = []
    for number in range(num):
        rng = make_rng(0, "jpeg", number)
        height, width = [(864, 1152), (1152, 864), (1000, 1000), (800, 1250)][number % 4]
        coarse = Image.fromarray(rng.integers(0, 255, (18, 18, 3), np.uint8))
        pixels = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.int16)
        noisy = pixels + rng.integers(-8, 8, pixels.shape, np.int16)
        image = Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
        files.append(encode_image(image, "jpeg", 90, "4:2:0"))
    return files


def _write_pictures(folder: Path, files: list[bytes]) -> dict[str, ShardSet]:
    work = folder / "ingest" / ".work"
    work.mkdir(parents=True)
    keys: list[str] = []
    with ShardWriter(work, "00000", INGEST_SCHEMA, with_tar=True) as writer:
        for number, data in enumerate(files):
            keys.append(make_key(str(number)))
            width, height = Image.open(io.BytesIO(data)).size
            row: dict[str, Any] = {
                "key": keys[-1], "status": OK, "caption": "a caption", "bytes": len(data),
                "height": height, "width": width,
            }  # fmt: skip
            row["offset"] = writer.write(row, {"jpg": data})["jpg"][0]
    _seal(work, folder / "ingest", 0, len(files))
    schema = pa.schema(VERDICT_FIELDS)
    rows = [{"key": key, "status": OK, "keep": True, "reason": ""} for key in keys]
    _commit(folder / "dedup", 0, schema, pa.Table.from_pylist(rows, schema))
    return {VERDICTS: ShardSet(folder / "dedup"), "ingest": ShardSet(folder / "ingest")}


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=["plan", "pictures", "rules", []], default=[])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--pictures", type=int, default=192)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    parts = options.parts or ["plan", "pictures", "rules"]
    with tempfile.TemporaryDirectory() as name:
        if "plan" in parts:
            measure_plan(options.rows, Path(name) / "plan")
        if "pictures" in parts:
            measure_pictures(options.pictures, options.rounds, Path(name) / "pictures")
    if "rules" in parts:
        measure_rules(options.rows)


if __name__ == "__main__":
    main()
