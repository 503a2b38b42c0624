"""Measure encode against the bare networks over the same batches, on a CPU.

`python -m benchmarks.encode [--models toy|small] [--pictures 512] [--rounds 5] [--threads 1]`

Interleaved in one process:
    bare    decode with PIL, the VAE's mean and standard deviation, the text encoder over each
            distinct caption, in the same batches; arrays are kept, nothing is written
    ours    the stage: tar -> decode -> VAE -> captions -> tars, indexes and table on disk

Models: "toy" is the shipped pack at 64 x 64 pixels, where what is not the network weighs most;
"small" a quarter of SD's VAE in width (random weights, 192 x 192) and a CLIP text tower of 4
layers. Printed: samples/s by wall and by CPU time of the process, medians over the rounds, and the
ratios of ours to bare, of medians and of each loop's best round: beside other work CPU time grows
by what the caches lose, and the best round has least of that.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image

from curate.core.batches import batched
from curate.core.manifest import Task
from curate.core.schema import shard_name
from curate.core.seed import make_rng
from curate.core.shard import ShardSet
from curate.core.stage import Place
from curate.models.packs import ModelRef, load_pack
from curate.models.text_embedding import TextEncoder
from curate.models.text_encoder import load_text_encoder
from curate.models.vae import MAX_BATCH_PIXELS
from curate.models.weights import seeded_weights
from curate.stages.encode import EncodeStage
from curate.stages.encoding.captions import WINDOW
from curate.stages.encoding.config import EncodeConfig
from pipelines.toyweb.scene import describe, random_scene, render
from tests.stages.encode_run import Sample, write_bucketed

BATCH = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Hold what both loops share."""

    folder: Path
    bucketed: ShardSet
    network: Any
    encoder: TextEncoder
    stage: EncodeStage


def main() -> None:
    """Run the rounds and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", choices=["toy", "small"], default="toy")
    parser.add_argument("--pictures", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        bench = prepare(Path(folder), options.models, options.pictures)
        rates = measure(bench, options.pictures, options.rounds)
    print(json.dumps({**vars(options), **rates}, indent=1))


def prepare(folder: Path, name: str, num_pictures: int) -> Bench:
    """Draw a shard of toy pictures with two captions each, and load the models."""
    models = dict(load_pack("toy")) if name == "toy" else write_small(folder)
    models = {role: models[role] for role in ("vae", "text_encoder")}
    side = 64 if name == "toy" else 192
    bucketed = write_bucketed(
        folder / "bucket", [(f"{side}x{side}", [_sample(n, side) for n in range(num_pictures)])]
    )
    config = EncodeConfig(batch_size=BATCH, device="cpu")
    stage = EncodeStage(config, {"bucket": bucketed}, models, seed=0)
    stage.setup()
    network: Any = AutoencoderKL.from_pretrained(models["vae"].paths[0]).eval()
    return Bench(
        folder=folder,
        bucketed=bucketed,
        network=network.to(memory_format=torch.channels_last),
        encoder=load_text_encoder(models["text_encoder"]),
        stage=stage,
    )


def write_small(folder: Path) -> dict[str, ModelRef]:
    """Write the models that "small" names."""
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    from tests.models.tiny_text import END, START, VOCABULARY, write_tokenizer

    with seeded_weights(0):
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(32, 64, 128, 128),
            layers_per_block=2,
            latent_channels=4,
        )
        config = CLIPTextConfig(
            vocab_size=len(VOCABULARY), num_hidden_layers=4, bos_token_id=START, eos_token_id=END
        )
        text = CLIPTextModelWithProjection(config)
    vae.save_pretrained(folder / "vae")
    text.save_pretrained(folder / "text")
    write_tokenizer(folder / "text", start=True)
    return {
        "vae": ModelRef(kind="autoencoder", paths=(folder / "vae",)),
        "text_encoder": ModelRef(kind="clip", paths=(folder / "text",)),
    }


def measure(bench: Bench, num_pictures: int, rounds: int) -> dict[str, float]:
    """Run both loops in turns; give medians and ratios."""
    loops: dict[str, Callable[[Bench], None]] = {"bare": run_bare, "ours": run_ours}
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in loops}
    for number in range(rounds + 1):  # the first one warms up
        for name in list(loops)[:: 1 if number % 2 else -1]:  # neither is always the first
            loop = loops[name]
            wall, cpu = time.perf_counter(), time.process_time()
            loop(bench)
            took = time.perf_counter() - wall, time.process_time() - cpu
            if number:
                rates[name].append((num_pictures / took[0], num_pictures / took[1]))
    found: dict[str, float] = {}
    for place, clock in enumerate(("wall", "cpu")):
        medians = {n: statistics.median(r[place] for r in rates[n]) for n in loops}
        found |= {f"{name} samples/s {clock}": round(value, 1) for name, value in medians.items()}
        best = {name: max(r[place] for r in rates[name]) for name in loops}
        found[f"ours / bare {clock}"] = round(medians["ours"] / medians["bare"], 3)
        found[f"ours / bare {clock}, best rounds"] = round(best["ours"] / best["bare"], 3)
    return found


@torch.inference_mode()
def run_bare(bench: Bench) -> None:
    """Do no more than the networks and their input ask for."""
    kept: list[np.ndarray] = []
    for batch in batched(bench.bucketed.members(shard_name(0)), BATCH):
        pictures = [Image.open(io.BytesIO(members["png"])).convert("RGB") for _, members in batch]
        pixels = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures]))
        # In the parts that our VAE cuts a batch into: they stay in the processor's cache.
        for part in pixels.split(max(1, MAX_BATCH_PIXELS // (pixels.shape[1] * pixels.shape[2]))):
            values = part.permute(0, 3, 1, 2).float() / 127.5 - 1.0
            posterior = bench.network.encode(values).latent_dist
            kept += [posterior.mean.half().numpy(), posterior.std.half().numpy()]
    rows = bench.bucketed.table(shard_name(0), ["captions.text"])["captions.text"].to_pylist()
    for some in batched((text for row in rows for text in row), WINDOW):
        for embedding in bench.encoder.encode(sorted(set(some))):
            kept += [embedding.tokens.astype(np.float16), embedding.pooled.astype(np.float16)]


def run_ours(bench: Bench) -> None:
    """Run the stage's task; what it wrote goes."""
    out = bench.folder / "out"
    out.mkdir()
    task = Task(shard=shard_name(0), inputs={})
    bench.stage.run(task, Place(out=out, scratch=bench.folder / "scratch"))
    shutil.rmtree(out)


def _sample(number: int, side: int) -> Sample:
    rng = make_rng(0, "benchmarks.encode", number)
    scene = random_scene(rng)
    stream = io.BytesIO()
    Image.fromarray(render(scene, side, side)).save(stream, "PNG")
    short = f"picture {number}: {describe(scene).split(',')[0]}"
    return Sample(
        name=str(number),
        captions={"alt": short, "detailed": describe(scene)},
        data=stream.getvalue(),
    )


if __name__ == "__main__":
    main()
