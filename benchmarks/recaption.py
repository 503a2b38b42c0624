"""Measure the local captioner against a bare loop over the same batches.

`python -m benchmarks.recaption [--pictures 256] [--rounds 5]`

Two models: the toy pack's captioner on toy pictures (it ends its captions by itself), and a tiny
random Qwen2-VL on photographs' sizes (its pictures differ in tokens; it writes to the limit).
Interleaved in one process with one thread of torch:
    generate   the model's own `generate`, greedy, over inputs that are ready
    script     processor, `generate` and `batch_decode`, one batch after the other
    ours       `caption`: prompts, plan of batches, processor in a thread, seeds, attempts

All three have the same batches. Printed: captions/s by CPU time of the process and by wall, medians
over the rounds; ratios of ours to the others, medians of the rounds' own ratios; and the peak of
resident memory in processes of their own for 1x and 10x as many pictures.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from curate.captioners.captioner import CaptionRequest, Sampling
from curate.captioners.instructions import TEMPLATES
from curate.captioners.vlm import VlmCaptioner
from curate.captioners.vlm_batches import plan_batches
from curate.captioners.vlm_inputs import Asked, Inputs, expect_costs
from curate.core.batches import batched
from curate.core.model_ref import ModelRef
from curate.core.seed import derive_seed, make_rng
from curate.models.packs import load_pack
from pipelines.toyweb.captioner_pictures import draw_picture
from pipelines.toyweb.scene import random_split_scene
from tests.captioners.tiny_vlms import save_qwen2_vl

MODELS = ("toy", "qwen2_vl")
STYLE = "detailed"
WINDOW = 256  # requests handed to `caption` at once where memory is measured
SIDES = (120, 160, 200, 240)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Hold what all loops share: batches, and their inputs made ready."""

    captioner: VlmCaptioner
    requests: Sequence[CaptionRequest]
    batches: Sequence[Sequence[Asked]]
    ready: Sequence[Inputs]


