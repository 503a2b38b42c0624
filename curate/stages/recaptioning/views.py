"""Show a captioner what is trained on: the box that bucket will cut out, or the whole picture."""

from __future__ import annotations

import math
from dataclasses import dataclass

from PIL import Image

from curate.core.geometry import Geometry
from curate.core.placement import Placement, place
from curate.core.schema import OK
from curate.core.smart_crop import place_picture
from curate.stages.recaptioning.wanted import Box, Sample, View


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """Hold a picture as the captioner is given it."""

    sample: Sample
    view: View
    image: Image.Image


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewer:
    """Choose what of each picture is shown.

    Args:
        geometry: of bucket; None shows whole pictures.
        max_pixels: area shown, at most.
        seed: of the run; decides random crops.
    """

    geometry: Geometry | None
    max_pixels: int
    seed: int

    @property
    def needs_pixels(self) -> bool:
        """Tell whether the view hangs on what the picture shows: a smart crop."""
        return self.geometry is not None and self.geometry.crop == "smart"

    def view(self, sample: Sample, image: Image.Image | None = None) -> View | None:
        """Choose the view of a sample; None where bucket will leave its picture out.

        Of several resolutions the largest that takes the picture decides: the one that training
        ends with, and that shows most.

        Args:
            sample: whose picture it is.
            image: the picture, where `needs_pixels`.
        """
        if self.geometry is None:
            whole = Box(top=0.0, left=0.0, height=sample.height, width=sample.width)
            return _sized(whole, self.max_pixels)
        for resolution in reversed(self.geometry.resolutions):
            placement = self._place(sample, image, self.geometry, resolution)
            if placement.status == OK:
                return _sized(_box(placement), self.max_pixels)
        return None

    def show(self, sample: Sample, image: Image.Image) -> Shown | None:
        """Cut a picture to its view; None where bucket will leave it out."""
        view = self.view(sample, image)
        return view and Shown(sample=sample, view=view, image=cut(image, view))

    def _place(
        self, sample: Sample, image: Image.Image | None, geometry: Geometry, resolution: int
    ) -> Placement:
        if image is not None and self.needs_pixels:
            return place_picture(sample.key, image, geometry, resolution, self.seed)
        return place(sample.key, sample.height, sample.width, geometry, resolution, self.seed)


def cut(image: Image.Image, view: View) -> Image.Image:
    """Cut a view out of a picture and bring it to its size.

    Source of the reducing gap: PIL's documentation of Image.resize, 3.0 is "almost
    indistinguishable" from a full resize, and several times faster on large pictures.
    """
    box = view.box
    corners = (box.left, box.top, box.left + box.width, box.top + box.height)
    size = (view.width, view.height)
    if corners == (0.0, 0.0, image.width, image.height) and size == image.size:
        return image
    # Rounding may push the box a hair over the edge, which PIL refuses.
    inside = (corners[0], corners[1], min(corners[2], image.width), min(corners[3], image.height))
    return image.resize(size, Image.Resampling.LANCZOS, box=inside, reducing_gap=3.0)


def _box(placement: Placement) -> Box:
    return Box(
        top=placement.box_top,
        left=placement.box_left,
        height=placement.box_height,
        width=placement.box_width,
    )


def _sized(box: Box, max_px: int) -> View:
    """Show a box at its own size, or smaller where that is too much."""
    scale = min(1.0, math.sqrt(max_px / (box.height * box.width)))
    height, width = (max(1, round(side * scale)) for side in (box.height, box.width))
    return View(box=box, height=height, width=width)
