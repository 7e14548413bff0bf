"""A comparison as one HTML file: the figures, and the photos that tell most, each seen as photo, matte and cutout.

Self-contained: pictures are data URIs, no script, nothing fetched. It holds the set's photos, so it may be shared as
far as they may. Called by `mattehorn compare --html`. The mattes are computed again for the few photos shown, so that
a comparison of any length keeps none in memory.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from html import escape

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mattehorn.composite import composite
from mattehorn.evaluation.compare import Comparison, rows_of
from mattehorn.evaluation.evaluate import PhotoResult, predict_alpha
from mattehorn.evaluation.evaluation_set import read_pair
from mattehorn.evaluation.metrics import METRICS, MORE_IS_BETTER, Scores
from mattehorn.evaluation.sheet_text import LEGEND, STYLE
from mattehorn.evaluation.tables import TITLES, contest_row, figure, milliseconds, missed, scene
from mattehorn.foreground import estimate_foreground

Pixels = NDArray[np.uint8]
Alpha = NDArray[np.float32]

PER_SECTION = 8  # photos: enough to see a pattern, and under 3 MB for the three sections
_THUMBNAIL_PX = 360  # long side: a quarter of a wide screen
_JPEG_QUALITY = 82  # at 360 px about 15 KB a picture, without blocks at a matte's edge
_GREEN = (0, 177, 64)  # chroma-key green: far from skin, fur and most products, so fringes and holes show


@dataclass(frozen=True)
class Section:
    """`numbers` are positions in the comparison, the most telling first."""

    title: str
    note: str
    numbers: list[int]


def ranking_metric(comparison: Comparison) -> str:
    """What worst means: IoU where truth is a binary mask, MAD where it is a matte."""
    return "iou" if comparison.a.scored.kind == "mask" else "mad"


def sections(comparison: Comparison, count: int = PER_SECTION) -> list[Section]:
    """The worst photos of A, the worst of B, and those where the two differ most."""
    metric = ranking_metric(comparison)
    sign = -1 if metric in MORE_IS_BETTER else 1
    errors = [tuple(sign * float(getattr(one, metric)) for one in both) for both in rows_of(comparison)]
    leads = [abs(a - b) for a, b in errors]
    name = TITLES[metric]
    return [
        Section("Worst of A", f"by A's {name}", _largest([a for a, _ in errors], count)),
        Section("Worst of B", f"by B's {name}", _largest([b for _, b in errors], count)),
        Section(
            "Largest differences",
            f"between A's and B's {name}, whichever is better",
            [number for number in _largest(leads, count) if leads[number] > 0],
        ),
    ]


def render_sheet(comparison: Comparison, on_done: Callable[[], object] = lambda: None) -> str:
    """The whole page. `on_done` is called after each photo that it shows; a photo in two sections is drawn once."""
    chosen = sections(comparison)
    cases: dict[int, str] = {}
    for number in {number: None for section in chosen for number in section.numbers}:
        cases[number] = _case(comparison, number)
        on_done()
    a, b = comparison.a.entrant, comparison.b.entrant
    tables = "".join(_figures_table(comparison, unknown) for unknown in (False, True))
    body = [
        f"<h1>A: {escape(a.label)}<br>B: {escape(b.label)}</h1>",
        f"<p>{escape(scene(comparison.a))}</p>",
        _facts(comparison),
        f"<div class=tables>{tables}</div>",
        f"<details open><summary>How to read this</summary>{LEGEND}</details>",
    ]
    for section in chosen:
        shown = "".join(cases[number] for number in section.numbers) or "<p>None: the two answer alike.</p>"
        body.append(f"<section><h2>{section.title}</h2><p>{section.note}</p>{shown}</section>")
    return page(f"{a.label} and {b.label}", "".join(body))


def page(title: str, body: str) -> str:
    """One HTML file that fetches nothing and runs nothing; `body` is HTML."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><main>{body}</main></body></html>\n"
    )


def _largest(values: list[float], count: int) -> list[int]:
    """Positions of the `count` largest, the largest first, equal ones in order."""
    return sorted(range(len(values)), key=lambda number: -values[number])[:count]


def _facts(comparison: Comparison) -> str:
    a, b = comparison.a, comparison.b
    time = f"A: {milliseconds(a)}<br>B: {milliseconds(b)}"
    ratio = f"{comparison.time_ratio:.2f}; networks alone {comparison.network_time_ratio:.2f}"
    rows = [
        ("Milliseconds per image", time),
        ("Time, A / B", ratio),
        ("Missed subjects (IoU &lt; .3)", f"A: {escape(missed(a))}<br>B: {escape(missed(b))}"),
    ]
    return "<dl class=facts>" + "".join(f"<dt>{title}</dt><dd>{text}</dd>" for title, text in rows) + "</dl>"


