"""Layout's geometry for any request and any photo: what must hold whatever is asked."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from mattehorn.errors import OptionError
from mattehorn.layout.plan import AxisPlacement, Pair, Placement, most_pixels, plan
from mattehorn.options import Options, parse_options
from mattehorn.settings import Limits

NONE: tuple[Pair, Pair] = ((False, False), (False, False))
INSETS = st.one_of(
    st.none(),
    st.integers(0, 49).map(lambda n: f"{n}%"),
    st.integers(0, 49).map(lambda n: f"0.{n:02}"),
    st.integers(0, 60).map(lambda n: f"{n}px"),
    st.sampled_from(["0", "0.49", "0.333333333", "99999px"]),
)
SIDES = [f"{kind}{side}" for kind in ("margin", "padding") for side in ("", "_top", "_right", "_bottom", "_left")]
SIZE = st.one_of(
    st.sampled_from([None, "original", "cropped_subject"]),
    st.tuples(st.integers(1, 300), st.integers(1, 300)).map(lambda size: f"{size[0]}x{size[1]}"),
)
LAYOUTS = st.fixed_dictionaries(
    dict.fromkeys(SIDES, INSETS)
    | {
        "output_size": SIZE,
        "max_width": st.one_of(st.none(), st.integers(1, 400)),
        "max_height": st.one_of(st.none(), st.integers(1, 400)),
        "reference_box": st.sampled_from([None, "subject", "original"]),
        "snap_cropped_sides": st.sampled_from([None, True, False]),
        "horizontal_alignment": st.sampled_from([None, "left", "center", "right"]),
        "vertical_alignment": st.sampled_from([None, "top", "center", "bottom"]),
        "scaling": st.sampled_from([None, "fit", "fill"]),
    }
)


def sent(fields: dict[str, Any]) -> Options:
    """The options, without the maxima where they would conflict."""
    if fields["output_size"] not in (None, "original", "cropped_subject"):
        fields = {**fields, "max_width": None, "max_height": None}
    return parse_options(fields)


@st.composite
def photos(draw: st.DrawFn) -> tuple[tuple[int, int], tuple[int, int, int, int] | None, tuple[Pair, Pair]]:
    """((width, height), box, cropped sides), the latter only where the box reaches the border."""
    width, height = draw(st.integers(1, 300)), draw(st.integers(1, 300))
    left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    wide, tall = draw(st.integers(1, width - left)), draw(st.integers(1, height - top))
    touching = (left == 0, left + wide == width), (top == 0, top + tall == height)
    cropped = tuple(tuple(draw(st.booleans()) if side else False for side in pair) for pair in touching)
    return (width, height), draw(st.sampled_from([(top, left, tall, wide)] * 5 + [None])), cropped  # type: ignore[return-value]


def exact(inset: str | None, length: Fraction | int) -> Fraction:
    text = inset or "0"
    return Fraction(text.removesuffix("px")) if text.endswith("px") else Fraction(text) * length


@given(LAYOUTS, photos())
@settings(max_examples=600, deadline=None)
@example(
    dict.fromkeys([*SIDES, "output_size", "max_width", "max_height", "reference_box", "scaling"]), ((1, 1), None, NONE)
)
def test_what_holds_for_any_layout(fields: dict[str, Any], photo: Any) -> None:
    options = sent(fields)
    if options.layout is None:
        return
    (width, height), box, cropped = photo
    limits = Limits(pixels=200_000, side_px=2000)
    placement, refusal = None, None
    try:
        placement = plan(options.layout, width, height, box, cropped, limits)
    except OptionError as error:
        refusal = error
    if placement is None:
        assert refusal is not None
        assert refusal.data["field"] in ("output_size", "margin", "padding")
        assert refusal.message.endswith(".")
        return
    assert max(placement.width, placement.height) <= limits.side_px
    assert placement.width * placement.height <= most_pixels(options.layout, width, height, limits)
    assert placement.width * placement.height <= most_pixels(options.layout, height, width, limits), "before a turn"
    for axis, names, cut, alignment in (
        (placement.horizontal, ("left", "right"), cropped[0], options.horizontal_alignment),
        (placement.vertical, ("top", "bottom"), cropped[1], options.vertical_alignment),
    ):
        check_axis(axis, options, names, cut, alignment)
    check_scale(placement, options)


def check_axis(axis: AxisPlacement, options: Options, names: tuple[str, str], cut: Pair, alignment: str | None) -> None:
    """Margins hold to the pixel, something shows, and a cropped side is sat upon."""
    start, end = (getattr(options, f"margin_{name}") or options.margin for name in names)
    assert axis.clip.start == int(exact(start, axis.canvas))
    assert axis.clip.end == axis.canvas - int(exact(end, axis.canvas))
    assert 0 <= axis.clip.start < axis.clip.end <= axis.canvas
    assert axis.target.length >= 1
    assert max(axis.clip.start, axis.target.start) < min(axis.clip.end, axis.target.end), "something shows"
    snaps = options.snap_cropped_sides is not False and alignment is None
    if snaps and cut == (True, False):
        assert axis.target.start == axis.clip.start
    if snaps and cut == (False, True):
        assert axis.target.end == axis.clip.end
    if options.scaling != "fill":
        paddings = [getattr(options, f"padding_{name}") or options.padding for name in names]
        start, end = (
            0 if snaps and side else int(exact(text, axis.clip.length))
            for side, text in zip(cut, paddings, strict=True)
        )
        assert axis.clip.start + start <= axis.target.start
        assert axis.target.end <= axis.clip.end - end


def check_scale(placement: Placement, options: Options) -> None:
    """The photo's ratio is kept but for the rounding to whole pixels."""
    across, down = placement.horizontal, placement.vertical
    if placement.unscaled:
        return
    assert options.output_size != "cropped_subject" or options.max_width or options.max_height
    scales = [(axis.target.length - 1) / axis.source.length for axis in (across, down)]
    upper = [(axis.target.length + 1) / axis.source.length for axis in (across, down)]
    assert max(scales) <= min(upper)
