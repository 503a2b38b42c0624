"""Hold what is asked of the stage bucket: which sizes, what may be lost, how pictures are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from curate.core.bucket_rules import BucketRule
from curate.core.errors import ConfigError
from curate.core.geometry import CropMode, Geometry
from curate.core.image import FILTERS, ImageFormat

FORMATS: Mapping[str, ImageFormat] = {"png": "png", "webp": "webp", "jpg": "jpeg"}
"""Member extension -> name of the encoding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketConfig:
    """Set the training sizes and the picture format.

    Args:
        rule: area, sdxl, sdxl_mirrored, kohya, sd3 or custom; see docs/bucket.md.
        resolutions: sides S, ascending; buckets have areas near S^2. With several, a sample is
            written once for each that it qualifies for (a curriculum).
        step_px: sides are multiples of it; the VAE's factor times the backbone's patch size.
        max_aspect: longest over shortest side of a bucket; the tables of SDXL have their own.
        custom: sizes of the rule custom, e.g. [512x768, 768x512]; height first.
        crop: centre, random (by key) or smart (where the detail is).
        max_crop_frac: pictures that would lose more of their area are dropped as "crop_loss".
        max_upscale: pictures that would have to be enlarged more are dropped as "upscale"; 1 is
            not at all.
        filter: of the one resize: lanczos, bicubic, area, hamming or bilinear.
        shard_size: samples per output shard.
        image_format: png (lossless), webp (lossless at quality 100) or jpg.
        quality: of webp and jpg, 1..100.
        txt: source of the caption that is also written as `KEY.txt` (alt where a sample lacks it);
            "" writes none.
    """

    rule: str = "area"
    resolutions: list[int] = field(default_factory=lambda: [64])
    step_px: int = 8
    max_aspect: float = 2.0
    custom: list[str] = field(default_factory=list[str])
    crop: str = "centre"
    max_crop_frac: float = 0.35
    max_upscale: float = 1.0
    filter: str = "lanczos"
    shard_size: int = 512
    image_format: str = "webp"
    quality: int = 95
    txt: str = ""

    def __post_init__(self) -> None:
        _ = self.geometry  # refuses sizes that make no sense
        if self.filter not in FILTERS:
            raise ConfigError(
                f"bucket.filter: must be of {', '.join(FILTERS)}, got {self.filter}; fix the name"
            )
        if self.image_format not in FORMATS or not 1 <= self.quality <= 100:
            raise ConfigError(
                f"bucket.image_format: must be of {', '.join(FORMATS)} with quality 1..100, "
                f"got {self.image_format} and {self.quality}; change them"
            )
        if self.shard_size < 1:
            raise ConfigError(f"bucket.shard_size: must be >= 1, got {self.shard_size}; raise it")

    @property
    def geometry(self) -> Geometry:
        """Give what decides where a picture is placed.

        Raises:
            ConfigError: the sizes break a rule.
        """
        return Geometry(
            rule=cast(BucketRule, self.rule),
            resolutions=tuple(self.resolutions),
            step_px=self.step_px,
            max_aspect=self.max_aspect,
            crop=cast(CropMode, self.crop),
            max_crop_frac=self.max_crop_frac,
            max_upscale=self.max_upscale,
            custom=tuple(self.custom),
        )
