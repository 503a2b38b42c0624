"""Compare how well imagededup's PHash and ours find changed copies of real pictures, and how fast.

    python -m benchmarks.duplicates_quality --pictures FOLDER [--cache FILE.npz] [--rows 20000]

    pictures of FOLDER -> hashes of both tools, of each and of eight changes (`picture_facts.py`)
      -> repeats within FOLDER dropped -> every pair (picture, changed picture) judged by every way
      -> recall per change, precision per change and per kind of picture, time of both joins

FOLDER holds pictures of any kind, sub-folders too; a file's kind is its name up to the first "_"
("photo_0001.jpg", "clip_0002.png"). The published figures are of 1,536 pictures: the samples of
scikit-image (`skimage/data`) and scikit-learn (`sklearn/datasets/images`), and of Debian's packages
openclipart-png, mate-backgrounds and plasma-workspace-wallpapers. Needs `pip install imagededup`.

A pair is right when both show one picture of FOLDER. Thresholds were chosen on one half of the
pictures, by a hash of their names; the other half is judged apart.
"""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.picture_changes import CHANGES
from benchmarks.picture_facts import (
    ORIGINAL,
    Facts,
    Pictures,
    load_pictures,
    measure_folder,
    save_pictures,
)
from curate.core.seed import make_rng
from curate.stages.duplicates.cropped import measure_crop
from curate.stages.duplicates.dedup_config import DedupConfig
from curate.stages.duplicates.hamming import join
from curate.stages.duplicates.thumbnails import measure_change
from curate.stages.duplicates.turned import measure_turned
from curate.stages.duplicates.windows import hash_windows

Match = NDArray[np.bool_]
Way = Callable[[Facts, Facts], Match]

PEER_RADIUS = 10  # imagededup's default
WIDE_RADIUS, WIDE_CHANGE = 8, 0.25  # chosen on one half of the pictures
CROP_RADIUS, TURNED_CHANGE = 8, 0.3  # of dedup.crop_radius, dedup.pdq_change
PDQ_RADIUS, PDQ_QUALITY = 31, 50  # Source: ThreatExchange, pdq/README.md, "Matching"
SAME_CORRELATION, SAME_LEVELS = 0.98, 1.0
"""Pictures of FOLDER are one when their 32 x 32 copies correlate by more or differ by less (root
mean square); chosen by us, after looking at 64 pairs: above .98 are one picture in other sizes,
below flags with another emblem. A judge that is neither tool's hash."""


def main() -> None:
    """Hash, judge, print."""
    parser = argparse.ArgumentParser(description="Compare duplicates found with imagededup's.")
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--cache", type=Path, help="file .npz that keeps the hashes between runs")
    parser.add_argument("--rows", type=int, default=20_000, help="hashes of the timing")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    if options.cache and options.cache.exists():
        measured = load_pictures(options.cache)
    else:
        measured = measure_folder(options.pictures, options.processes)
        if options.cache:
            save_pictures(measured, options.cache)
    pictures = drop_repeats(measured)
    print(f"{len(measured.names)} pictures, {len(pictures.names)} without repeats, "
          f"{len(pictures.names) * len(CHANGES)} changed copies")  # fmt: skip
    print_quality("all", pictures)
    is_chosen = np.array([make_rng(0, "half", name).random() < 0.5 for name in pictures.names])
    print_quality("half that chose", take(pictures, np.flatnonzero(is_chosen)))
    print_quality("half that did not", take(pictures, np.flatnonzero(~is_chosen)))
    compare_times(options.rows)


def drop_repeats(pictures: Pictures) -> Pictures:
    """Leave one of the pictures that are equal or nearly so, the first."""
    levels = pictures.small.reshape(len(pictures.names), -1).astype(np.float64)
    lengths = np.square(levels).sum(axis=1)
    apart = lengths[:, None] + lengths - 2 * levels @ levels.T  # squared distances
    centred = levels - levels.mean(axis=1, keepdims=True)
    centred /= np.maximum(np.sqrt(np.square(centred).sum(axis=1, keepdims=True)), 1e-6)
    is_same = apart < SAME_LEVELS**2 * levels.shape[1]
    is_same |= centred @ centred.T > SAME_CORRELATION
    kept: list[int] = []
    for row, same in enumerate(is_same):
        if not same[kept].any():
            kept.append(row)
    return take(pictures, np.array(kept))


