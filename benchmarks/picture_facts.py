"""Hash real pictures and their changed copies by imagededup and by ours, from equal pixels.

A file -> canonical picture, at most 640 px -> itself and eight changes -> hashes of both tools.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.picture_changes import CHANGES
from curate.annotators.hash_spec import hash_picture
from curate.annotators.pdq_hash import measure_spectrum, measure_turns, pack_hash
from curate.core.errors import SampleError
from curate.core.image import decode_image, shrink, to_array
from curate.core.seed import make_rng

ORIGINAL = "original"
SIDE_PX = 640
"""Longest side of the pictures; chosen by us: what web tables hold, and wallpapers of 5,120 px
would take most of the time."""
JUDGE_SIDE = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Hold the hashes of N pictures in one form.

    Args:
        peer: [N], uint64, imagededup's PHash.
        phash: [N], uint64, lm1.
        thumbnail: [N, 192], uint8, lm1.
        miniature: [N, 32, 32, 3], uint8, lm1.
        pdq: [N, 8, 4], uint64, the eight turned and flipped pictures, itself first.
        quality: [N], int64, PDQ's, 0..100.
    """

    peer: NDArray[np.uint64]
    phash: NDArray[np.uint64]
    thumbnail: NDArray[np.uint8]
    miniature: NDArray[np.uint8]
    pdq: NDArray[np.uint64]
    quality: NDArray[np.int64]

    def take(self, rows: NDArray[np.int64]) -> Facts:
        """Give the facts of some pictures, in the order of `rows`."""
        return Facts(**{part.name: getattr(self, part.name)[rows] for part in fields(self)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """Hold what was measured of N pictures.

    Args:
        names: [N] of files, sorted.
        small: [N, 32, 32, 3], uint8: a copy for a judge that is neither tool's hash.
        forms: `ORIGINAL` and every change -> hashes of all pictures in that form.
    """

    names: Sequence[str]
    small: NDArray[np.uint8]
    forms: Mapping[str, Facts]


def measure_folder(folder: Path, processes: int) -> Pictures:
    """Measure all pictures below a folder; files that do not decode are left out."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        found = [item for item in pool.map(_measure, paths, chunksize=16) if item is not None]
    if not found:
        raise ValueError(f"--pictures: must hold pictures, got none below {folder}; name another")
    return Pictures(
        names=[item["name"] for item in found],
        small=np.stack([item["small"] for item in found]),
        forms={form: _stack([item[form] for item in found]) for form in (ORIGINAL, *CHANGES)},
    )


def save_pictures(pictures: Pictures, path: Path) -> None:
    """Keep what was measured as .npz."""
    arrays: dict[str, Any] = {"names": np.array(pictures.names), "small": pictures.small}
    for form, facts in pictures.forms.items():
        arrays |= {f"{form}/{part.name}": getattr(facts, part.name) for part in fields(Facts)}
    np.savez(path, **arrays)


def load_pictures(path: Path) -> Pictures:
    """Read what `save_pictures` wrote."""
    with np.load(path) as arrays:
        return Pictures(
            names=[str(name) for name in arrays["names"]],
            small=arrays["small"],
            forms={
                form: Facts(**{part.name: arrays[f"{form}/{part.name}"] for part in fields(Facts)})
                for form in (ORIGINAL, *CHANGES)
            },
        )


def _measure(path: Path) -> dict[str, Any] | None:
    try:
        image = shrink(decode_image(path.read_bytes(), max_pixels=2**31), SIDE_PX)
    except SampleError:
        return None
    pixels = to_array(image)
    small = image.resize((JUDGE_SIDE, JUDGE_SIDE), Image.Resampling.BOX)
    found: dict[str, Any] = {"name": path.name, "small": np.asarray(small.convert("RGB"))}
    found[ORIGINAL] = _hash(pixels)
    for name, change in CHANGES.items():
        found[name] = _hash(change(pixels, make_rng(0, "picture changes", name, path.name)))
    return found


def _hash(pixels: NDArray[np.uint8]) -> dict[str, Any]:
    hashes = hash_picture(pixels)
    spectrum = measure_spectrum(pixels)
    turned = b"".join(pack_hash(form) for form in measure_turns(pixels))
    return {
        "peer": np.uint64(int(_peer().encode_image(image_array=pixels), 16)),
        "phash": np.uint64(hashes.phash),
        "thumbnail": hashes.thumbnail.ravel(),
        "miniature": hashes.miniature,
        "pdq": np.frombuffer(turned, np.uint64).reshape(8, 4),
        "quality": np.int64(spectrum.quality),
    }


@cache
def _peer() -> Any:
    from imagededup.methods import PHash

    return PHash(verbose=False)


def _stack(facts: Sequence[Mapping[str, Any]]) -> Facts:
    return Facts(
        **{part.name: np.stack([one[part.name] for one in facts]) for part in fields(Facts)}
    )
