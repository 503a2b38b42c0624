"""Read one epoch of a data set in one of many formats, and say what it cost: one process each.

    python benchmarks/loader_readers.py READER FOLDER NUM_SAMPLES

Runs in a Python that has the peer's library; nothing of this project is imported but by `ours` and
`memmap`. Contract: batches of 64 as (latents, text: float16 arrays in memory, 64 keys), shuffled,
each sample once; one process without workers; the pages are in the page cache. The first batch is
not timed. The last line printed is JSON.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

BATCH_SIZE = 64
LATENT = (4, 32, 32)
TEXT = {"small": (1, 2048), "big": (77, 768)}
# What the project's own process measures beside: reading in the order of the same plan.
OURS = ("ours-1", "ours-2", "ours-mmap-1", "ours-always-2", "memmap-plan")

Batch = tuple[Any, Any, list[Any]]


def text_shape(folder: Path) -> tuple[int, ...]:
    return TEXT["big" if folder.name.startswith("big") else "small"]


def collate(samples: list[tuple[Any, bytes, bytes]], shape: tuple[int, ...]) -> Batch:
    """Stack raw bytes of 64 samples into two arrays."""
    latents = np.empty((len(samples), *LATENT), np.float16)
    text = np.empty((len(samples), *shape), np.float16)
    for i, (_, latent, tokens) in enumerate(samples):
        latents[i] = np.frombuffer(latent, np.float16).reshape(LATENT)
        text[i] = np.frombuffer(tokens, np.float16).reshape(shape)
    return latents, text, [key for key, _, _ in samples]


def grouped(samples: Iterator[tuple[Any, bytes, bytes]], shape: tuple[int, ...]) -> Iterator[Batch]:
    some: list[tuple[Any, bytes, bytes]] = []
    for sample in samples:
        some.append(sample)
        if len(some) == BATCH_SIZE:
            yield collate(some, shape)
            some = []
    if some:
        yield collate(some, shape)


def read_webdataset_raw(folder: Path, num_samples: int) -> Iterator[Batch]:
    """Stream tars, decode `.npy` by hand: its header is 128 bytes."""
    import webdataset

    urls = sorted(str(path) for path in (folder / "wds").glob("*.tar"))
    stream = webdataset.WebDataset(urls, shardshuffle=len(urls), empty_check=False).shuffle(1000)
    samples = ((s["__key__"], s["latents.npy"][128:], s["text.npy"][128:]) for s in stream)
    return grouped(samples, text_shape(folder))


def read_webdataset_decode(folder: Path, num_samples: int) -> Iterator[Batch]:
    """Stream tars as its documentation does."""
    import webdataset

    urls = sorted(str(path) for path in (folder / "wds").glob("*.tar"))
    stream = webdataset.WebDataset(urls, shardshuffle=len(urls), empty_check=False)
    stream = stream.shuffle(1000).decode().to_tuple("__key__", "latents.npy", "text.npy")
    for keys, latents, text in stream.batched(BATCH_SIZE, partial=True):
        yield np.stack(latents), np.stack(text), list(keys)


def read_wids(folder: Path, num_samples: int) -> Iterator[Batch]:
    """Look samples up in tars, in its own chunked order."""
    import wids

    dataset = wids.ShardListDataset(str(folder / "wds" / "index.json"), transformations=[])
    sampler = wids.ChunkedSampler(dataset, chunksize=2000, shuffle=True, shufflefirst=True)
    samples = (
        (s["__key__"], s[".latents.npy"].read()[128:], s[".text.npy"].read()[128:])
        for s in (dataset[int(i)] for i in sampler)
    )
    return grouped(samples, text_shape(folder))


def read_mds(folder: Path, num_samples: int) -> Iterator[Batch]:
    """Read shards of mosaicml-streaming, shuffled by its default algorithm."""
    from streaming import StreamingDataset

    dataset = StreamingDataset(
        local=str(folder / "mds"), shuffle=True, shuffle_seed=0, batch_size=BATCH_SIZE
    )
    samples = ((s["key"], s["latents"], s["text"]) for s in dataset)
    return grouped(samples, text_shape(folder))


def read_litdata(folder: Path, num_samples: int) -> Iterator[Batch]:
    """Read chunks of litdata, shuffled."""
    from litdata import StreamingDataset

    dataset = StreamingDataset(str(folder / "litdata"), shuffle=True, seed=0)
    samples = ((s["key"], s["latents"], s["text"]) for s in dataset)
    return grouped(samples, text_shape(folder))


def read_datasets(folder: Path, num_samples: int) -> Iterator[Batch]:
    """Read Arrow files of Hugging Face `datasets`, binary columns, an order of its own."""
    import datasets

    datasets.disable_progress_bars()
    dataset = datasets.load_from_disk(str(folder / "arrow")).shuffle(seed=0)
    for first in range(0, len(dataset), BATCH_SIZE):
        rows = dataset[first : first + BATCH_SIZE]
        yield collate(
            list(zip(rows["key"], rows["latents"], rows["text"], strict=True)), text_shape(folder)
        )


def read_parquet(folder: Path, num_samples: int) -> Iterator[Batch]:
    """Read Parquet by row groups of 256, mixed in windows of eight."""
    import pyarrow.parquet as pq

    files = [pq.ParquetFile(path) for path in sorted((folder / "parquet").glob("*.parquet"))]
    groups = [(file, i) for file in files for i in range(file.num_row_groups)]
    rng = np.random.default_rng(0)
    rng.shuffle(groups)

    def columns(file: Any, group: int) -> list[tuple[Any, bytes, bytes]]:
        table = file.read_row_group(group)
        arrays: list[Any] = []
        for name, size in (("latents", 8192), ("text", 2 * int(np.prod(text_shape(folder))))):
            chunk = table[name].combine_chunks()
            data = np.frombuffer(chunk.buffers()[1], np.uint8)[chunk.offset * size :]
            arrays.append(data[: len(chunk) * size].reshape(len(chunk), size))
        return list(zip(table["key"].to_pylist(), *arrays, strict=True))

    def samples() -> Iterator[tuple[Any, bytes, bytes]]:
        for first in range(0, len(groups), 8):
            window = [row for group in groups[first : first + 8] for row in columns(*group)]
            for i in rng.permutation(len(window)).tolist():
                yield window[i]

    return grouped(samples(), text_shape(folder))


def read_ours(folder: Path, num_samples: int, kind: str) -> Iterator[Batch]:
    """Read the latent store by this project's loader; `ours-N` has N threads, 1 is none."""
    from curate.core.store import LocalStore
    from train.data import BatchReader, LatentSet
    from train.loader import Loader
    from train.mix import CaptionMix
    from train.reading import ReadConfig, TextShape, Wishes

    num_threads = int(kind[-1]) if kind[-1] != "1" else 0
    verify = "always" if "always" in kind else "sampled"
    reading = ReadConfig(io="mmap" if "mmap" in kind else "preadv", verify=verify)
    data = LatentSet([(LocalStore(folder / "store"), 1.0)], reading)
    mix = CaptionMix(weights={"text": 1.0}, dropout_frac=0.0)
    wishes = Wishes(text=TextShape(step=1), with_noise=False)
    plan = data.plan(BATCH_SIZE, 0)
    with Loader(
        BatchReader(data, plan, mix, 0, wishes),
        end_step=num_samples // BATCH_SIZE,
        num_threads=num_threads,
        ahead_steps=4,
    ) as loader:
        for raw in loader:
            yield raw.latents.numpy(), raw.texts["main"].tokens.numpy(), list(raw.keys)


