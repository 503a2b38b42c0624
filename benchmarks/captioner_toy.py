"""Measure the toy captioner on held-out pictures, and what `curate fit-captioner` makes of it.

`python -m benchmarks.captioner_toy shipped [--count 1000]`
    detailed captions that state the whole scene, on clean pictures as sites serve them: whole, cut
    as the demo's bucket cuts them, and by its crops with max_crop_frac at its default
`python -m benchmarks.captioner_toy shards OUT [--count 6000]`
    WebDataset tars of pictures with captions of a style that the shipped captioner does not know
`python -m benchmarks.captioner_toy fitted FOLDER [--count 1000] [--template tags]`
    captions of that style that are right word by word, on pictures of held-out scenes
"""

from __future__ import annotations

import argparse
import io
import json
import tarfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from curate.captioners.captioner import CaptionRequest, Sampling
from curate.captioners.instructions import TEMPLATES
from curate.captioners.table import load_captioner
from curate.core.geometry import Geometry
from curate.core.model_ref import ModelRef
from curate.core.placement import place
from curate.core.schema import OK, make_key
from curate.core.seed import make_rng
from curate.models.packs import load_pack
from eval.intervals import wilson_interval
from pipelines.toyweb.fit_data import web_picture
from pipelines.toyweb.scene import Scene, describe, parse_description

# As pipelines/presets/demo.yaml sets bucket, and with its limit loosened to bucket's default.
GEOMETRIES = {
    "as the demo's bucket cuts": Geometry(max_aspect=1.5, max_crop_frac=0.2),
    "with max_crop_frac 0.35": Geometry(max_aspect=1.5),
}
SHARD_SIZE = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Hold a picture and the scene that it shows."""

    scene: Scene
    image: Image.Image


def draw_cases(count: int, split: str, purpose: str) -> Iterator[Case]:
    """Draw clean pictures of any size and aspect, as sites serve them."""
    for index in range(count):
        rng = make_rng(0, "captioner benchmark", purpose, index)
        picture = web_picture(rng, "heldout" if split == "heldout" else "fit", mark_frac=0.0)
        yield Case(scene=picture.scene, image=Image.fromarray(picture.pixels))


def cut(case: Case, geometry: Geometry) -> Case | None:
    """Cut a picture as recaption shows it; None where bucket drops it, or cuts nothing off."""
    image = case.image
    found = place("", image.height, image.width, geometry, 64, 0)
    if found.status != OK or (found.scaled_height, found.scaled_width) == (
        found.bucket.height,
        found.bucket.width,
    ):
        return None
    corners = (
        found.box_left,
        found.box_top,
        found.box_left + found.box_width,
        found.box_top + found.box_height,
    )
    size = (round(found.box_width), round(found.box_height))
    return Case(scene=case.scene, image=image.resize(size, Image.Resampling.LANCZOS, box=corners))


def write_captions(folder: Path, cases: Sequence[Case], style: str) -> list[str]:
    """Caption pictures greedily."""
    captioner = load_captioner(ModelRef(kind="vlm", paths=(folder,)))
    requests = [
        CaptionRequest(key=str(index), image=case.image, template=TEMPLATES[style])
        for index, case in enumerate(cases)
    ]
    return [attempt.text_raw for attempt in captioner.caption(requests, Sampling())]


def measure_shipped(count: int) -> None:
    """Print the share of exact detailed captions, whole and cut."""
    folder = load_pack("toy")["captioner"].paths[0]
    whole = list(draw_cases(count, "heldout", "shipped"))
    views = {"whole": whole}
    for name, geometry in GEOMETRIES.items():
        views[name] = [found for case in whole if (found := cut(case, geometry))]
    for name, cases in views.items():
        texts = write_captions(folder, cases, "detailed")
        right = [parse_description(t) == c.scene for t, c in zip(texts, cases, strict=True)]
        print_rate(f"{name}, detailed caption states the scene", sum(right), len(right))


def describe_tersely(scene: Scene) -> str:
    """Write tags in words that the shipped tokenizer knows: it has no comma, and no new word.

    >>> describe_tersely(scene)
    'top left large red circle and center small blue cross on white'
    """
    parts = [f"{item.place} {item.size} {item.color} {item.shape}" for item in scene.objects]
    return f"{' and '.join(parts)} on {scene.background}"


def write_shards(out: Path, count: int) -> None:
    """Write `KEY.png` and `KEY.json` as bucket lists captions: sources alt and tags."""
    out.mkdir(parents=True, exist_ok=True)
    cases = draw_cases(count, "fit", "shards")
    for number, start in enumerate(range(0, count, SHARD_SIZE)):
        with tarfile.open(out / f"{number:05d}.tar", "w") as tar:
            for index in range(start, min(count, start + SHARD_SIZE)):
                _add(tar, make_key("captioner_toy", str(index)), next(cases))
    print(f"{count:,} samples in {out}")


def _add(tar: tarfile.TarFile, key: str, case: Case) -> None:
    stream = io.BytesIO()
    case.image.save(stream, "PNG")
    texts = {"alt": describe(case.scene), "tags": describe_tersely(case.scene)}
    captions = [{"source": name, "text": text, "attempt": ""} for name, text in texts.items()]
    members = {"png": stream.getvalue(), "json": json.dumps({"captions": captions}).encode()}
    for ext, data in members.items():
        info = tarfile.TarInfo(f"{key}.{ext}")
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))


def measure_fitted(folder: Path, count: int, style: str) -> None:
    """Print the share of captions of the new style that are right word by word."""
    cases = list(draw_cases(count, "heldout", "fitted"))
    texts = write_captions(folder, cases, style)
    right = [t == describe_tersely(c.scene) for t, c in zip(texts, cases, strict=True)]
    print_rate("held-out scenes, caption of the new style", sum(right), count)


def print_rate(what: str, right: int, count: int) -> None:
    """Print a share with its 95 % interval."""
    interval = wilson_interval(right / count, count)
    print(
        f"{what}: {right} of {count} = {right / count:.3f}, {interval.low:.3f}..{interval.high:.3f}"
    )


def main() -> None:
    """Run one of the three commands."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["shipped", "shards", "fitted"])
    parser.add_argument("folder", nargs="?", type=Path, default=Path("out/captioner_toy"))
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--template", default="tags")
    options = parser.parse_args()
    torch.set_num_threads(1)
    started = time.process_time()
    if options.what == "shipped":
        measure_shipped(options.count or 1000)
    elif options.what == "shards":
        write_shards(options.folder, options.count or 6000)
    else:
        measure_fitted(options.folder, options.count or 1000, options.template)
    print(f"{time.process_time() - started:.0f} s of one core")


if __name__ == "__main__":
    main()
