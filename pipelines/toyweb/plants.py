"""Decide what every row of a toy site is: its scene, its alt text and the fault planted in it.

`plan_rows` makes plain rows; `site.py` turns a row into bytes when its URL is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from types import MappingProxyType

import numpy as np

from curate.core.seed import make_rng
from pipelines.toyweb.alt_text import AltClass, draw_alt_class, write_alt
from pipelines.toyweb.faults import ODD_MODES
from pipelines.toyweb.heldout import NUM_BENCHMARK, NUM_PROMPTS, benchmark_prompt
from pipelines.toyweb.scene import (
    Scene,
    Split,
    describe,
    mirror_scene,
    random_split_scene,
    split_of,
)

HOSTS = tuple(
    f"{name}.toyweb.test"
    for name in (
        "photos", "img", "cdn", "static", "blog", "shop", "gallery", "media", "news", "wiki",
        "forum", "archive",
    )
)  # fmt: skip
CLOSED_FOLDER = "private"  # what every host's robots.txt disallows
LICENSES = ("", "CC-BY-4.0", "CC0-1.0", "CC-BY-SA-4.0", "proprietary")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plant:
    """Describe one kind of row.

    `share` is of all rows, at most `most` of them; `status` is what a careful ingest must find, and
    `rule` the rule of filter that its picture must fail; `fine` says that curation should keep the
    picture, whatever its alt text.
    """

    share: float
    status: str = "ok"
    rule: str = ""
    fine: bool = False
    most: int = 1_000_000_000


# Shares are chosen by us: rates of faults that large crawls report, rare ones raised to be seen.
# Together 32 %; 4 % only test that a row survives, the others spoil the picture, its download or
# its worth. The order deals the rows: a new kind goes to the end and takes clean rows alone.
PLANTS: Mapping[str, Plant] = MappingProxyType(
    {
        "exact_duplicate": Plant(share=0.03),
        "near_duplicate": Plant(share=0.03),
        "cropped_duplicate": Plant(share=0.015),
        "repeated_row": Plant(share=0.005),
        "benchmark_copy": Plant(share=0.005),
        "watermark": Plant(share=0.05, rule="watermark"),
        "text_overlay": Plant(share=0.02, rule="text_overlay"),
        "tiny": Plant(share=0.015, rule="min_side"),
        "extreme_aspect": Plant(share=0.01, rule="aspect"),
        "low_contrast": Plant(share=0.01, rule="contrast"),
        "placeholder": Plant(share=0.015, rule="placeholder"),
        "not_found": Plant(share=0.02, status="http_404"),
        "server_error": Plant(share=0.005, status="http_500"),
        "redirect_loop": Plant(share=0.002, status="redirect_loop"),
        "redirect_private": Plant(share=0.003, status="private_address"),
        "short_body": Plant(share=0.003, status="short_body"),
        "truncated": Plant(share=0.006, status="truncated"),
        "html_as_jpeg": Plant(share=0.005, status="not_image"),
        "bomb": Plant(share=0.001, status="too_large", most=3),
        "robots": Plant(share=0.004, status="robots"),
        "opt_out": Plant(share=0.01, status="opted_out"),
        "redirect": Plant(share=0.01, fine=True),
        "slow_drip": Plant(share=0.001, fine=True, most=5),
        "png_as_jpeg": Plant(share=0.005, fine=True),
        "exif_rotated": Plant(share=0.01, fine=True),
        "odd_mode": Plant(share=0.015, fine=True),
        "flipped_duplicate": Plant(share=0.01),
        "leaked_prompt": Plant(share=0.005, most=NUM_PROMPTS - NUM_BENCHMARK),
    }
)
CLEAN = Plant(share=1.0, fine=True)
DUPLICATES = (
    "exact_duplicate", "near_duplicate", "cropped_duplicate", "repeated_row", "flipped_duplicate",
)  # fmt: skip
ALL_PLANTS_FROM = 200  # rows; a site of this size has at least one row of every plant


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Hold all that determines one row's bytes, beside the site's seed.

    `original` is the row whose picture this one repeats, its own number for all others. `hops` is
    the length of a redirect, `benchmark` the number of the benchmark's prompt whose scene a row
    shows, -1 for all others. Sizes are in pixels, before a fault changes them.
    """

    row: int
    url: str
    caption: str
    license: str
    plant: str
    alt_class: AltClass
    scene: Scene
    original: int
    height: int
    width: int
    format: str
    quality: int
    odd_mode: str = ""
    hops: int = 0
    benchmark: int = -1


