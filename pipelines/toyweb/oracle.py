"""Read a picture of the toy web back into its scene, exactly, without any trained model.

1. The picture is resized so that a cell's shorter side is 24 px, whatever its size was.
2. The background is the palette colour that most pixels are near to; the rest is foreground.
3. Cells are visited from the fullest to the emptiest. The foreground of one cell gives a colour,
   the projection on the line from background to that colour gives a coverage map, and the map is
   compared with rasters of every shape and size, at several scales, shifts and blurs.
4. What a raster explains well is an object and is taken off; what none explains is clutter.

Precision counts as much as recall: noise, blobs and half-drawn scenes fit no raster, and such a
picture is called unreadable. Not for photographs and not for pictures with text or watermarks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from pipelines.toyweb.scene import (
    BACKGROUNDS,
    COLORS,
    PLACES,
    RADII,
    SHAPES,
    Scene,
    SceneObject,
    coverage,
)

FloatArray = NDArray[np.float32]

# RGB to luma (Rec. 601) and two colour differences, scaled so that shape is read from luma first:
# JPEG and WebP keep chroma at half the resolution. Chosen by us: luma counts 4 times as much.
_SHAPE_SPACE = np.array(
    [[0.598, 0.25, 0.175], [1.174, -0.25, 0.175], [0.228, 0.0, -0.35]], np.float32
)

# All chosen by us, by the measurements that tests/toyweb/test_oracle.py repeats in small.
UNIT_PX = 24  # shorter side of a cell after the resize
MAX_ASPECT = 6.0  # longer pictures are not scenes
NEAR_BACKGROUND = 60.0  # RGB distance; object colours start at 131, coverage of one half at 65
MIN_BACKGROUND_FRAC = 0.5  # four large squares leave 0.66
MAX_BACKGROUND_RMS = 16.0  # of 255 a channel; 26 dB of error spread evenly would be 12.8
MAX_COLOR_DISTANCE = 90.0  # from an object's colour to its name's; names are 154 apart or more
MIN_CELL_AREA = 0.05  # foreground of a cell in units squared; the smallest object has 0.168
MIN_OBJECT_FIT = 0.8
MAX_EDGE_RATIO = 3.2  # blur by 1.2 px at 64 px (29 dB) stays below 3.1, soft blobs are above 3
GAIN_RANGE = (0.8, 1.25)  # a blurred object's median colour lies off its true one
MAX_OFFSET = 0.3  # from the cell's centre, per axis, in cells; beyond it the place is in doubt
MIN_SCENE_FIT = 0.6
TEMPLATE_SCALES = (0.94, 1.0, 1.06)
TEMPLATE_SHIFTS_PX = (-1.2, -0.6, 0.0, 0.6, 1.2)
TEMPLATE_BLURS_PX = (0.7, 1.6)  # an edge after resizing; after JPEG or a small VAE

_HALF = 13  # half a template's side: 0.54 of a unit holds a large object and no neighbour


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Hold what the oracle saw.

    `fit` is the explained part of the foreground in [0, 1]; `clutter` counts the cells whose
    foreground fits no object, so that a score of precision can count them as false objects. `scene`
    is None unless `readable`.
    """

    readable: bool
    scene: Scene | None
    fit: float
    clutter: int


@dataclass(frozen=True, slots=True)
class _Templates:
    rasters: FloatArray  # [N, side * side]
    energy: FloatArray  # [N] summed squares
    edges: FloatArray  # [N] amount of edge of the sharpest raster of the same shape and place
    names: tuple[tuple[str, str], ...]  # (shape, size) of each


@dataclass(frozen=True, slots=True)
class _Found:
    item: SceneObject
    error: float  # summed squared difference from the raster, px
    energy: float  # summed squared raster, px


def read_scene(image: NDArray[np.uint8]) -> Reading:
    """Read a picture.

    Args:
        image: [H, W, 3], uint8, RGB, any size.

    Returns:
        The scene and how well it explains the picture, or an unreadable verdict.
    """
    pixels = _working_size(image)
    background = None if pixels is None else _find_background(pixels)
    if pixels is None or background is None:
        return Reading(readable=False, scene=None, fit=0.0, clutter=0)
    name, color = background
    distance = np.sqrt(np.square(pixels - color).sum(-1))  # [h, w]
    foreground = distance > NEAR_BACKGROUND
    found, clutter = _read_cells(pixels, color, foreground)
    leftover = float(foreground.sum())  # px that no object explains; _read_cells takes its own off
    energy = sum(item.energy for item in found) + leftover
    error = sum(item.error for item in found) + leftover
    fit = 1.0 - error / energy if energy > 0 else 1.0
    # A few stray pixels on an empty background are compression, not foreground.
    if not found and leftover < MIN_CELL_AREA * UNIT_PX**2:
        fit = 1.0
    if fit < MIN_SCENE_FIT:
        return Reading(readable=False, scene=None, fit=max(fit, 0.0), clutter=clutter)
    objects = sorted((entry.item for entry in found), key=lambda item: PLACES.index(item.place))
    scene = Scene(objects=tuple(objects), background=name)
    return Reading(readable=True, scene=scene, fit=fit, clutter=clutter)


