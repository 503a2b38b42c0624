"""Measure annotate against the bare model: CLIP ViT-B/32, random weights, on a CPU.

`python -m benchmarks.annotate [--pictures 96] [--rounds 3] [--threads 1]`

Interleaved in one process with `--threads` threads of torch:
    bare    both towers of open_clip over tensors that are ready, in the same batches
    short   the same with the padding of each batch's texts cut off, as our loop does
    ours    the stage: tar -> decode -> prepare -> both towers -> similarity -> parquet
    peer    a plain script over the same tar as people write it (and as clip-retrieval works):
            webdataset, torch's DataLoader with one worker that decodes and prepares, both towers,
            half precision, parquet

Printed: pictures/s by wall and by CPU time of the process (peer: wall alone, it has two), medians
over the rounds, and the ratios to bare.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import webdataset
from PIL import Image
from torch import Tensor

from curate.core.image import decode_image, encode_image
from curate.core.manifest import Task
from curate.core.schema import INGEST_SCHEMA, OK
from curate.core.seed import derive_seed, make_rng
from curate.core.shard import ShardSet, ShardWriter
from curate.core.stage import Place
from curate.models.open_clip_folder import load_open_clip, write_open_clip
from curate.models.packs import ModelRef
from curate.models.weights import seeded_weights
from curate.stages.annotate import AnnotateConfig, AnnotateStage

ARCHITECTURE, BATCH = "ViT-B-32", 64
WIDTH, HEIGHT = 1152, 864  # a megapixel
WORDS = ("a", "the", "red", "old", "photo", "of", "house", "garden", "dog", "near", "sea", "IMG")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Hold what all loops share."""

    folder: Path
    network: Any
    preprocess: Callable[[Image.Image], Tensor]
    tokenizer: Callable[[Sequence[str]], Tensor]
    pixels: Tensor
    tokens: Tensor
    stage: AnnotateStage


def main() -> None:
    """Run the rounds and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        bench = prepare(Path(folder), options.pictures)
        rates = measure(bench, options.rounds, options.pictures)
    print(json.dumps({"threads": options.threads, **rates}, indent=1))


def prepare(folder: Path, num_pictures: int) -> Bench:
    """Write model and shard, and get the bare loop's tensors ready."""
    with seeded_weights(derive_seed(0, "benchmarks.annotate")):
        network = open_clip.create_model(ARCHITECTURE, pretrained=None, force_quick_gelu=True)
    write_open_clip(folder / ARCHITECTURE, ARCHITECTURE, "openai", network.state_dict(), "0" * 64)
    write_shard(folder / "ingest", num_pictures)
    parts = load_open_clip(folder / ARCHITECTURE)
    samples = [members for _, members in ShardSet(folder / "ingest").members("00000")]
    models = {"image_text": ModelRef(kind="open_clip", paths=(folder / ARCHITECTURE,))}
    config = AnnotateConfig(annotators=["clip"], batch_size=BATCH, device="cpu")
    stage = AnnotateStage(config, {"ingest": ShardSet(folder / "ingest")}, models, seed=0)
    stage.setup()
    return Bench(
        folder=folder,
        network=parts.network,
        preprocess=parts.preprocess,
        tokenizer=parts.tokenizer,
        pixels=torch.stack([parts.preprocess(decode_image(one["jpg"])) for one in samples]),
        tokens=parts.tokenizer([one["txt"].decode() for one in samples]),
        stage=stage,
    )


