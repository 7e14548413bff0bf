"""Makes the pictures of docs/recipes.md from tests/photos/: `python -m tests.make_recipe_pictures`.

The embedded model; every preset as it is. A thin line goes around each result, so that white shows where it ends.
"""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont, ImageOps

from mattehorn.recipe.recipe import find_recipe
from tests.make_layout_pictures import BLACK, CAPTION, CELL, GAP, ROOT, WHITE, Cell, drawn, photo

TARGET = ROOT / "docs/images/recipes"
LINE = (150, 150, 150)
# No portrait is among the photos; the cat sits for it.
SHEETS = {
    "shop": (
        ("coffee", "cat"),
        ("transparent-web", "marketplace-white", "marketplace-white-2000", "gradient", "soft-daylight", "minimal"),
    ),
    "person": (("cat", "coffee"), ("id-photo", "meeting-portrait", "obs-asset")),
}


def sheet(photos: tuple[str, ...], recipes: tuple[str, ...]) -> Image.Image:
    """A row for each photo: the photo itself, then each recipe's result; names below."""
    captions = ("the photo", *recipes)
    rows = [[Cell(photo(name), {}, "", plain=True)] for name in photos]
    for name, row in zip(photos, rows, strict=True):
        row += [Cell(photo(name), find_recipe(recipe).options, "") for recipe in recipes]
    size = (len(captions) * (CELL + GAP) - GAP, len(rows) * (CELL + GAP) - GAP + CAPTION)
    paper = Image.new("RGB", size, WHITE)
    for down, row in enumerate(rows):
        for across, cell in enumerate(row):
            picture = ImageOps.expand(ImageOps.crop(drawn(cell), 1), 1, LINE)
            left = across * (CELL + GAP) + (CELL - picture.width) // 2
            paper.paste(picture, (left, down * (CELL + GAP) + (CELL - picture.height) // 2))
    draw, font = ImageDraw.Draw(paper), ImageFont.load_default(13)
    for across, caption in enumerate(captions):
        draw.text((across * (CELL + GAP) + CELL // 2, size[1] - CAPTION // 2), caption, BLACK, font, anchor="mm")
    return paper


def main() -> None:
    TARGET.mkdir(parents=True, exist_ok=True)
    for name, (photos, recipes) in SHEETS.items():
        path = TARGET / f"{name}.jpg"
        sheet(photos, recipes).save(path, quality=88)
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1024} kB")


if __name__ == "__main__":
    main()
