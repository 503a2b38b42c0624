"""Draw many small pictures on one sheet, with a few words under each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

# Chosen by us: a row fits a screen of 1280 px, a line of 12 px letters holds 24 of them.
COLUMNS, SIDE_PX, MARGIN_PX, TEXT_PX = 6, 192, 12, 12
_LINE_PX = TEXT_PX + 4
_PAPER, _FRAME, _INK = "white", "#cccccc", "#222222"


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetCell:
    """Hold one place of a sheet.

    Args:
        image: drawn with its longer side at SIDE_PX at most; None draws an empty frame.
        lines: words below it; what is too long is cut.
        absence: what an empty frame says.
    """

    image: Image.Image | None
    lines: Sequence[str]
    absence: str = "no picture"


def draw_sheet(cells: Sequence[SheetCell]) -> Image.Image:
    """Draw cells row by row: RGB, as wide as COLUMNS cells or all of fewer."""
    columns = max(1, min(COLUMNS, len(cells)))
    num_lines = max((len(cell.lines) for cell in cells), default=0)
    width = SIDE_PX + MARGIN_PX
    height = SIDE_PX + MARGIN_PX + num_lines * _LINE_PX
    rows = -(-len(cells) // columns)
    size = (columns * width + MARGIN_PX, rows * height + MARGIN_PX)
    sheet = Image.new("RGB", size, _PAPER)
    for place, cell in enumerate(cells):
        row, column = divmod(place, columns)
        _draw_cell(sheet, cell, MARGIN_PX + column * width, MARGIN_PX + row * height)
    return sheet


def _draw_cell(sheet: Image.Image, cell: SheetCell, left: int, top: int) -> None:
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(TEXT_PX)
    if cell.image is None:
        frame = (left, top, left + SIDE_PX - 1, top + SIDE_PX - 1)
        draw.rectangle(frame, outline=_FRAME)
        centre = (left + SIDE_PX // 2, top + SIDE_PX // 2)
        draw.text(centre, cell.absence, fill=_INK, font=font, anchor="mm")
    else:
        small = cell.image.copy()
        small.thumbnail((SIDE_PX, SIDE_PX))
        offset = ((SIDE_PX - small.width) // 2, (SIDE_PX - small.height) // 2)
        sheet.paste(small, (left + offset[0], top + offset[1]))
    for nth, line in enumerate(cell.lines):
        text = _cut(line, draw, font)
        draw.text((left, top + SIDE_PX + 2 + nth * _LINE_PX), text, fill=_INK, font=font)


def _cut(
    text: str, draw: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> str:
    """Cut a text to the width of a cell."""
    while text and draw.textlength(text, font) > SIDE_PX:
        text = text[:-1]
    return text
