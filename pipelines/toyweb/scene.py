"""Draw scenes of coloured shapes on a 3x3 grid and say in words exactly what they show.

A scene is 1 to 4 objects (4 shapes x 6 colours x 2 sizes x 9 places) on one of 3 backgrounds.
`describe` and `parse_description` are inverses, so a caption can be marked right or wrong;
`oracle.py` reads a picture back into its scene. Not for sites, faults or alt text: see `site.py`
and `alt_text.py`.

Shapes are drawn by their signed distance, coverage = clip(0.5 - distance, 0, 1): antialiased at any
size and cheap, since only the object's own box is touched.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Rgb = tuple[int, int, int]
Split = Literal["train", "fit", "heldout"]

SHAPES = ("circle", "square", "triangle", "cross")
# Chosen by us: near the six saturated corners of the RGB cube, at least 130 of 441 apart from each
# other and from the backgrounds, and at least 36 in luma from gray, so that neither chroma
# subsampling nor a small VAE can swap or smear them.
COLORS: Mapping[str, Rgb] = MappingProxyType(
    {
        "red": (222, 32, 36),
        "green": (12, 142, 44),
        "blue": (32, 64, 224),
        "yellow": (250, 212, 20),
        "purple": (182, 26, 192),
        "cyan": (50, 216, 240),
    }
)
SIZES = ("small", "large")
PLACES = (
    "top left",
    "top",
    "top right",
    "left",
    "center",
    "right",
    "bottom left",
    "bottom",
    "bottom right",
)
_MIRRORED: Mapping[str, str] = MappingProxyType(
    {place: PLACES[3 * (index // 3) + 2 - index % 3] for index, place in enumerate(PLACES)}
)
BACKGROUNDS: Mapping[str, Rgb] = MappingProxyType(
    {"white": (248, 248, 248), "gray": (128, 128, 128), "black": (14, 14, 14)}
)
# Radius as a fraction of the shorter side of a cell. Chosen by us: 0.44 leaves room for the jitter
# below inside the cell; 0.29 is 12 px across in a 64 px picture, which an 8x VAE still keeps apart.
RADII: Mapping[str, float] = MappingProxyType({"small": 0.29, "large": 0.44})

# The nuisances of `render(..., jitter=rng)`. Chosen by us: visible, yet inside the oracle's reach.
POSITION_JITTER_FRAC = 0.03  # of the shorter side of a cell, per axis
SIZE_JITTER_FRAC = 0.04
COLOR_JITTER = 12  # of 255, per channel
MAX_NOISE = 5  # of 255, amplitude of uniform noise, equal in the three channels

# Every scene belongs to exactly one split by the hash of its description. Chosen by us: a tenth is
# plenty for evaluation, the rest is shared evenly between the demo and the model pack.
_SPLIT_BOUNDS: tuple[tuple[Split, int], ...] = (("heldout", 10), ("fit", 55), ("train", 100))


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneObject:
    """Name one object by its four attributes."""

    shape: str
    color: str
    size: str
    place: str

    def __post_init__(self) -> None:
        """Refuse words outside the vocabulary."""
        for field, value, allowed in (
            ("shape", self.shape, SHAPES),
            ("color", self.color, tuple(COLORS)),
            ("size", self.size, SIZES),
            ("place", self.place, PLACES),
        ):
            if value not in allowed:
                raise ValueError(f"object.{field} must be one of {allowed}, got {value!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Hold objects in the order of `PLACES`, at most one a place, and the background's name."""

    objects: tuple[SceneObject, ...]
    background: str

    def __post_init__(self) -> None:
        """Refuse an unknown background, a place used twice and unsorted objects."""
        if self.background not in BACKGROUNDS:
            raise ValueError(
                f"scene.background must be one of {tuple(BACKGROUNDS)}, got {self.background!r}"
            )
        order = [PLACES.index(item.place) for item in self.objects]
        if order != sorted(set(order)):
            places = [item.place for item in self.objects]
            raise ValueError(f"scene.objects must be sorted with distinct places, got {places}")