def take(pictures: Pictures, rows: NDArray[np.int64]) -> Pictures:
    """Give some of the pictures."""
    names = list(pictures.names)
    return Pictures(
        names=[names[row] for row in rows.tolist()],
        small=pictures.small[rows],
        forms={form: facts.take(rows) for form, facts in pictures.forms.items()},
    )


def by_peer(one: Facts, other: Facts) -> Match:
    """Match as imagededup does."""
    return _bits(one.peer, other.peer) <= PEER_RADIUS


def by_phash(one: Facts, other: Facts, *, radius: int, change: float) -> Match:
    """Match near pHashes whose thumbnails changed little."""
    match = _bits(one.phash, other.phash) <= radius
    rows, columns = np.nonzero(match)
    match[rows, columns] = measure_change(one.thumbnail[rows], other.thumbnail[columns]) <= change
    return match


def by_pdq(one: Facts, other: Facts, *, forms: int = 1) -> Match:
    """Match near PDQ hashes of good quality, of the first `forms` forms."""
    match = np.zeros((len(one.quality), len(other.quality)), np.bool_)
    for form in range(forms):
        match |= _bits(one.pdq[:, form], other.pdq[:, 0]) <= PDQ_RADIUS
    return match & (one.quality >= PDQ_QUALITY)[:, None] & (other.quality >= PDQ_QUALITY)


def by_turned(one: Facts, other: Facts, *, change: float) -> Match:
    """Match near PDQ hashes of all eight forms whose miniatures, turned alike, changed little."""
    is_good = (one.quality >= PDQ_QUALITY)[:, None] & (other.quality >= PDQ_QUALITY)
    match = np.zeros(is_good.shape, np.bool_)
    for form in range(8):
        near = is_good & (_bits(one.pdq[:, form], other.pdq[:, 0]) <= PDQ_RADIUS)
        rows, columns = np.nonzero(near)
        found = measure_turned(other.miniature[columns], one.miniature[rows], form)
        match[rows, columns] |= found <= change
    return match


def by_windows(one: Facts, other: Facts, *, radius: int, change: float) -> Match:
    """Match pictures whose pHash is near to that of a window of the other, by their miniatures."""
    match = _by_windows_of(one, other, radius, change)
    return match | _by_windows_of(other, one, radius, change).T


def _by_windows_of(one: Facts, other: Facts, radius: int, change: float) -> Match:
    plain, windows = hash_windows(one.miniature)[:, 0], hash_windows(other.miniature)
    match = np.zeros((len(plain), len(windows)), np.bool_)
    for form in range(windows.shape[1]):
        rows, columns = np.nonzero(_bits(plain, windows[:, form]) <= radius)
        found = measure_crop(one.miniature[rows], other.miniature[columns], form)
        match[rows, columns] |= found <= change
    return match


