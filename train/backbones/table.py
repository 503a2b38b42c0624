"""Name the backbones: thin adapters over model classes, with one signature for all.

    BACKBONES[name].build(config, shape, seed)  ->  Backbone with fresh weights, from the seed
    BACKBONES[name].load(folder)                ->  Backbone that `save` wrote

The table imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from train.backbones.backbone import Backbone, BackboneConfig, BackboneShape


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneKind:
    """Pair the two ways to a backbone."""

    build: Callable[[BackboneConfig, BackboneShape, int], Backbone]
    load: Callable[[Path], Backbone]


def _build_sd3(config: BackboneConfig, shape: BackboneShape, seed: int) -> Backbone:
    from train.backbones.sd3 import Sd3Backbone

    return Sd3Backbone.build(config, shape, seed)


def _load_sd3(folder: Path) -> Backbone:
    from train.backbones.sd3 import Sd3Backbone

    return Sd3Backbone.load(folder)


BACKBONES: Mapping[str, BackboneKind] = {
    "sd3": BackboneKind(build=_build_sd3, load=_load_sd3),
}