def random_scene(rng: np.random.Generator, max_objects: int = 4) -> Scene:
    """Draw a scene: the count of objects uniform in 1..max_objects, all attributes uniform."""
    count = int(rng.integers(1, max_objects + 1))
    places = sorted(rng.choice(len(PLACES), size=count, replace=False).tolist())
    objects = tuple(
        SceneObject(
            shape=SHAPES[rng.integers(len(SHAPES))],
            color=tuple(COLORS)[rng.integers(len(COLORS))],
            size=SIZES[rng.integers(len(SIZES))],
            place=PLACES[place],
        )
        for place in places
    )
    return Scene(objects=objects, background=tuple(BACKGROUNDS)[rng.integers(len(BACKGROUNDS))])


def split_of(scene: Scene) -> Split:
    """Say which split a scene belongs to; a function of the scene alone, so splits never meet."""
    digest = hashlib.blake2b(describe(scene).encode(), digest_size=8).digest()
    bucket = int.from_bytes(digest, "little") % 100
    return next(split for split, bound in _SPLIT_BOUNDS if bucket < bound)


def random_split_scene(rng: np.random.Generator, split: Split, max_objects: int = 4) -> Scene:
    """Draw a scene of one split, by rejection."""
    while True:
        scene = random_scene(rng, max_objects)
        if split_of(scene) == split:
            return scene


def mirror_scene(scene: Scene) -> Scene:
    """Name what the picture shows after left and right are swapped; every shape is symmetric."""
    objects = [replace(item, place=_MIRRORED[item.place]) for item in scene.objects]
    objects.sort(key=lambda item: PLACES.index(item.place))
    return replace(scene, objects=tuple(objects))


def render(
    scene: Scene, height: int, width: int, *, jitter: np.random.Generator | None = None
) -> NDArray[np.uint8]:
    """Draw a scene, antialiased; objects keep their aspect in any picture.

    Args:
        scene: what to draw.
        height: pixels, at least 3.
        width: pixels, at least 3.
        jitter: when given, shifts places, sizes and colours a little and adds light noise.

    Returns:
        [height, width, 3], uint8, RGB.
    """
    fill = np.asarray(BACKGROUNDS[scene.background], np.float32)
    picture = np.empty((height, width, 3), np.float32)
    picture[:] = fill if jitter is None else _jitter_color(fill, jitter)
    for item in scene.objects:
        _draw(picture, item, jitter)
    if jitter is not None:
        amplitude = int(jitter.integers(0, MAX_NOISE + 1))
        noise = jitter.integers(-amplitude, amplitude + 1, (height, width, 1), dtype=np.int8)
        picture += noise
        np.clip(picture, 0, 255, out=picture)
    return (picture + 0.5).astype(np.uint8)


def coverage(
    shape: str, radius: float, height: int, width: int, center: tuple[float, float]
) -> NDArray[np.float32]:
    """Rasterise one shape.

    Args:
        shape: one of `SHAPES`.
        radius: half of the shape's box, pixels.
        height: of the raster, pixels.
        width: of the raster, pixels.
        center: (y, x) of the box's centre, pixels from the raster's top left corner.

    Returns:
        [height, width], float32 in [0, 1], the covered part of each pixel.
    """
    y = np.arange(height, dtype=np.float32)[:, None] + np.float32(0.5 - center[0])
    x = np.arange(width, dtype=np.float32)[None, :] + np.float32(0.5 - center[1])
    if shape == "circle":
        # Chosen by us: a little less than the box, which sets it further apart from the square.
        distance = np.sqrt(y * y + x * x) - np.float32(0.95 * radius)
    elif shape == "square":
        distance = np.maximum(np.abs(y), np.abs(x)) - np.float32(radius)
    elif shape == "cross":
        arm = np.float32(radius / 3)
        far, near = np.float32(radius), arm
        upright = np.maximum(np.abs(y) - far, np.abs(x) - near)
        flat = np.maximum(np.abs(y) - near, np.abs(x) - far)
        distance = np.minimum(upright, flat)
    else:
        # Apex at the top of the box, base below; a side has the unit normal (-1, 2)/5**.5
        side = (2 * np.abs(x) - (y + np.float32(radius))) / np.float32(5**0.5)
        distance = np.maximum(side, y - np.float32(radius))
    return np.clip(np.float32(0.5) - distance, 0, 1).astype(np.float32, copy=False)