def plant_of(row: Row) -> Plant:
    """Look up a row's kind; rows without a fault are `CLEAN`."""
    return PLANTS.get(row.plant, CLEAN)


def plan_rows(seed: int, num_images: int, split: Split) -> tuple[Row, ...]:
    """Plan a site.

    Args:
        seed: of the site; equal arguments give equal rows.
        num_images: rows of the URL table, repeated rows included.
        split: where the scenes come from.

    Returns:
        One `Row` each; rows with a picture of their own have scenes that differ from each other.
    """
    if num_images < 1:
        raise ValueError(f"num_images must be >= 1, got {num_images}")
    plants = _deal_plants(seed, num_images)
    benchmark = _deal_benchmark(plants)
    seen: set[str] = set()
    # Two pictures of one scene would be near duplicates that the truth table does not know.
    rows = [
        _plan_row(seed, index, plant, split, seen if plant not in DUPLICATES else None, number)
        for index, (plant, number) in enumerate(zip(plants, benchmark, strict=True))
    ]
    clean = [row.row for row in rows if row.plant == "clean"]
    for index, row in enumerate(rows):
        if row.plant in DUPLICATES:
            rng = make_rng(seed, "original", index)
            chosen = rows[clean[rng.integers(len(clean))]]
            while row.plant == "flipped_duplicate" and not _may_flip(chosen, split, seen):
                chosen = rows[clean[rng.integers(len(clean))]]
            rows[index] = _copy_of(chosen, row, seed, split)
    for index in _huge_rows(seed, clean):
        text = write_alt("huge", rows[index].scene, split, make_rng(seed, "huge", index))
        rows[index] = replace(rows[index], alt_class="huge", caption=text)
    # A repeated row repeats the text too, so it copies its original last.
    return tuple(
        replace(row, caption=rows[row.original].caption, alt_class=rows[row.original].alt_class)
        if row.plant == "repeated_row"
        else row
        for row in rows
    )


def _deal_plants(seed: int, num_images: int) -> list[str]:
    least = 1 if num_images >= ALL_PLANTS_FROM else 0
    plants: list[str] = []
    for name, plant in PLANTS.items():
        plants += [name] * min(max(least, round(plant.share * num_images)), plant.most)
    plants += ["clean"] * (num_images - len(plants))
    order = make_rng(seed, "deal").permutation(num_images)
    return [plants[index] for index in order]


def _deal_benchmark(plants: Sequence[str]) -> list[int]:
    """Number the benchmark's prompts that rows leak: pictures repeat, a leaked prompt comes once.

    Prompts that leak have no picture in the benchmark, so a row is one kind of leak or the other.
    """
    leaks = count(NUM_BENCHMARK)
    return [
        row % NUM_BENCHMARK if plant == "benchmark_copy"
        else next(leaks) if plant == "leaked_prompt"
        else -1
        for row, plant in enumerate(plants)
    ]  # fmt: skip


def _huge_rows(seed: int, clean: list[int]) -> list[int]:
    size = 0 if len(clean) < ALL_PLANTS_FROM // 2 else 1 if len(clean) < 1000 else 2
    return make_rng(seed, "huge rows").choice(clean, size=size, replace=False).tolist()


