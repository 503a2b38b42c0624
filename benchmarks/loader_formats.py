"""Write one made-up data set in the formats of `benchmarks/loader.py`.

    python benchmarks/loader_formats.py FORMAT FOLDER NUM_SAMPLES

Sample n is the same in every format: a latent of normal numbers and a text, both float16, and the
key of its number. Shards of about 63 MB.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

SHARD_BYTES = 63 << 20
LATENT = (4, 32, 32)
TEXT = {"small": (1, 2048), "big": (77, 768)}


def make_samples(folder: Path, num_samples: int) -> Iterator[tuple[str, Any, Any]]:
    """Make (key, latents, text) of every sample."""
    shape = TEXT["big" if folder.name.startswith("big") else "small"]
    rng = np.random.default_rng(0)
    text = rng.standard_normal((64, *shape)).astype(np.float16)
    for number in range(num_samples):
        key = hashlib.sha256(str(number).encode()).hexdigest()[:20]
        latents = rng.standard_normal(LATENT, np.float32).astype(np.float16)
        yield key, latents, text[number % 64]


def shard_size(folder: Path) -> int:
    shape = TEXT["big" if folder.name.startswith("big") else "small"]
    return SHARD_BYTES // (8192 + 2 * int(np.prod(shape)))


def write_store(folder: Path, num_samples: int) -> None:
    from curate.core.latent_column import ArrayColumn, CaptionColumn, CaptionRecord
    from curate.core.latent_manifest import NAME, LatentFacts, LatentManifest, ShardEntry, TextFacts

    out = folder / "store"
    shards: list[ShardEntry] = []
    size = shard_size(folder)
    columns: list[Any] = []
    dim = 0
    for number, (key, latents, text) in enumerate(make_samples(folder, num_samples)):
        dim = text.shape[1]
        if number % size == 0:
            for column in columns:
                column.close()
            name = f"{len(shards):05d}"
            columns = [ArrayColumn(out, name, {}), CaptionColumn(out / "text-main", name, {})]
            count = min(size, num_samples - number)
            shards.append(ShardEntry(name=name, bucket="256x256", num_samples=count, files={}))
        columns[0].add(key, {"latents": latents})
        caption = CaptionRecord(
            source="text", text="", tokens=text, pooled=np.empty(0, np.float16), num_truncated=0
        )
        columns[1].add(key, [caption])
    for column in columns:
        column.close()
    manifest = LatentManifest(
        latents=LatentFacts(
            member="latents", vae="", channels=4, mean=(0.0,) * 4, std=(1.0,) * 4, downsample=8
        ),
        texts=(TextFacts(name="main", encoder="", dim=dim, pooled_dim=0, max_tokens=77),),
        shards=tuple(shards),
    )
    (out / NAME).write_text(manifest.to_json())


def write_npy(folder: Path, num_samples: int) -> None:
    shape = TEXT["big" if folder.name.startswith("big") else "small"]
    arrays = [
        np.lib.format.open_memmap(
            folder / "npy" / f"{name}.npy", "w+", np.float16, (num_samples, *one)
        )
        for name, one in (("latents", LATENT), ("text", shape))
    ]
    for number, (_, latents, text) in enumerate(make_samples(folder, num_samples)):
        arrays[0][number], arrays[1][number] = latents, text


def write_webdataset(folder: Path, num_samples: int) -> None:
    """Write with a whole mtime, which spares its reader two blocks a member."""
    import webdataset

    pattern = str(folder / "wds" / "%05d.tar")
    counts: dict[str, int] = {}
    with webdataset.ShardWriter(pattern, maxcount=shard_size(folder), mtime=0, verbose=0) as writer:
        for key, latents, text in make_samples(folder, num_samples):
            writer.write({"__key__": key, "latents.npy": npy(latents), "text.npy": npy(text)})
            name = f"{writer.shard - 1:05d}.tar"
            counts[name] = counts.get(name, 0) + 1
    listed = [{"url": name, "nsamples": count} for name, count in counts.items()]
    index = {"__kind__": "wids-shard-index-v1", "wids_version": 1, "shardlist": listed}
    (folder / "wds" / "index.json").write_text(json.dumps(index))


def write_mds(folder: Path, num_samples: int) -> None:
    from streaming import MDSWriter

    columns = {"key": "str", "latents": "bytes", "text": "bytes"}
    with MDSWriter(out=str(folder / "mds"), columns=columns, size_limit=SHARD_BYTES) as writer:
        for key, latents, text in make_samples(folder, num_samples):
            writer.write({"key": key, "latents": latents.tobytes(), "text": text.tobytes()})


def write_litdata(folder: Path, num_samples: int) -> None:
    from litdata.streaming.cache import Cache

    cache = Cache(str(folder / "litdata"), chunk_bytes=SHARD_BYTES)
    for number, (key, latents, text) in enumerate(make_samples(folder, num_samples)):
        cache[number] = {"key": key, "latents": latents.tobytes(), "text": text.tobytes()}
    cache.done()
    cache.merge()


def write_arrow(folder: Path, num_samples: int) -> None:
    import datasets

    datasets.disable_progress_bars()
    features = datasets.Features(
        {name: datasets.Value(kind) for name, kind in
         (("key", "string"), ("latents", "binary"), ("text", "binary"))}
    )  # fmt: skip

    def rows() -> Iterator[dict[str, Any]]:
        for key, latents, text in make_samples(folder, num_samples):
            yield {"key": key, "latents": latents.tobytes(), "text": text.tobytes()}

    made = datasets.Dataset.from_generator(
        rows, features=features, cache_dir=str(folder / "arrow-cache")
    )
    made.save_to_disk(str(folder / "arrow"), max_shard_size=SHARD_BYTES)


def write_parquet(folder: Path, num_samples: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    some: list[tuple[str, Any, Any]] = []
    size = shard_size(folder)

    def flush(number: int) -> None:
        arrays = [
            pa.array([key for key, _, _ in some]),
            pa.array([a.tobytes() for _, a, _ in some], pa.binary(some[0][1].nbytes)),
            pa.array([b.tobytes() for _, _, b in some], pa.binary(some[0][2].nbytes)),
        ]
        pq.write_table(
            pa.Table.from_arrays(arrays, ["key", "latents", "text"]),
            folder / "parquet" / f"{number:05d}.parquet",
            row_group_size=256,
            compression="none",
            use_dictionary=False,
        )

    number = 0
    for sample in make_samples(folder, num_samples):
        some.append(sample)
        if len(some) == size:
            flush(number)
            number, some = number + 1, []
    if some:
        flush(number)


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, allow_pickle=False)
    return stream.getvalue()


OURS: dict[str, Callable[[Path, int], None]] = {"store": write_store, "npy": write_npy}
PEERS: dict[str, Callable[[Path, int], None]] = {
    "wds": write_webdataset,
    "mds": write_mds,
    "litdata": write_litdata,
    "arrow": write_arrow,
    "parquet": write_parquet,
}


if __name__ == "__main__":
    format_name, place = sys.argv[1], Path(sys.argv[2])
    if format_name != "mds":  # its writer wants to make the folder
        (place / format_name).mkdir(parents=True)
    (OURS | PEERS)[format_name](place, int(sys.argv[3]))