def describe(scene: Scene) -> str:
    """State every object and the background; `parse_description` is the inverse."""
    if not scene.objects:
        return f"an empty {scene.background} background"
    parts = [
        f"a {item.size} {item.color} {item.shape} {place_phrase(item.place)}"
        for item in scene.objects
    ]
    return f"{' and '.join(parts)} on a {scene.background} background"


def describe_short(scene: Scene) -> str:
    """Name colours and shapes only."""
    if not scene.objects:
        return "an empty background"
    return " and ".join(f"a {item.color} {item.shape}" for item in scene.objects)


def place_phrase(place: str) -> str:
    """Put the preposition before a place: "at the top left", "in the center"."""
    return f"in the {place}" if place == "center" else f"at the {place}"


def parse_description(text: str) -> Scene | None:
    """Read a detailed caption back; objects may come in any order.

    Args:
        text: words as `describe` writes them; case and spare spaces do not matter.

    Returns:
        The scene, or None where the text breaks the grammar or uses a place twice.
    """
    words = " ".join(text.lower().strip().rstrip(".").split())
    body, found, tail = words.rpartition(" on a ")
    if not found:
        background = words.removeprefix("an empty ").removesuffix(" background")
        if words != f"an empty {background} background" or background not in BACKGROUNDS:
            return None
        return Scene(objects=(), background=background)
    background = tail.removesuffix(" background")
    if tail != f"{background} background" or background not in BACKGROUNDS:
        return None
    objects = [_PHRASES.get(part) for part in body.split(" and ")]
    known = [item for item in objects if item is not None]
    if len(known) < len(objects) or len({item.place for item in known}) < len(known):
        return None
    known.sort(key=lambda item: PLACES.index(item.place))
    return Scene(objects=tuple(known), background=background)


def scene_to_json(scene: Scene) -> str:
    """Write a scene as one line of JSON for a table."""
    return json.dumps(asdict(scene), sort_keys=True)


def scene_from_json(text: str) -> Scene:
    """Read what `scene_to_json` wrote."""
    raw = json.loads(text)
    objects = tuple(SceneObject(**item) for item in raw["objects"])
    return Scene(objects=objects, background=raw["background"])


def _jitter_color(color: NDArray[np.float32], jitter: np.random.Generator) -> NDArray[np.float32]:
    shift = jitter.integers(-COLOR_JITTER, COLOR_JITTER + 1, 3)
    return np.clip(color + shift, 0, 255).astype(np.float32)


def _draw(
    picture: NDArray[np.float32], item: SceneObject, jitter: np.random.Generator | None
) -> None:
    height, width, _ = picture.shape
    unit = min(height, width) / 3
    row, column = divmod(PLACES.index(item.place), 3)
    center_y, center_x = (row + 0.5) * height / 3, (column + 0.5) * width / 3
    radius = RADII[item.size] * unit
    color = np.asarray(COLORS[item.color], np.float32)
    if jitter is not None:
        center_y += float(jitter.uniform(-POSITION_JITTER_FRAC, POSITION_JITTER_FRAC)) * unit
        center_x += float(jitter.uniform(-POSITION_JITTER_FRAC, POSITION_JITTER_FRAC)) * unit
        radius *= 1 + float(jitter.uniform(-SIZE_JITTER_FRAC, SIZE_JITTER_FRAC))
        color = _jitter_color(color, jitter)
    top, left = max(int(center_y - radius) - 1, 0), max(int(center_x - radius) - 1, 0)
    bottom = min(int(center_y + radius) + 2, height)
    right = min(int(center_x + radius) + 2, width)
    alpha = coverage(
        item.shape, radius, bottom - top, right - left, (center_y - top, center_x - left)
    )[..., None]
    patch = picture[top:bottom, left:right]
    patch += alpha * (color - patch)


# Every phrase of the grammar: 4 x 6 x 2 x 9 = 432 of them.
_PHRASES: Mapping[str, SceneObject] = MappingProxyType(
    {
        f"a {size} {color} {shape} {place_phrase(place)}": SceneObject(
            shape=shape, color=color, size=size, place=place
        )
        for size in SIZES
        for color in COLORS
        for shape in SHAPES
        for place in PLACES
    }
)