def _bits(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Count differing bits of every pair: [N] or [N, W] -> [N, N]."""
    a, b = one.reshape(len(one), -1), other.reshape(len(other), -1)
    pairs = zip(a.T, b.T, strict=True)
    return sum(
        (np.bitwise_count(x[:, None] ^ y).astype(np.int64) for x, y in pairs),
        start=np.zeros((len(a), len(b)), np.int64),
    )


DEFAULT = DedupConfig()
by_default = partial(by_phash, radius=DEFAULT.phash_radius, change=DEFAULT.thumbnail_change)
by_wide = partial(by_phash, radius=WIDE_RADIUS, change=WIDE_CHANGE)
by_default_windows = partial(by_windows, radius=CROP_RADIUS, change=DEFAULT.crop_change)
by_verified_pdq = partial(by_turned, change=TURNED_CHANGE)
WAYS: Mapping[str, Way] = {
    f"imagededup PHash <= {PEER_RADIUS}": by_peer,
    f"dedup's default: pHash <= {DEFAULT.phash_radius}, change <= {DEFAULT.thumbnail_change}": (
        by_default
    ),
    f"pHash <= {WIDE_RADIUS}, change <= {WIDE_CHANGE}": by_wide,
    f"PDQ <= {PDQ_RADIUS}": by_pdq,
    f"PDQ <= {PDQ_RADIUS}, dihedral": partial(by_pdq, forms=8),
    f"PDQ <= {PDQ_RADIUS}, dihedral, change <= {TURNED_CHANGE}": by_verified_pdq,
    f"windows <= {CROP_RADIUS}, change <= {DEFAULT.crop_change}": by_default_windows,
    "default, windows and verified PDQ": lambda one, other: (
        by_default(one, other) | by_default_windows(one, other) | by_verified_pdq(one, other)
    ),
}
"""Ways to find copies, by the name that tables print."""


def print_quality(title: str, pictures: Pictures) -> None:
    """Print recall per change and precision per change and kind, a line for each way."""
    kinds = np.array([name.split("_")[0] for name in pictures.names])
    names = sorted(set(kinds.tolist()))
    print(f"\n{title}: {len(pictures.names)} pictures; recall / precision")
    print("| way | " + " | ".join([*CHANGES, "all", *names]) + " |")
    print("| --- " * (len(CHANGES) + len(names) + 2) + "|")
    for way, match in WAYS.items():
        # [changes, N]: was the copy of a picture found, how many strangers' copies
        counts = [_count(match(pictures.forms[ORIGINAL], pictures.forms[c])) for c in CHANGES]
        right = np.stack([found for found, _ in counts])
        wrong = np.stack([strangers for _, strangers in counts])
        cells = [_rates(right[row], wrong[row]) for row in range(len(CHANGES))]
        cells += [_rates(right, wrong)]
        cells += [_rates(right[:, kinds == kind], wrong[:, kinds == kind]) for kind in names]
        print(f"| {way} | " + " | ".join(cells) + " |", flush=True)


def _count(match: Match) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    right = np.diagonal(match)
    return right, match.sum(axis=1) - right


def _rates(right: NDArray[np.bool_], wrong: NDArray[np.int64]) -> str:
    found = right.sum() + wrong.sum()
    precision = f"{right.sum() / found:.3f}" if found else "-"
    return f"{right.mean():.3f} / {precision}"


def compare_times(num_rows: int) -> None:
    """Time both joins over random hashes with 1 % planted copies, CPU seconds."""
    rng = make_rng(0, "duplicates quality times")
    hashes = rng.integers(0, 2**64, num_rows, np.uint64)
    planted = rng.choice(num_rows, num_rows // 50, replace=False).reshape(2, -1)
    flips = np.uint64(1) << rng.integers(0, 64, (4, planted.shape[1])).astype(np.uint64)
    hashes[planted[1]] = hashes[planted[0]] ^ np.bitwise_xor.reduce(flips, axis=0)
    encodings = {f"{row:06d}": f"{value:016x}" for row, value in enumerate(hashes.tolist())}
    print(f"\n{num_rows} hashes, CPU seconds")
    seconds, found = _time(partial(_find_by_peer, encodings, PEER_RADIUS))
    num_found = sum(len(others) for others in found.values()) // 2
    print(f"imagededup, radius {PEER_RADIUS}: {seconds:.2f} s, {num_found} pairs", flush=True)
    for radius in (DEFAULT.phash_radius, WIDE_RADIUS, PEER_RADIUS):
        ours, joined = _time(partial(join, hashes, radius))
        print(f"ours, radius {radius}: {ours:.3f} s, {len(joined.pairs)} pairs: "
              f"{seconds / ours:.0f} times as fast", flush=True)  # fmt: skip


def _find_by_peer(encodings: Mapping[str, str], radius: int) -> dict[str, list[str]]:
    from imagededup.methods import PHash

    return PHash(verbose=False).find_duplicates(
        encoding_map=dict(encodings), max_distance_threshold=radius, num_dist_workers=0
    )


def _time(call: Callable[[], Any]) -> tuple[float, Any]:
    # imagededup searches in a worker, whose time counts once it has ended.
    started = sum(os.times()[:4])
    found = call()
    return sum(os.times()[:4]) - started, found


if __name__ == "__main__":
    logging.disable(logging.INFO)  # imagededup reports its progress
    main()
