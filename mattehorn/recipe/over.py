"""What goes over what: which of a recipe's options make way for those that are sent beside it.

What it is not: it checks no value and no lock. Called by recipe.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mattehorn.options import Options, parse_options
from mattehorn.recipe.result_keys import settled_format

BACKGROUNDS = ("background_color", "background_gradient", "background_template", "background_blur_px")
_BEHIND = (*BACKGROUNDS, "background_scaling", "shadow", "shadow_opacity", "shadow_blur_px", "shadow_offset")
# Names that say one thing: who locks one locks all, for another of them would take its place.
_GROUPS = (
    BACKGROUNDS,
    ("output_size", "crop"),
    *(
        tuple(f"{space}{side}" for side in ("", "_top", "_right", "_bottom", "_left"))
        for space in ("margin", "padding")
    ),
)


def excluded(own: Options, sent: Mapping[str, Any], pictures: Sequence[str] = ()) -> dict[str, str]:
    """What of `own` makes way, each name with that of the sent field it makes way for.

    `sent` has Options' spelling. `pictures`: background_file, background_url, where a picture lies beside.
    """
    found: dict[str, str] = {}
    for name, by in _excluded(own, sent, pictures):
        if name not in sent:
            found.setdefault(name, by)
    return found


def with_groups(names: Sequence[str]) -> set[str]:
    """`names`, and what else says the same thing."""
    return set(names).union(*(group for group in _GROUPS if not set(group).isdisjoint(names)))


def _excluded(own: Options, sent: Mapping[str, Any], pictures: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(what makes way, for what)."""
    for background in (*pictures, *(name for name in BACKGROUNDS if name in sent)):
        yield from ((name, background) for name in BACKGROUNDS)
        if own.kind != "composite":
            yield "output", background
        if own.format == "jpg" and _see_through(background, sent.get(background)):
            yield "format", background
    output = sent.get("output")
    if output in ("cutout", "alpha", "zip"):
        yield from ((name, "output") for name in _BEHIND)
    if output == "zip" or (output == "cutout" and own.format == "jpg"):
        yield "format", "output"
    yield from _excluded_sizes(own, sent)


def _excluded_sizes(own: Options, sent: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if sent.get("crop") is True:
        yield "output_size", "crop"
    if "output_size" in sent:
        yield "crop", "output_size"
    if _is_fixed(sent.get("output_size")):
        yield from ((name, "output_size") for name in ("max_width", "max_height"))
    if _is_fixed(own.output_size):
        yield from (("output_size", name) for name in ("max_width", "max_height") if name in sent)


def _is_fixed(size: Any) -> bool:
    return size not in (None, "original", "cropped_subject")


def _see_through(name: str, value: Any) -> bool:
    """Whether no jpg can hold it; of a picture and of a blurred photo only their pixels tell."""
    if name not in ("background_color", "background_gradient"):
        return False
    return settled_format(parse_options({name: value})).format == "png"
