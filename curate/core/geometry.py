"""Set the sizes that pictures are brought to, and check that they make sense together."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Literal, get_args

from curate.core.bucket import Bucket
from curate.core.bucket_rules import (
    BucketRule,
    area_buckets,
    custom_buckets,
    kohya_buckets,
    sd3_buckets,
    sdxl_buckets,
    sdxl_mirrored_buckets,
)
from curate.core.errors import ConfigError

CropMode = Literal["centre", "random", "smart"]

_SDXL_STEPS = 16  # SDXL's sides are multiples of S / 16: 64 for S = 1024
_STEP_PX = 8  # what every autoencoder in use shrinks by, at least
_SIZE = re.compile(r"[1-9][0-9]{0,4}x[1-9][0-9]{0,4}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """Set the sizes pictures are brought to, and what may be lost on the way.

    Args:
        rule: which sizes there are (`core/bucket_rules.py`).
        resolutions: sides S, ascending; the buckets of S have areas near S^2. A sample is placed
            once for each.
        step_px: every side is a multiple of it; a multiple of 8.
        max_aspect: longest over shortest side of a bucket; SDXL's tables and custom sizes have
            their own.
        crop: where the window lies on the axis that is longer than its bucket.
        max_crop_frac: share of a picture's area that may be cut off, in [0, 1).
        max_upscale: how much a picture may be enlarged, >= 1; 1 is not at all.
        custom: "HEIGHTxWIDTH" sizes of the rule `custom`.

    Raises:
        ConfigError: a field breaks its rule; named as the section `bucket` has it.
    """

    rule: BucketRule = "area"
    resolutions: tuple[int, ...] = (64,)
    step_px: int = 8
    max_aspect: float = 2.0
    crop: CropMode = "centre"
    max_crop_frac: float = 0.35
    max_upscale: float = 1.0
    custom: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_choices(self)
        _check_limits(self)
        _check_resolutions(self)
        _check_custom(self)


@functools.cache
def list_buckets(geometry: Geometry, resolution: int) -> tuple[Bucket, ...]:
    """List the buckets of one resolution, sorted."""
    step, aspect = geometry.step_px, geometry.max_aspect
    match geometry.rule:
        case "area":
            found = area_buckets(resolution, step, aspect)
        case "sdxl":
            found = sdxl_buckets(resolution)
        case "sdxl_mirrored":
            found = sdxl_mirrored_buckets(resolution)
        case "kohya":
            found = kohya_buckets(resolution, step, aspect)
        case "sd3":
            found = sd3_buckets(resolution, step, aspect)
        case "custom":
            found = custom_buckets(geometry.custom, geometry.resolutions, resolution)
    return tuple(found)


def _check_choices(geometry: Geometry) -> None:
    for name, value, known in (
        ("rule", geometry.rule, get_args(BucketRule)),
        ("crop", geometry.crop, get_args(CropMode)),
    ):
        if value not in known:
            raise ConfigError(
                f"bucket.{name}: must be of {', '.join(known)}, got {value}; fix the name"
            )


def _check_limits(geometry: Geometry) -> None:
    if geometry.step_px < _STEP_PX or geometry.step_px % _STEP_PX:
        raise ConfigError(
            f"bucket.step_px: must be a multiple of {_STEP_PX}, got {geometry.step_px}; change it"
        )
    for name, value, rule, fits in (
        ("max_aspect", geometry.max_aspect, ">= 1", geometry.max_aspect >= 1),
        ("max_crop_frac", geometry.max_crop_frac, "in [0, 1)", 0 <= geometry.max_crop_frac < 1),
        ("max_upscale", geometry.max_upscale, ">= 1", geometry.max_upscale >= 1),
    ):
        if not fits:
            raise ConfigError(f"bucket.{name}: must be {rule}, got {value}; change it")


def _check_resolutions(geometry: Geometry) -> None:
    sides = geometry.resolutions
    if not sides or list(sides) != sorted(set(sides)):
        raise ConfigError(
            "bucket.resolutions: must be one or more different sides, ascending, got "
            f"{list(sides)}; sort them and name each once"
        )
    if sides[0] < geometry.step_px:
        raise ConfigError(
            f"bucket.resolutions: must be at least step_px {geometry.step_px}, got {sides[0]}; "
            "change one"
        )
    if geometry.rule.startswith("sdxl"):
        for side in sides:
            if side % (_SDXL_STEPS * geometry.step_px):
                raise ConfigError(
                    f"bucket.resolutions: rule {geometry.rule} needs multiples of {_SDXL_STEPS} "
                    f"times step_px {geometry.step_px}, got {side}; change one"
                )


def _check_custom(geometry: Geometry) -> None:
    if (geometry.rule == "custom") != bool(geometry.custom):
        raise ConfigError(
            f"bucket.custom: belongs to rule custom, which needs it, got {list(geometry.custom)} "
            f"with rule {geometry.rule}; set both or none"
        )
    for name in geometry.custom:
        sides = [int(side) for side in name.split("x")] if _SIZE.fullmatch(name) else []
        if not sides or any(side % geometry.step_px for side in sides):
            raise ConfigError(
                "bucket.custom: sizes are HEIGHTxWIDTH in multiples of step_px "
                f"{geometry.step_px}, got {name}; change it or step_px"
            )
    for side in geometry.resolutions if geometry.custom else ():
        if not list_buckets(geometry, side):
            raise ConfigError(
                f"bucket.resolutions: each needs a custom size of about its area, got none for "
                f"{side}; add one to bucket.custom or leave {side} out"
            )
