"""Offer the readers of pictures that `evaluate.reader` can name; eval knows only their protocol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.compositional import Reading
from eval.evidence import SceneReader
from pipelines.toyweb.oracle import read_scene
from pipelines.toyweb.scene import Scene, parse_description


def read_toy_scene(image: NDArray[np.uint8]) -> Reading:
    """Read a picture of the toy web with its exact oracle: uint8 [H, W, 3]."""
    seen = read_scene(image)
    if seen.scene is None:
        return Reading(readable=False, objects=(), background=None, clutter=seen.clutter)
    facts = _facts(seen.scene)
    return Reading(
        readable=seen.readable,
        objects=facts["objects"],
        background=facts["background"],
        clutter=seen.clutter,
    )


def parse_toy_prompt(prompt: str) -> Mapping[str, Any] | None:
    """Read the scene that a detailed prompt asks for; None when it is no description."""
    scene = parse_description(prompt)
    return None if scene is None else _facts(scene)


def _facts(scene: Scene) -> dict[str, Any]:
    return {"objects": [asdict(item) for item in scene.objects], "background": scene.background}


READERS: Mapping[str, SceneReader] = {
    "toyweb": SceneReader(read=read_toy_scene, parse=parse_toy_prompt),
}
