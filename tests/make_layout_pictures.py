"""Makes the pictures of docs/layout.md from tests/photos/: `python -m tests.make_layout_pictures`.

The embedded model, default options. Dashed lines: red is the margin, blue the padding.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mattehorn import cut_out
from mattehorn.options import parse_options
from mattehorn.scenes import SCENES

ROOT = Path(__file__).parent.parent
PHOTOS, TARGET = ROOT / "tests/photos", ROOT / "docs/images/layout"
CELL, GAP, CAPTION = 232, 12, 40  # px
RED, BLUE, WHITE, BLACK = (205, 30, 30), (30, 80, 205), (255, 255, 255), (0, 0, 0)
SQUARE = {"output_size": "600x600"}


@dataclass(frozen=True)
class Cell:
    """One picture of a sheet: the photo's bytes, what is asked for, and what is written below."""

    photo: bytes
    options: Mapping[str, Any]
    caption: str
    guides: bool = False
    background: bytes | None = None
    plain: bool = False  # the photo itself


def photo(name: str) -> bytes:
    return (PHOTOS / f"{name}.jpg").read_bytes()


def part(name: str, box: tuple[int, int, int, int]) -> bytes:
    """A piece of a photo, as if its photographer had stood closer."""
    target = io.BytesIO()
    with Image.open(PHOTOS / f"{name}.jpg") as image:
        image.crop(box).save(target, "PNG")
    return target.getvalue()


def sheets() -> dict[str, list[Cell]]:
    """Every sheet by name, left to right."""
    cup, cat = photo("coffee"), photo("cat")
    low = part("coffee", (0, 0, 600, 235))  # the cup, cut off at the bottom
    framed = SQUARE | {"margin": "0.1", "padding": "0.1"}
    wide = framed | {"output_size": "900x450"}
    scene = SQUARE | {"padding": "0.12"}
    low_down = {"padding": "0.12", "vertical_alignment": "bottom"}
    staged = SQUARE | low_down | {"shadow": "contact", "shadow_opacity": 60, "shadow_blur_px": 9}
    return {
        "sizes": [
            Cell(cup, {}, "the photo, 600x400", plain=True),
            Cell(cup, {}, "no layout option: 600x400"),
            Cell(cup, {"crop": True}, "crop=true"),
            Cell(cup, {"crop": True, "padding": "0.1"}, "crop=true padding=0.1", guides=True),
            Cell(cup, SQUARE, "output_size=600x600"),
        ],
        "margins": [
            Cell(cup, framed | {"padding": "0"}, "margin=0.1", guides=True),
            Cell(cup, framed, "margin=0.1 padding=0.1", guides=True),
            Cell(cup, framed | {"margin_top": "0.4"}, "the same, margin_top=0.4", guides=True),
            Cell(cup, framed | {"scaling": "fill"}, "the same, scaling=fill", guides=True),
            Cell(cup, framed | {"reference_box": "original"}, "the same, reference_box=original", guides=True),
        ],
        "snapping": [
            Cell(low, {}, "cut off by the photo's border", plain=True),
            Cell(low, framed, "it sits on the margin", guides=True),
            Cell(low, framed | {"snap_cropped_sides": False}, "snap_cropped_sides=false", guides=True),
            Cell(low, framed | {"vertical_alignment": "top"}, "vertical_alignment=top", guides=True),
            Cell(
                cup,
                wide | {"horizontal_alignment": "left"},
                "not cropped, 900x450\nhorizontal_alignment=left",
                guides=True,
            ),
        ],
        "scenes": [Cell(cup, staged | {"background_template": name}, name) for name in SCENES],
        "backgrounds": [
            Cell(cup, scene | {"background_color": "white", "shadow": "drop"}, "background_color=white\nshadow=drop"),
            Cell(
                cup,
                scene | {"background_gradient": "180deg #f4f1ea #cfc6b4", "shadow": "contact"},
                "background_gradient=..\nshadow=contact",
            ),
            Cell(cup, scene, "background_file", background=photo("rocket")),
            Cell(cup, scene | {"background_blur_px": 12}, "background_blur_px=12"),
            Cell(
                cat, {"output_size": "600x600", "scaling": "fill", "background_blur_px": 12}, "the same, scaling=fill"
            ),
        ],
    }


def drawn(cell: Cell) -> Image.Image:
    """The result at the cell's size, over a board where it is transparent, with its guides."""
    if cell.plain:
        with Image.open(io.BytesIO(cell.photo)) as image:
            return _shrunk(image.convert("RGB"))
    options = {"format": "png", **cell.options}
    result = cut_out(cell.photo, background=cell.background, **options)
    with Image.open(io.BytesIO(result.data)) as image:
        picture = _on_board(image.convert("RGBA"))
    if cell.guides:
        _draw_guides(picture, options)
    return _shrunk(picture)


def sheet(cells: list[Cell]) -> Image.Image:
    pictures = [drawn(cell) for cell in cells]
    height = max(picture.height for picture in pictures)
    paper = Image.new("RGB", (len(cells) * (CELL + GAP) - GAP, height + CAPTION), WHITE)
    draw, font = ImageDraw.Draw(paper), ImageFont.load_default(13)
    for number, (cell, picture) in enumerate(zip(cells, pictures, strict=True)):
        left = number * (CELL + GAP)
        paper.paste(picture, (left + (CELL - picture.width) // 2, height - picture.height))
        draw.text((left + CELL // 2, height + CAPTION // 2), cell.caption, BLACK, font, anchor="mm", align="center")
    return paper


def _shrunk(picture: Image.Image) -> Image.Image:
    scale = CELL / max(picture.size)
    return picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.LANCZOS)


def _on_board(picture: Image.Image) -> Image.Image:
    """The picture over grey squares, which show what is transparent."""
    y, x = np.mgrid[: picture.height, : picture.width] // 20
    board = Image.fromarray(np.where((x + y) % 2, 236, 214).astype(np.uint8)).convert("RGBA")
    board.alpha_composite(picture)
    return board.convert("RGB")


def _draw_guides(picture: Image.Image, options: Mapping[str, Any]) -> None:
    layout = parse_options(options).layout
    assert layout is not None
    across, down = layout.horizontal.area(picture.width), layout.vertical.area(picture.height)
    drawn_last = picture.size
    for x, y, colour in zip(across, down, (RED, BLUE), strict=True):
        if (x.length, y.length) != drawn_last:
            _dashed(picture, (x.start, y.start, x.end - 1, y.end - 1), colour)
        drawn_last = x.length, y.length


def _dashed(picture: Image.Image, box: tuple[int, int, int, int], colour: tuple[int, int, int]) -> None:
    left, top, right, bottom = box
    draw = ImageDraw.Draw(picture)
    for at in range(left, right, 16):
        for y in (top, bottom):
            draw.line((at, y, min(at + 8, right), y), colour, 3)
    for at in range(top, bottom, 16):
        for x in (left, right):
            draw.line((x, at, x, min(at + 8, bottom)), colour, 3)


def main() -> None:
    TARGET.mkdir(parents=True, exist_ok=True)
    for name, cells in sheets().items():
        path = TARGET / f"{name}.jpg"
        sheet(cells).save(path, quality=88)
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1024} kB")


if __name__ == "__main__":
    main()