def main() -> None:
    """Run the rounds and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peak", choices=MODELS, help="only caption, and print the peak in MB")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if options.peak:
            print(measure_peak(load(options.peak, Path(folder)), options.peak, options.pictures))
            return
        found = {
            name: measure(prepare(name, Path(folder) / name, options.pictures), options.rounds)
            | {"peak_mb": [ask_peak(name, options.pictures * times) for times in (1, 10)]}
            for name in MODELS
        }
    print(json.dumps(found, indent=1))


def load(name: str, folder: Path) -> VlmCaptioner:
    """Load a model; the random one is written first."""
    if name == "toy":
        return VlmCaptioner(load_pack("toy")["captioner"])
    folder.mkdir(exist_ok=True)
    save_qwen2_vl(folder)
    return VlmCaptioner(ModelRef(kind="vlm", paths=(folder,)))


def make_request(name: str, index: int) -> CaptionRequest:
    """Draw a picture and ask for a detailed caption."""
    rng = make_rng(0, "benchmarks.recaption", index)
    if name == "toy":
        image = draw_picture(random_split_scene(rng, "heldout"), rng)
    else:
        height, width = rng.choice(SIDES, 2).tolist()
        coarse = rng.integers(0, 256, (8, 8, 3), "uint8")
        image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    seed = derive_seed(0, "caption", str(index), STYLE, 0)
    return CaptionRequest(key=str(index), image=image, template=TEMPLATES[STYLE], seed=seed)


def prepare(name: str, folder: Path, num_pictures: int) -> Bench:
    """Plan the batches once, and get the inputs of the bare loop ready."""
    captioner = load(name, folder)
    requests = [make_request(name, index) for index in range(num_pictures)]
    asked = captioner.ask(requests)
    costs = expect_costs(captioner.vlm, asked, captioner.image_options)
    batches = [[asked[i] for i in rows] for rows in plan_batches(costs, captioner.limits)]
    return Bench(
        captioner=captioner,
        requests=requests,
        batches=batches,
        ready=[captioner.encode(batch) for batch in batches],
    )


@torch.inference_mode()
def generate(bench: Bench) -> list[str]:
    """Generate from inputs that are ready; nothing is decoded."""
    limit = TEMPLATES[STYLE].max_new_tokens
    for inputs in bench.ready:
        bench.captioner.vlm.model.generate(**inputs, max_new_tokens=limit, do_sample=False)
    return []


@torch.inference_mode()
def script(bench: Bench) -> list[str]:
    """Caption as a plain script does."""
    vlm, limit = bench.captioner.vlm, TEMPLATES[STYLE].max_new_tokens
    texts: dict[str, str] = {}
    for batch in bench.batches:
        inputs = vlm.processor(
            images=[[one.request.image] for one in batch],
            text=[one.prompt for one in batch],
            return_tensors="pt",
            padding=True,
            padding_side="left",
            **bench.captioner.image_options,
        )
        tokens = vlm.model.generate(**inputs, max_new_tokens=limit, do_sample=False)
        answers = tokens[:, inputs["input_ids"].shape[1] :]
        decoded = vlm.processor.batch_decode(answers, skip_special_tokens=True)
        texts |= zip([one.request.key for one in batch], decoded, strict=True)
    return [texts[request.key] for request in bench.requests]


def ours(bench: Bench) -> list[str]:
    """Caption as the stage does."""
    return [a.text_raw for a in bench.captioner.caption(bench.requests, Sampling())]


LOOPS: Mapping[str, Callable[[Bench], list[str]]] = {
    "generate": generate,
    "script": script,
    "ours": ours,
}


def measure(bench: Bench, rounds: int) -> dict[str, object]:
    """Run all loops in turn; refuse to compare loops that write other captions."""
    if ours(bench) != script(bench):
        raise SystemExit("ours and the script wrote other captions")
    cpu: dict[str, list[float]] = {name: [] for name in LOOPS}
    wall: dict[str, list[float]] = {name: [] for name in LOOPS}
    for _ in range(rounds):
        for name, loop in LOOPS.items():
            clocks = time.process_time(), time.perf_counter()
            loop(bench)
            cpu[name].append(time.process_time() - clocks[0])
            wall[name].append(time.perf_counter() - clocks[1])
    count = len(bench.requests)
    return {
        "batches": len(bench.batches),
        "captions_per_cpu_s": {n: round(count / statistics.median(cpu[n]), 1) for n in LOOPS},
        "captions_per_s": {n: round(count / statistics.median(wall[n]), 1) for n in LOOPS},
        "ours_to_generate_cpu": compare(cpu["generate"], cpu["ours"]),
        "ours_to_generate": compare(wall["generate"], wall["ours"]),
        "ours_to_script_cpu": compare(cpu["script"], cpu["ours"]),
        "ours_to_script": compare(wall["script"], wall["ours"]),
    }


def compare(others: Sequence[float], own: Sequence[float]) -> float:
    """Give the median of the rounds' ratios of speeds; above 1, ours is faster."""
    return round(statistics.median(a / b for a, b in zip(others, own, strict=True)), 3)


def ask_peak(name: str, num_pictures: int) -> float:
    """Measure in a process of its own."""
    words = [sys.executable, "-m", "benchmarks.recaption", "--peak", name]
    done = subprocess.run(
        [*words, "--pictures", str(num_pictures)], check=True, capture_output=True, text=True
    )
    return float(done.stdout.split()[-1])


def measure_peak(captioner: VlmCaptioner, name: str, num_pictures: int) -> float:
    """Caption window by window, and give the peak of resident memory in MB."""
    requests = (make_request(name, index) for index in range(num_pictures))
    for window in batched(requests, WINDOW):
        captioner.caption(window, Sampling())
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000, 1)


if __name__ == "__main__":
    main()
