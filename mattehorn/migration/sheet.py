"""Two services' results side by side as one HTML file, in the look of the model comparison's (evaluation/sheet.py).

It holds the photos, so it may be shared as far as they may; it holds no key and of an address no query.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

import cv2
import numpy as np
from numpy.typing import NDArray

from mattehorn.composite import composite
from mattehorn.evaluation.sheet import page, thumbnail
from mattehorn.migration.ask import Endpoint, Reply
from mattehorn.migration.compare import Pair, Rgba, same_size

Pixels = NDArray[np.uint8]

_WHITE, _GREEN = (255, 255, 255), (0, 177, 64)  # a shop's page, on which fringes are dark; chroma-key green for holes
_CLOSE_PX = (
    72  # long side of the part of the edge that is shown enlarged: single pixels are seen, and what they belong to
)
_ENLARGED = 5

LEGEND = """
<p>Each result is laid over white and over green with the colour and the transparency that came, as a page would show
it. <i>Close</i> is the place at the edge where the two differ most, five times as large: dark pixels between subject
and white are a fringe. Pictures of different size are compared at the smaller one's.</p>
<dl>
<dt>alpha differs by</dt><dd>mean absolute difference of the two alpha mattes, in per cent of full. 0 is the same.</dd>
<dt>IoU</dt><dd>overlap of the two shapes at half transparency. 1 is the same; below .9 the services disagree on what
the subject is.</dd>
<dt>dark edge</dt><dd>the colour of half-transparent pixels is multiplied by their alpha, as rembg stores it. Code that
undoes this has to go when the other service does not do it.</dd>
<dt>time</dt><dd>one request from here, the way there and back included.</dd>
</dl>
"""


def render_sheet(pairs: Sequence[Pair], ours: Endpoint, theirs: Endpoint) -> str:
    """The whole page, the pairs that differ most first; then those of which a service gave nothing."""
    order = sorted(pairs, key=lambda pair: -pair.difference.alpha_mean if pair.difference else 1.0)
    body = [
        f"<h1>ours: {escape(ours.shown)}<br>theirs: {escape(theirs.shown)}</h1>",
        f"<p>{len(pairs)} photos, the most different first</p>",
        _totals(pairs),
        f"<details open><summary>How to read this</summary>{LEGEND}</details>",
        *(_case(pair) for pair in order),
    ]
    return page("The same photos through two services", "".join(body))


def _totals(pairs: Sequence[Pair]) -> str:
    rows = []
    for name in ("ours", "theirs"):
        replies = [reply for pair in pairs if isinstance(reply := getattr(pair, name), Reply)]
        cells = [f"{len(replies)} of {len(pairs)}", "-", "-"]
        if replies:
            cells[1:] = [
                f"{np.median([reply.seconds for reply in replies]):.2f} s",
                f"{np.median([reply.data_bytes for reply in replies]) / 1000:.0f} kB",
            ]
        cells.append(str(sum(name in pair.difference.premultiplied for pair in pairs if pair.difference)))
        rows.append((name, cells))
    return _table(("", "answered", "median time", "median size", "dark edges"), rows)


def _case(pair: Pair) -> str:
    title = f"<h3>{escape(pair.photo.name)}</h3>"
    if isinstance(pair.ours, str) or isinstance(pair.theirs, str) or pair.difference is None:
        rows = [(name, [_said(getattr(pair, name))]) for name in ("ours", "theirs")]
        return f"<article>{title}{_table(('', 'answer'), rows)}</article>"
    found, both = pair.difference, (pair.ours, pair.theirs)
    ours, theirs = same_size(pair.ours.rgba, pair.theirs.rgba)
    at = _widest(ours, theirs)
    views: tuple[tuple[str, Callable[[Rgba], Pixels]], ...] = (
        ("on white", lambda one: _over(one, _WHITE)),
        ("on green", lambda one: _over(one, _GREEN)),
        ("alpha", lambda one: one[..., 3]),
        ("close, on white", lambda one: _close(one, at)),
    )
    named = (("ours", ours), ("theirs", theirs))
    figures = [thumbnail(view(one), f"{name}, {what}") for what, view in views for name, one in named]
    facts = (
        f"<p>alpha differs by <b>{found.alpha_mean * 100:.2f} %</b>, IoU <b>{found.iou:.3f}</b>"
        + "".join(f", dark edge: <b>{name}</b>" for name in found.premultiplied)
        + "</p>"
    )
    return f"<article>{title}{facts}<div class=grid>{''.join(figures)}</div>{_headers(both)}</article>"


def _said(reply: Reply | str) -> str:
    return escape(reply) if isinstance(reply, str) else "a picture"


def _headers(both: tuple[Reply, Reply]) -> str:
    rows = [
        ("time", [f"{reply.seconds:.2f} s" for reply in both]),
        ("size", [f"{reply.data_bytes / 1000:.0f} kB" for reply in both]),
        ("pixels", ["{1} x {0}".format(*reply.rgba.shape) for reply in both]),
    ]
    names = sorted({name for reply in both for name in reply.headers})
    rows += [(name, [escape(reply.headers.get(name, "-")) for reply in both]) for name in names]
    table = _table(("", "ours", "theirs"), rows)
    return f"<details><summary>Figures and headers</summary>{table}</details>"


def _table(head: Sequence[str], rows: Sequence[tuple[str, list[str]]]) -> str:
    """`rows`' cells are HTML."""
    top = "".join(f"<th scope=col>{one}</th>" for one in head)
    lines = "".join(
        f"<tr><th scope=row>{escape(name)}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
        for name, cells in rows
    )
    return f"<div class=wide><table><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table></div>"


def _over(rgba: Rgba, colour: tuple[int, int, int]) -> Pixels:
    return composite(rgba[..., :3], rgba[..., 3], np.full_like(rgba[..., :3], colour))


def _widest(ours: Rgba, theirs: Rgba) -> tuple[slice, slice]:
    """Rows and columns, in the picture's own ratio, where the two differ most over white."""
    apart = np.abs(_over(ours, _WHITE).astype(np.float32) - _over(theirs, _WHITE)).sum(axis=-1)
    height, width = apart.shape
    scale = min(1.0, _CLOSE_PX / max(height, width))
    sides = max(1, round(height * scale)), max(1, round(width * scale))
    means = cv2.blur(apart, sides[::-1], borderType=cv2.BORDER_CONSTANT)
    centre = np.unravel_index(int(means.argmax()), means.shape)
    starts = [
        min(max(0, int(at) - side // 2), whole - side)
        for at, side, whole in zip(centre, sides, (height, width), strict=True)
    ]
    rows, columns = (slice(start, start + side) for start, side in zip(starts, sides, strict=True))
    return rows, columns


def _close(rgba: Rgba, at: tuple[slice, slice]) -> Pixels:
    return _over(rgba[at], _WHITE).repeat(_ENLARGED, axis=0).repeat(_ENLARGED, axis=1)