def _plan_row(
    seed: int, index: int, plant: str, split: Split, seen: set[str] | None, benchmark: int
) -> Row:
    rng = make_rng(seed, "row", split, index)
    odd_mode = ODD_MODES[rng.integers(len(ODD_MODES))] if plant == "odd_mode" else ""
    if benchmark >= 0:
        scene = benchmark_prompt(seed, benchmark).scene
    else:
        scene = _new_scene(rng, split, seen, background="white" if odd_mode == "alpha" else None)
    height, width = _draw_size(rng, plant)
    image_format = ("jpeg", "png", "webp")[rng.choice(3, p=(0.65, 0.2, 0.15))]
    if plant in ("png_as_jpeg", "html_as_jpeg", "exif_rotated", "truncated", "short_body"):
        image_format = "jpeg"
    if plant == "bomb" or odd_mode:
        image_format = "jpeg" if odd_mode == "cmyk" else "png"
    alt_class = "good" if plant == "leaked_prompt" else draw_alt_class(rng)
    folder = CLOSED_FOLDER if plant == "robots" else "p"
    ending = "jpg" if image_format == "jpeg" else image_format
    url = f"http://{HOSTS[rng.integers(len(HOSTS))]}/{folder}/{index:06d}.{ending}"
    is_leak = plant == "leaked_prompt"
    return Row(
        row=index,
        url=url,
        caption=_leak(scene, rng) if is_leak else write_alt(alt_class, scene, split, rng),
        license=LICENSES[rng.integers(len(LICENSES))],
        plant=plant,
        alt_class=alt_class,
        scene=scene,
        original=index,
        height=height,
        width=width,
        format=image_format,
        quality=int(rng.integers(60, 96)),
        odd_mode=odd_mode,
        hops=int(rng.integers(1, 4)) if plant == "redirect" else 0,
        benchmark=benchmark,
    )


def _new_scene(
    rng: np.random.Generator, split: Split, seen: set[str] | None, background: str | None
) -> Scene:
    while True:
        scene = random_split_scene(rng, split)
        name = describe(scene)
        if background not in (None, scene.background) or (seen is not None and name in seen):
            continue
        if seen is not None:
            seen.add(name)
        return scene


def _leak(scene: Scene, rng: np.random.Generator) -> str:
    """Write a benchmark's prompt as pages quote it: as it is, as a sentence, or in capitals."""
    prompt = describe(scene)
    return (prompt, f"{prompt.capitalize()}.", prompt.upper())[rng.integers(3)]


def _may_flip(original: Row, split: Split, seen: set[str]) -> bool:
    """Tell whether the mirrored scene is of the split, and a new one: its name is then taken.

    A symmetric scene would be a near duplicate, one of another split would leak into training.
    """
    mirrored = mirror_scene(original.scene)
    name = describe(mirrored)
    if name in seen or split_of(mirrored) != split:
        return False
    seen.add(name)
    return True


def _draw_size(rng: np.random.Generator, plant: str) -> tuple[int, int]:
    """Draw (height, width): shorter side 96 to 224 px, aspects that cameras and screens have."""
    if plant == "tiny":
        side = int(rng.integers(16, 36))
        return side, int(side * rng.uniform(1.0, 1.1))
    ratio = float((1, 4 / 3, 3 / 2, 16 / 9, 2)[rng.choice(5, p=(0.4, 0.3, 0.2, 0.05, 0.05))])
    short = float(np.exp(rng.uniform(np.log(96), np.log(224))))
    if plant == "extreme_aspect":
        ratio, short = float(rng.uniform(4.3, 6.5)), float(rng.uniform(48, 64))
    long = min(short * ratio * float(rng.uniform(0.98, 1.02)), 400)
    sides = (round(short), round(max(long, short)))
    return sides if rng.random() < 0.5 else (sides[1], sides[0])


def _copy_of(original: Row, row: Row, seed: int, split: Split) -> Row:
    """Turn a row into a copy of another one's picture, with a text of its own."""
    is_flipped = row.plant == "flipped_duplicate"
    scene = mirror_scene(original.scene) if is_flipped else original.scene
    caption = write_alt(row.alt_class, scene, split, make_rng(seed, "copy", split, row.row))
    copy = replace(
        original,
        row=row.row,
        plant=row.plant,
        original=original.row,
        license=row.license,
        scene=scene,
    )
    if row.plant == "repeated_row":
        return copy
    # Only an exact copy keeps the format; its URL must have the same ending.
    if row.plant == "exact_duplicate":
        url = row.url.rpartition(".")[0] + "." + original.url.rpartition(".")[2]
        return replace(copy, url=url, caption=caption, alt_class=row.alt_class)
    return replace(
        copy,
        url=row.url,
        caption=caption,
        alt_class=row.alt_class,
        format=row.format,
        quality=row.quality,
    )