def write_shard(folder: Path, num_pictures: int) -> None:
    """Write JPEGs of a megapixel (about 270 KB) with alt texts of 3 to 18 words."""
    folder.mkdir()
    with ShardWriter(folder, "00000", INGEST_SCHEMA, with_tar=True) as writer:
        for index in range(num_pictures):
            rng = make_rng(0, "benchmarks.annotate", index)
            coarse = rng.integers(0, 256, (HEIGHT // 24, WIDTH // 24, 3), dtype=np.uint8)
            smooth = Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
            noise = rng.normal(0, 9, (HEIGHT, WIDTH, 1))
            pixels = np.clip(np.asarray(smooth) + noise, 0, 255).astype(np.uint8)
            data = encode_image(Image.fromarray(pixels), "jpeg", 85)
            caption = " ".join(rng.choice(WORDS, int(rng.integers(3, 19))))
            row: dict[str, Any] = {
                "key": f"{index:020x}", "status": OK, "caption": caption, "bytes": len(data),
                "width": WIDTH, "height": HEIGHT,
            }  # fmt: skip
            row["offset"] = writer.write(row, {"jpg": data, "txt": caption.encode()})["jpg"][0]


@torch.inference_mode()
def bare(bench: Bench, *, cut: bool) -> None:
    """Run both towers over tensors that are ready."""
    from curate.models.clip import _cut_to, read_lengths

    for start in range(0, len(bench.pixels), BATCH):
        bench.network.encode_image(bench.pixels[start : start + BATCH], normalize=True)
        tokens = bench.tokens[start : start + BATCH]
        length = int(read_lengths(bench.network, tokens).max()) if cut else tokens.shape[1]
        with _cut_to(bench.network, length):
            bench.network.encode_text(tokens[:, :length], normalize=True)


def ours(bench: Bench) -> None:
    """Run the stage on the shard."""
    out = bench.folder / "ours"
    out.mkdir(exist_ok=True)
    bench.stage.run(Task(shard="00000", inputs={}), Place(out=out, scratch=out))


def peer(bench: Bench) -> None:
    """Run a plain script on the same tar."""
    samples = (
        webdataset.WebDataset(str(bench.folder / "ingest" / "00000.tar"), shardshuffle=False)
        .decode("pil")
        .to_tuple("jpg", "txt")
        .map_tuple(bench.preprocess, lambda text: text)
    )
    loader = torch.utils.data.DataLoader(samples, batch_size=BATCH, num_workers=1)
    images, texts = [], []
    with torch.inference_mode():
        for pixels, captions in loader:
            images.append(bench.network.encode_image(pixels, normalize=True).half().numpy())
            tokens = bench.tokenizer(list(captions))
            texts.append(bench.network.encode_text(tokens, normalize=True).half().numpy())
    columns = {"image": list(np.concatenate(images)), "text": list(np.concatenate(texts))}
    pq.write_table(pa.table(columns), bench.folder / "peer.parquet")


def measure(bench: Bench, rounds: int, num_pictures: int) -> dict[str, Any]:
    """Time the loops in turn."""
    loops: Mapping[str, Callable[[], None]] = {
        "bare": lambda: bare(bench, cut=False),
        "short": lambda: bare(bench, cut=True),
        "ours": lambda: ours(bench),
        "peer": lambda: peer(bench),
    }
    wall: dict[str, list[float]] = {name: [] for name in loops}
    cpu: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(rounds):
        for name, loop in loops.items():
            begun, begun_cpu = time.perf_counter(), time.process_time()
            loop()
            wall[name].append(time.perf_counter() - begun)
            cpu[name].append(time.process_time() - begun_cpu)
    by_wall = {name: num_pictures / statistics.median(times) for name, times in wall.items()}
    by_cpu = {name: num_pictures / statistics.median(times) for name, times in cpu.items()}
    by_cpu.pop("peer")  # a process of its own decodes
    return {
        "per_s_wall": {name: round(rate, 2) for name, rate in by_wall.items()},
        "per_s_cpu": {name: round(rate, 2) for name, rate in by_cpu.items()},
        "of_bare_wall": {n: round(rate / by_wall["bare"], 2) for n, rate in by_wall.items()},
        "of_bare_cpu": {n: round(rate / by_cpu["bare"], 2) for n, rate in by_cpu.items()},
    }


if __name__ == "__main__":
    main()