def _figures_table(comparison: Comparison, unknown: bool) -> str:
    rows = rows_of(comparison, unknown)
    if not rows:
        return ""
    title = "Unknown band" if unknown else "Whole photo"
    heads = (title, "A mean", "A median", "B mean", "B median", "A − B", "A wins", "B wins", "equal")
    head = "".join(f"<th scope=col>{one}</th>" for one in heads)
    lines = []
    for metric in METRICS:
        name, *cells = contest_row(rows, metric)
        means = [float(np.mean([getattr(row[side], metric) for row in rows])) for side in (0, 1)]
        if (best := _better(metric, means)) is not None:
            cells[2 * best] = f"<b>{cells[2 * best]}</b>"
        lines.append(f"<tr><th scope=row>{name}</th>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return f"<div class=wide><table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"


def _case(comparison: Comparison, number: int) -> str:
    """One photo: photo, truth and both mattes above, truth and both cutouts on green below, and all its figures."""
    a, b = comparison.a.photos[number], comparison.b.photos[number]
    image, truth = read_pair(comparison.a.scored.pairs[number])
    mattes = [truth] + [predict_alpha(one.entrant.model, image).alpha for one in (comparison.a, comparison.b)]
    metric = ranking_metric(comparison)
    above = thumbnail(image, "photo") + thumbnail(_grey(truth), "truth")
    for who, one, photo, matte in zip("AB", (comparison.a, comparison.b), (a, b), mattes[1:], strict=True):
        mark = f"{TITLES[metric]} {figure(metric, getattr(photo.scores.whole, metric))}"
        above += thumbnail(_grey(matte), f"{who}, {one.entrant.label}: {mark}")
    green = thumbnail(_on_green(image, truth), "truth on green", "late")
    for who, matte in zip("AB", mattes[1:], strict=True):
        green += thumbnail(_on_green(image, matte), f"{who} on green")
    return f"<article><h3>{escape(a.name)}</h3><div class=grid>{above}{_case_table(a, b)}{green}</div></article>"


def _case_table(a: PhotoResult, b: PhotoResult) -> str:
    """Every score of one photo, the better of the two in bold; the whole photo, then the unknown band."""
    bands = a.scores.unknown, b.scores.unknown
    lines = []
    for metric in METRICS:
        cells = _pair_cells(metric, (a.scores.whole, b.scores.whole)) + _pair_cells(metric, bands)
        lines.append(f"<tr><th scope=row>{TITLES[metric]}</th>{cells}</tr>")
    times = "".join(f"<td>{photo.seconds * 1000:.0f} ms</td>" for photo in (a, b))
    head = "<tr><td></td><th colspan=2>whole photo</th><th colspan=2>unknown band</th></tr>"
    head += "<tr><td></td><th>A</th><th>B</th><th>A</th><th>B</th></tr>"
    lines.append(f"<tr><th scope=row>time</th>{times}<td colspan=2></td></tr>")
    return f"<div class=wide><table class=small><thead>{head}</thead><tbody>{''.join(lines)}</tbody></table></div>"


def _pair_cells(metric: str, both: tuple[Scores | None, Scores | None]) -> str:
    a, b = both
    if a is None or b is None:
        return "<td>-</td><td>-</td>"
    values = [float(getattr(one, metric)) for one in (a, b)]
    texts = [figure(metric, value) for value in values]
    if (best := _better(metric, values)) is not None:
        texts[best] = f"<b>{texts[best]}</b>"
    return "".join(f"<td>{text}</td>" for text in texts)


def _better(metric: str, values: list[float]) -> int | None:
    """0 where A's figure is the better one, 1 where B's is, None where they are equal."""
    a, b = values
    return None if a == b else int((b > a) == (metric in MORE_IS_BETTER))


def _on_green(image: Pixels, alpha: Alpha) -> Pixels:
    return composite(estimate_foreground(image, alpha), alpha, np.full_like(image, _GREEN))


def _grey(alpha: Alpha) -> Pixels:
    return np.asarray(np.rint(alpha * 255), np.uint8)


def thumbnail(picture: Pixels, caption: str, place: str = "") -> str:
    """A JPEG thumbnail of uint8 [H, W] or [H, W, 3] with its caption; `place` is a class of the style sheet."""
    height, width = picture.shape[:2]
    scale = min(1.0, _THUMBNAIL_PX / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    target = io.BytesIO()
    Image.fromarray(np.asarray(small, np.uint8)).save(target, "JPEG", quality=_JPEG_QUALITY)
    data = base64.b64encode(target.getvalue()).decode("ascii")
    source = f"data:image/jpeg;base64,{data}"
    picture_tag = f'<img alt="{escape(caption)}" width="{size[0]}" height="{size[1]}" src="{source}">'
    return f'<figure class="{place}">{picture_tag}<figcaption>{escape(caption)}</figcaption></figure>'