def read_memmap(folder: Path, num_samples: int, kind: str) -> Iterator[Batch]:
    """Gather from two memory-mapped arrays in the order of our plan, into memory used again."""
    from train.plan import BatchPlan, PlanSet

    latents = np.load(folder / "npy" / "latents.npy", mmap_mode="r")
    text = np.load(folder / "npy" / "text.npy", mmap_mode="r")
    plan = BatchPlan([PlanSet(sizes={"256x256": num_samples})], BATCH_SIZE, 0)
    latents, text = np.asarray(latents), np.asarray(text)
    out = (
        np.empty((BATCH_SIZE, *LATENT), np.float16),
        np.empty((BATCH_SIZE, *text.shape[1:]), np.float16),
    )
    for step in range(num_samples // BATCH_SIZE):
        positions = plan.batch(step).positions
        np.take(latents, positions, axis=0, out=out[0], mode="clip")
        np.take(text, positions, axis=0, out=out[1], mode="clip")
        yield out[0], out[1], positions.tolist()


PEERS: dict[str, Callable[[Path, int], Iterator[Batch]]] = {
    "webdataset-raw": read_webdataset_raw,
    "webdataset-decode": read_webdataset_decode,
    "wids": read_wids,
    "mds": read_mds,
    "litdata": read_litdata,
    "datasets": read_datasets,
    "parquet": read_parquet,
}


def open_reader(kind: str, folder: Path, num_samples: int) -> Iterator[Batch]:
    if kind in PEERS:
        return PEERS[kind](folder, num_samples)
    read = read_memmap if kind.startswith("memmap") else read_ours
    return read(folder, num_samples, kind)


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def measure(kind: str, folder: Path, num_samples: int) -> dict[str, Any]:
    """Read an epoch; every page of every batch is touched by the consumer."""
    batches = open_reader(kind, folder, num_samples)
    keys: list[Any] = list(next(batches)[2])
    num_timed, touched = 0, 0.0
    cpu, wall = cpu_seconds(), time.perf_counter()
    for latents, text, names in batches:
        touched += float(latents.reshape(-1)[::2048].sum()) + float(text.reshape(-1)[::2048].sum())
        num_timed += len(names)
        keys += names
    cpu, wall = cpu_seconds() - cpu, time.perf_counter() - wall
    return {
        "reader": kind,
        "samples": num_timed,
        "cpu_s": cpu,
        "wall_s": wall,
        "is_complete": len(set(keys)) == len(keys) >= num_samples - BATCH_SIZE,
    }


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))))
