"""The third cleaning gate: a page of label edges at 200 % for a human eye, one photo in twenty of each labelled set.

`python -m training.gate_sheet RECIPE --data-dir DATA/train --work-dir WORK -o sheet.html` after `training.dataset`.
The page is one file without links, private by nature (it shows the photos): look at it, click what is wrong, and put
the lines it then shows into the recipe. Nothing here decides anything.
"""

from __future__ import annotations

import argparse
import base64
import html
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from training.dataset import PackedSet, pack_sets
from training.recipe import Recipe, load_recipe
from training.sources import SUBJECT, Source, find_sources, read_image, read_label, stretch

Pixels = NDArray[np.uint8]
WINDOW = 150  # px of the file shown, so that three views at 200 % stand side by side on a laptop
ZOOM = 2  # 200 %, as the source article looks at edges
EDGE_COLOUR = (255, 0, 200)  # magenta: rare in photos
GREEN = (0, 177, 64)  # a studio's backdrop: fringes show
JPEG_QUALITY = 88

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Label edges</title>
<style>body{{font:14px system-ui;margin:1em}}figure{{display:inline-block;margin:.4em;padding:.4em;
border:2px solid #ccc;
cursor:pointer}}figure.bad{{border-color:#c00;background:#fdd}}img{{display:block}}pre{{background:#eee;padding:.6em;
position:sticky;top:0;min-height:1.2em}}</style>
<h1>Label edges at 200 %</h1>
<p>Photo, the label's edge on it, the label's cutout on green. Click what has a wrong edge; copy the lines below into
the recipe. More than 3 in 100 wrong: look at the whole set before training on it.</p><pre id="lines"></pre>
{body}
<script>
const quote = JSON.stringify, out = document.getElementById("lines");
document.querySelectorAll("figure").forEach(f => f.onclick = () => {{
  f.classList.toggle("bad");
  const sets = {{}};
  document.querySelectorAll("figure.bad").forEach(b => (sets[b.dataset.set] ??= []).push(b.dataset.file));
  out.textContent = Object.entries(sets).map(([s, n]) => `[sets.${{s}}] exclude = [${{n.map(quote).join(", ")}}]`)
    .join("\\n");
}});
</script></html>
"""


@dataclass(frozen=True)
class Sample:
    """One photo of the sheet: its files and what stands under it."""

    set: str
    source: Source
    note: str


def draw_samples(
    recipe: Recipe, sets: Sequence[PackedSet], data_dir: Path, work_dir: Path, share: float, kinds: Sequence[str]
) -> Iterator[Sample]:
    """A fixed draw of `share` (0..1) of each set of these kinds, at least one photo, with what the trust gate said."""
    said = _trust(work_dir / "gates.jsonl")
    for packed in sets:
        choice = recipe.sets[packed.name]
        if choice.kind not in kinds:
            continue
        found, _ = find_sources(data_dir / packed.name, choice, work_dir / "teacher" / packed.name)
        names = {entry.name for entry in (*packed.train, *packed.validation)}
        passed = [source for source in found if source.image.stem in names]
        count = math.ceil(len(passed) * share)
        for place in sorted(np.random.default_rng(recipe.seed).permutation(len(passed))[:count]):
            source = passed[place]
            yield Sample(packed.name, source, said.get((packed.name, source.image.stem), ""))


def _trust(path: Path) -> Mapping[tuple[str, str], str]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {
        (row["set"], row["file"]): f"{row['decision']} {row['value']:.2f}" for row in rows if row["gate"] == "trust"
    }


def edge_views(image: Pixels, label: Pixels, rng: np.random.Generator) -> Pixels:
    """Photo, photo with the label's edge, cutout on green, side by side, [2 W, 6 W, 3] around one pixel of the edge."""
    inside = (label > SUBJECT).astype(np.uint8)
    edge = cv2.dilate(inside, np.ones((3, 3), np.uint8)) - inside
    rows, columns = np.nonzero(edge)
    chosen = int(rng.integers(len(rows))) if len(rows) else 0
    row, column = (int(rows[chosen]), int(columns[chosen])) if len(rows) else (label.shape[0] // 2, label.shape[1] // 2)
    top, left = (
        min(max(at - WINDOW // 2, 0), max(side - WINDOW, 0))
        for at, side in zip((row, column), label.shape, strict=True)
    )
    photo = image[top : top + WINDOW, left : left + WINDOW]
    part = label[top : top + WINDOW, left : left + WINDOW]
    alpha = part[..., None] / np.float32(255)
    cutout = (photo * alpha + np.array(GREEN, np.float32) * (1 - alpha) + 0.5).astype(np.uint8)
    plain, cutout = _enlarge(photo), _enlarge(cutout)
    lined = plain.copy()
    outlines, _ = cv2.findContours(
        (stretch(part, plain.shape[:2]) > SUBJECT).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE
    )
    cv2.drawContours(lined, outlines, -1, EDGE_COLOUR, 1)
    return np.hstack((plain, lined, cutout))


def _enlarge(picture: Pixels) -> Pixels:
    """Twice the size, filled with white to the window: a small photo shows whole."""
    large = cv2.resize(picture, None, fx=ZOOM, fy=ZOOM, interpolation=cv2.INTER_CUBIC).astype(np.uint8)
    side = WINDOW * ZOOM
    missing = (side - large.shape[0], side - large.shape[1])
    return np.pad(large, ((0, missing[0]), (0, missing[1]), (0, 0)), constant_values=255)


def figure(sample: Sample, seed: int) -> str:
    """One sample as HTML with its picture inside."""
    image = read_image(sample.source.image)
    label = stretch(read_label(sample.source.label), image.shape[:2])
    views = edge_views(image, label, np.random.default_rng(seed))
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(views[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    picture = base64.b64encode(data.tobytes()).decode()
    set_name, stem, note = (html.escape(text) for text in (sample.set, sample.source.image.stem, sample.note))
    size = f"{image.shape[1]}x{image.shape[0]}"
    return (
        f'<figure data-set="{set_name}" data-file="{stem}"><img src="data:image/jpeg;base64,{picture}" alt="">'
        f"<figcaption>{set_name} / {stem} ({size}), trust: {note}</figcaption></figure>"
    )


def write_sheet(samples: Sequence[Sample], out: Path, seed: int) -> None:
    """The page of all samples."""
    body = "\n".join(figure(sample, seed + place) for place, sample in enumerate(samples))
    out.write_text(PAGE.format(body=body), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--data-dir", type=Path, required=True, help="folder of the sets that the recipe names")
    parser.add_argument("--work-dir", type=Path, required=True, help="holds the packs and gates.jsonl")
    parser.add_argument("-o", "--out", type=Path, required=True, help="HTML file; keep it as private as the photos")
    parser.add_argument("--share", type=float, default=0.05, help="of each set's photos that passed, 0..1")
    parser.add_argument("--kinds", nargs="+", default=["matte", "mask"], choices=["matte", "mask", "teacher"])
    arguments = parser.parse_args()
    recipe = load_recipe(arguments.recipe)
    sets = pack_sets(recipe, arguments.data_dir, arguments.work_dir)
    drawn = draw_samples(recipe, sets, arguments.data_dir, arguments.work_dir, arguments.share, arguments.kinds)
    samples = list(drawn)
    write_sheet(samples, arguments.out, recipe.seed)
    print(f"{len(samples)} edges in {arguments.out}")


if __name__ == "__main__":
    main()