def _working_size(image: NDArray[np.uint8]) -> FloatArray | None:
    height, width, _ = image.shape
    short = min(height, width)
    if short < 3 or max(height, width) > MAX_ASPECT * short:
        return None
    scale = 3 * UNIT_PX / short
    size = (round(width * scale), round(height * scale))  # PIL's order
    picture = Image.fromarray(image)
    if picture.size != size:
        picture = picture.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    return np.asarray(picture, np.float32)


def _find_background(pixels: FloatArray) -> tuple[str, FloatArray] | None:
    flat = pixels.reshape(-1, 3)
    best: tuple[int, str, FloatArray] | None = None
    for name, rgb in BACKGROUNDS.items():
        near = flat[np.square(flat - np.asarray(rgb, np.float32)).sum(-1) < NEAR_BACKGROUND**2]
        if best is None or len(near) > best[0]:
            best = (len(near), name, near)
    if best is None or best[0] < MIN_BACKGROUND_FRAC * len(flat):
        return None
    color = np.median(best[2], axis=0).astype(np.float32)
    if float(np.square(best[2] - color).mean()) > MAX_BACKGROUND_RMS**2:
        return None
    return best[1], color


def _read_cells(
    pixels: FloatArray, background: FloatArray, foreground: NDArray[np.bool_]
) -> tuple[list[_Found], int]:
    """Find the objects and clear their pixels from `foreground`; count the cells of clutter."""
    found: list[_Found] = []
    cells = list(range(len(PLACES)))
    clutter = 0
    claimed = np.zeros_like(foreground)
    while cells:
        areas = {cell: int(foreground[_cell_box(cell, foreground.shape)].sum()) for cell in cells}
        cell = max(areas, key=lambda index: areas[index])
        cells.remove(cell)
        if areas[cell] < MIN_CELL_AREA * UNIT_PX**2:
            break
        entry = _read_object(pixels, background, foreground, claimed, cell)
        if entry is None:
            clutter += 1
        else:
            found.append(entry)
    return found, clutter


def _cell_box(cell: int, shape: tuple[int, ...]) -> tuple[slice, slice]:
    row, column = divmod(cell, 3)
    rows = slice(round(row * shape[0] / 3), round((row + 1) * shape[0] / 3))
    columns = slice(round(column * shape[1] / 3), round((column + 1) * shape[1] / 3))
    return rows, columns


def _read_object(
    pixels: FloatArray,
    background: FloatArray,
    foreground: NDArray[np.bool_],
    claimed: NDArray[np.bool_],
    cell: int,
) -> _Found | None:
    rows, columns = _cell_box(cell, foreground.shape)
    inside = foreground[rows, columns]
    named = _name_color(pixels[rows, columns][inside], background)
    if named is None:
        return None
    color_name, color = named
    middle = _box_center(inside)
    if any(
        abs(at / length - 0.5) > MAX_OFFSET for at, length in zip(middle, inside.shape, strict=True)
    ):
        return None
    top = rows.start + middle[0] - _HALF
    left = columns.start + middle[1] - _HALF
    alpha = _alpha_window(pixels, background, color, claimed, (top, left))
    templates = _templates()
    flat = alpha.ravel()
    match = templates.rasters @ flat
    gain = np.clip(match / templates.energy, *GAIN_RANGE)
    energy_of = np.square(gain) * templates.energy
    errors = float(flat @ flat) - 2 * gain * match + energy_of
    best = int(np.argmin(errors / energy_of))
    error, energy = float(errors[best]), float(energy_of[best])
    edge = _edge(flat / gain[best]) / templates.edges[best]
    if 1 - error / energy < MIN_OBJECT_FIT or edge > MAX_EDGE_RATIO:
        return None
    _clear(foreground, claimed, templates.rasters[best].reshape(alpha.shape), (top, left))
    shape, size = templates.names[best]
    item = SceneObject(shape=shape, color=color_name, size=size, place=PLACES[cell])
    return _Found(item, error, energy)


