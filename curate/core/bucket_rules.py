"""Say which training sizes there are: one function for each rule of the field.

A rule gets the resolution S, whose square is the area of its buckets, and answers with sizes in
pixels, sorted. All but the published table of SDXL are closed under transposition.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from curate.core.bucket import Bucket, parse_bucket

BucketRule = Literal["area", "sdxl", "sdxl_mirrored", "kohya", "sd3", "custom"]

SDXL_SIDE = 1024
SDXL_WIDTHS: Mapping[int, tuple[int, ...]] = {
    512: (2048, 1984, 1920, 1856),
    576: (1792, 1728, 1664),
    640: (1600, 1536),
    704: (1472, 1408, 1344),
    768: (1344, 1280),
    832: (1216, 1152),
    896: (1152, 1088),
    960: (1088, 1024),
    1024: (1024, 960),
    1088: (960, 896),
    1152: (896, 832),
    1216: (832,),
    1280: (768,),
    1344: (768,),
    1408: (704,),
    1472: (704,),
    1536: (640,),
    1600: (640,),
    1664: (576,),
    1728: (576,),
    1792: (576,),
    1856: (512,),
    1920: (512,),
    1984: (512,),
    2048: (512,),
}
"""Height -> widths of SDXL's 40 sizes. Source: Podell et al. 2023 (SDXL), appendix I. The table is
its own mirror image but for 704x1344, whose transpose is not in it."""


def area_buckets(side_px: int, step_px: int, max_aspect: float) -> list[Bucket]:
    """List for every short side the longest long side within the area.

    Args:
        side_px: S; height * width is at most its square.
        step_px: both sides are multiples of it, at most S.
        max_aspect: longest side over shortest side, at most.

    Source: the generator idea of SDXL's table (area bound, multiples of 64; reference curation.md
    section 3), made mirror-symmetric: every size has its transpose.
    """
    square = side_px // step_px * step_px
    sizes = {(square, square)}
    for short in range(step_px, square + 1, step_px):
        long = side_px**2 // short // step_px * step_px
        if long >= short and long / short <= max_aspect:
            sizes.add((short, long))
    return _with_mirrors(sizes)


def sdxl_buckets(side_px: int) -> list[Bucket]:
    """List SDXL's 40 sizes, scaled by S / 1024.

    Source: appendix I of the paper, for S = 1024; smaller S are ours, for a curriculum.
    """
    sizes = {(height, width) for height, widths in SDXL_WIDTHS.items() for width in widths}
    return _sorted((h * side_px // SDXL_SIDE, w * side_px // SDXL_SIDE) for h, w in sizes)


def sdxl_mirrored_buckets(side_px: int) -> list[Bucket]:
    """List SDXL's sizes and the one mirror image that its table lacks: 41."""
    return _with_mirrors((bucket.height, bucket.width) for bucket in sdxl_buckets(side_px))


def kohya_buckets(side_px: int, step_px: int, max_aspect: float) -> list[Bucket]:
    """List for every side between S/2 and 2S, short or long, the longest other side in the area.

    Source: kohya-ss/sd-scripts, `make_bucket_resolutions`; the bounds S/2 and 2S are its defaults
    256 and 1024 for S = 512, and what its guide advises for SDXL (512 and 2048). There each
    picture goes to the nearest |w/h|; here, as with every rule, to the nearest log ratio.
    """
    least, most = side_px // 2, 2 * side_px
    square = side_px // step_px * step_px
    sizes = {(square, square)}
    for one in range(-(-least // step_px) * step_px, most + 1, step_px):
        other = min(most, side_px**2 // one // step_px * step_px)
        if other >= least and max(one, other) <= max_aspect * min(one, other):
            sizes.add((one, other))
    return _with_mirrors(sizes)


def sd3_buckets(side_px: int, step_px: int, max_aspect: float) -> list[Bucket]:
    """List for every side the other side that brings the area nearest to S^2, above or below it.

    Source: Esser et al. 2024 (SD3), section 5.3.2: sizes H x W with H * W close to S^2. The paper
    gives no list; the nearest multiple, both ways round, is chosen by us.
    """
    sizes: set[tuple[int, int]] = set()
    for one in range(step_px, int(side_px * max_aspect) + 1, step_px):
        other = round(side_px**2 / one / step_px) * step_px
        if other and max(one, other) <= max_aspect * min(one, other):
            sizes.add((one, other))
    return _with_mirrors(sizes)


def custom_buckets(names: Sequence[str], resolutions: Sequence[int], side_px: int) -> list[Bucket]:
    """List those of the given sizes whose area is nearer to S^2 than to another resolution's.

    Args:
        names: "HEIGHTxWIDTH" each.
        resolutions: all S; with one, it has all sizes.
        side_px: the S that is asked for.
    """
    found = [parse_bucket(name) for name in names]
    return sorted({one for one in found if _nearest_side(one.area, resolutions) == side_px})


def _nearest_side(area: int, resolutions: Sequence[int]) -> int:
    """Choose the resolution whose square is nearest to an area by ratio; of two, the smaller."""
    return min(
        sorted(resolutions), key=lambda side: max(area, side * side) / min(area, side * side)
    )


def _with_mirrors(sizes: Iterable[tuple[int, int]]) -> list[Bucket]:
    found = set(sizes)
    return _sorted(found | {(width, height) for height, width in found})


def _sorted(sizes: Iterable[tuple[int, int]]) -> list[Bucket]:
    return [Bucket(height=height, width=width) for height, width in sorted(set(sizes))]