def _name_color(colors: FloatArray, background: FloatArray) -> tuple[str, FloatArray] | None:
    """Find the palette colour of most pixels and their median; edges blend into others, so vote."""
    palette = np.asarray(list(COLORS.values()), np.float32)
    distances = np.square(colors[:, None] - palette).sum(-1)  # [n, 6]
    nearest = distances.argmin(-1)
    # Blends with the background vote little: they lie nearer to it than the pure colour does.
    weight = np.square(colors - background).sum(-1)
    votes = np.bincount(nearest, weights=weight, minlength=len(palette))
    winner = int(votes.argmax())
    core = colors[nearest == winner]
    strength = weight[nearest == winner]
    color = np.median(core[strength >= np.median(strength)], axis=0).astype(np.float32)
    if float(np.square(color - palette[winner]).sum()) > MAX_COLOR_DISTANCE**2:
        return None
    return tuple(COLORS)[winner], color


def _box_center(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """Find the centre of the mask's box, ignoring lines with a single stray pixel."""
    center: list[int] = []
    for axis in (1, 0):
        lines = np.flatnonzero(mask.sum(axis) > 1)
        center.append(0 if not len(lines) else round((lines[0] + lines[-1] + 1) / 2))
    return center[0], center[1]


def _alpha_window(
    pixels: FloatArray,
    background: FloatArray,
    color: FloatArray,
    claimed: NDArray[np.bool_],
    corner: tuple[int, int],
) -> FloatArray:
    """Measure how much of `color` each pixel of the window holds; others' pixels count as none."""
    side = 2 * _HALF
    window = np.zeros((side, side), np.float32)
    height, width = claimed.shape
    top, left = max(corner[0], 0), max(corner[1], 0)
    bottom, right = min(corner[0] + side, height), min(corner[1] + side, width)
    offset = pixels[top:bottom, left:right] - background
    line = color - background
    along = offset @ line / float(line @ line)
    across = np.sqrt(np.square(offset - along[..., None] * line).sum(-1))
    # A pixel far off the line, or claimed before, belongs to another object or to clutter.
    others = (across > NEAR_BACKGROUND) | claimed[top:bottom, left:right]
    line = line @ _SHAPE_SPACE
    along = offset @ _SHAPE_SPACE @ line / float(line @ line)
    along = np.where(others, 0, np.clip(along, 0, 1.25))
    window[top - corner[0] : bottom - corner[0], left - corner[1] : right - corner[1]] = along
    return window


def _clear(
    foreground: NDArray[np.bool_],
    claimed: NDArray[np.bool_],
    raster: FloatArray,
    corner: tuple[int, int],
) -> None:
    """Take an object and the rim around it off the foreground."""
    covered = np.asarray(ndimage.binary_dilation(raster > 0.1, iterations=1), np.bool_)
    height, width = foreground.shape
    top, left = max(corner[0], 0), max(corner[1], 0)
    bottom = min(corner[0] + raster.shape[0], height)
    right = min(corner[1] + raster.shape[1], width)
    part = covered[top - corner[0] : bottom - corner[0], left - corner[1] : right - corner[1]]
    foreground[top:bottom, left:right] &= ~part
    claimed[top:bottom, left:right] |= part


@cache
def _templates() -> _Templates:
    rasters: list[FloatArray] = []
    names: list[tuple[str, str]] = []
    edges: list[float] = []
    side = 2 * _HALF
    shifts = tuple(product(TEMPLATE_SHIFTS_PX, TEMPLATE_SHIFTS_PX))
    for shape, size, scale, (y, x) in product(SHAPES, RADII, TEMPLATE_SCALES, shifts):
        radius = RADII[size] * UNIT_PX * scale
        sharp = coverage(shape, radius, side, side, (_HALF + y, _HALF + x))
        for blur in TEMPLATE_BLURS_PX:
            rasters.append(_blur(sharp, blur).ravel())
            names.append((shape, size))
            edges.append(_edge(_blur(sharp, min(TEMPLATE_BLURS_PX))))
    stack = np.stack(rasters).astype(np.float32)
    return _Templates(stack, np.square(stack).sum(-1), np.asarray(edges, np.float32), tuple(names))


def _blur(raster: FloatArray, sigma_px: float) -> FloatArray:
    return np.asarray(ndimage.gaussian_filter(raster, sigma_px), np.float32)


def _edge(alpha: FloatArray) -> float:
    """Measure the area of half-covered pixels: the length of the edge times its width."""
    alpha = np.clip(alpha, 0, 1)
    return float((alpha * (1 - alpha))[(alpha > 0.2) & (alpha < 0.8)].sum())
