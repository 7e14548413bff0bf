"""Layout's geometry: the contract's worked example, and every rule by itself. What holds always: test_layout_any.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mattehorn.errors import OptionError
from mattehorn.layout.plan import Layout, Pair, Placement, cropped_sides, plan
from mattehorn.options import parse_options
from mattehorn.settings import Limits

NONE: tuple[Pair, Pair] = ((False, False), (False, False))
BOTTOM: tuple[Pair, Pair] = ((False, False), (False, True))
THOUSAND = {"output_size": "1000x1000"}
WORKED = {**THOUSAND, "margin": "0.1", "padding": "0.1"}
PHOTO = 800, 600  # width, height
BOX = (100, 200, 300, 400)  # top, left, height, width


def layout(fields: dict[str, Any]) -> Layout:
    found = parse_options(fields).layout
    assert found is not None
    return found


def placed(
    fields: dict[str, Any],
    box: tuple[int, int, int, int] | None = BOX,
    cropped: tuple[Pair, Pair] = NONE,
    photo: tuple[int, int] = PHOTO,
    limits: Limits | None = None,
) -> Placement:
    return plan(layout(fields), *photo, box, cropped, limits or Limits())


def target(placement: Placement) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of the reference box on the canvas; right and bottom are not in it."""
    across, down = placement.horizontal.target, placement.vertical.target
    return across.start, down.start, across.end, down.end


def canvas(placement: Placement) -> tuple[int, int]:
    return placement.width, placement.height


# the contract's worked example


def test_the_worked_example_leaves_640_by_640() -> None:
    assert target(placed(WORKED, box=(0, 0, 500, 500))) == (180, 180, 820, 820)


def test_the_worked_example_cropped_at_the_bottom_leaves_640_by_720_and_ends_at_row_899() -> None:
    # as high as the place, so that nothing but the place decides
    left, top, right, bottom = target(placed(WORKED, box=(0, 0, 720, 640), cropped=BOTTOM))
    assert (right - left, bottom - top) == (640, 720)
    assert bottom - 1 == 899
    assert target(placed(WORKED, box=(0, 0, 500, 500), cropped=BOTTOM)) == (180, 260, 820, 900)


# size


def test_with_original_the_canvas_is_the_photos() -> None:
    assert canvas(placed({"output_size": "original"})) == PHOTO
    assert target(placed({"output_size": "original"})) == (0, 0, 800, 600)  # 4:3 in 4:3
    assert canvas(placed({"padding": "0.1"})) == PHOTO


@pytest.mark.parametrize("fields", [{"output_size": "cropped_subject"}, {"crop": "true"}], ids=str)
def test_a_cropped_subject_is_its_box_unscaled(fields: dict[str, Any]) -> None:
    placement = placed(fields)
    assert canvas(placement) == (400, 300)
    assert target(placement) == (0, 0, 400, 300)
    assert placement.unscaled
    assert (placement.horizontal.source.start, placement.vertical.source.start) == (200, 100)


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({"padding": "10px"}, (420, 320)),
        ({"margin": "10px"}, (420, 320)),
        ({"padding": "0.25"}, (800, 600)),  # 400 / (1 - 0.5)
        ({"margin": "25%"}, (800, 600)),
        ({"padding": "0.25", "margin": "0.25"}, (1600, 1200)),
        ({"padding_left": "0.2", "margin_bottom": "0.4"}, (500, 500)),
        ({"padding": "10px", "margin": "0.1"}, (525, 400)),  # 420 / 0.8 and 320 / 0.8
        ({"padding": "0.1"}, (500, 375)),
        ({"padding": "0.3"}, (1000, 750)),
        ({"padding": "0.33"}, (1177, 883)),  # 1176.5 and 882.4, rounded up
    ],
    ids=str,
)
def test_a_cropped_subjects_canvas_is_the_contracts_sum(fields: dict[str, Any], size: tuple[int, int]) -> None:
    placement = placed({"crop": "1", **fields})
    assert canvas(placement) == size
    assert placement.unscaled


def test_padding_of_a_cropped_side_does_not_enlarge_the_cropped_subject() -> None:
    assert canvas(placed({"crop": "1", "padding": "10px"}, cropped=BOTTOM)) == (420, 310)
    assert target(placed({"crop": "1", "padding": "10px"}, cropped=BOTTOM)) == (10, 10, 410, 310)


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({"max_width": "400"}, (400, 300)),
        ({"max_height": "150"}, (200, 150)),
        ({"max_width": "400", "max_height": "150"}, (200, 150)),
        ({"max_width": "9000", "max_height": "9000"}, PHOTO),  # nothing is enlarged
        ({"max_width": "1"}, (1, 1)),
        ({"crop": "1", "max_width": "200"}, (200, 150)),
        ({"crop": "1", "padding": "0.25", "max_width": "200"}, (200, 150)),
        ({"crop": "1", "max_width": "333"}, (333, 250)),  # 249.75
    ],
    ids=str,
)
def test_a_maximum_shrinks_the_canvas_and_keeps_its_ratio(fields: dict[str, Any], size: tuple[int, int]) -> None:
    assert canvas(placed(fields)) == size


def test_a_cropped_subject_shrunk_by_a_maximum_fills_its_canvas() -> None:
    placement = placed({"crop": "1", "max_width": "200"})
    assert target(placement) == (0, 0, 200, 150)
    assert not placement.unscaled


def test_the_original_reference_places_the_whole_frame() -> None:
    placement = placed({**THOUSAND, "reference_box": "original", "padding": "0.1"})
    assert target(placement) == (100, 200, 900, 800)
    assert (placement.horizontal.source.length, placement.vertical.source.length) == PHOTO
    shrunk = placed({"max_width": "400", "reference_box": "original"})
    assert (canvas(shrunk), target(shrunk)) == ((400, 300), (0, 0, 400, 300))


def test_an_empty_matte_is_laid_out_by_its_frame() -> None:
    assert target(placed(THOUSAND, box=None)) == (0, 125, 1000, 875)


# margins and paddings


def test_a_side_overrides_the_general_and_pixels_are_the_results() -> None:
    placement = placed(
        {**THOUSAND, "margin": "0.1", "margin_left": "300px", "margin_top": "0", "scaling": "fill"}, box=(0, 0, 9, 9)
    )
    assert (placement.horizontal.clip.start, placement.horizontal.clip.end) == (300, 900)
    assert (placement.vertical.clip.start, placement.vertical.clip.end) == (0, 900)


def test_ratios_are_exact_and_rounded_down_to_whole_pixels() -> None:
    placement = placed({"output_size": "100x100", "margin": "0.29"}, box=(0, 0, 9, 9))
    assert placement.horizontal.clip.start == 29  # 0.29 * 100 is 28.999999999999996 as floats
    assert placed({"output_size": "99x99", "margin": "0.1"}, box=(0, 0, 9, 9)).horizontal.clip.start == 9


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"output_size": "10x10", "margin": "5px"}, "margin"),
        ({"output_size": "10x1000", "padding": "5px"}, "padding"),
        ({"output_size": "10x10", "margin": "2px", "padding": "300px"}, "padding"),
        ({"output_size": "1x1", "margin": "1px"}, "margin"),
        ({"crop": "1", "margin": "100px", "max_width": "200"}, "margin"),
    ],
    ids=str,
)
def test_a_place_without_a_pixel_is_refused(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(OptionError) as caught:
        placed(fields)
    assert (caught.value.status, caught.value.code, caught.value.data["field"]) == (422, "invalid_option", field)
    assert "0x" in caught.value.message or "x0 " in caught.value.message


def test_snapping_may_be_what_leaves_a_place() -> None:
    fields = {"output_size": "100x10", "padding_bottom": "10px"}
    with pytest.raises(OptionError):
        placed(fields)
    assert placed(fields, cropped=BOTTOM).vertical.target.end == 10


# snapping and alignment


@pytest.mark.parametrize(
    ("cropped", "expected"),
    [
        (((True, False), (False, False)), (100, 180, 740, 820)),
        (((False, True), (False, False)), (260, 180, 900, 820)),
        (((False, False), (True, False)), (180, 100, 820, 740)),
        (((False, False), (False, True)), (180, 260, 820, 900)),
        (((True, False), (False, True)), (100, 180, 820, 900)),  # a corner: 720 x 720
        (((True, True), (False, False)), (180, 180, 820, 820)),  # both: no paddings there, centred
        (((True, True), (True, True)), (100, 100, 900, 900)),
    ],
    ids=str,
)
def test_a_cropped_side_loses_its_padding_and_draws_the_subject(
    cropped: tuple[Pair, Pair], expected: tuple[int, int, int, int]
) -> None:
    assert target(placed(WORKED, box=(0, 0, 500, 500), cropped=cropped)) == expected


def test_both_opposite_sides_cropped_may_take_the_whole_length() -> None:
    sides: tuple[Pair, Pair] = ((True, True), (False, False))
    assert target(placed(WORKED, box=(0, 0, 500, 625), cropped=sides)) == (100, 180, 900, 820)


def test_without_snapping_a_cropped_side_is_as_any_other() -> None:
    fields = {**WORKED, "snap_cropped_sides": "false"}
    assert target(placed(fields, box=(0, 0, 500, 500), cropped=BOTTOM)) == (180, 180, 820, 820)


@pytest.mark.parametrize(
    ("alignment", "snapped_across", "snapped_nowhere"), [("top", 180, 180), ("center", 320, 340), ("bottom", 460, 500)]
)
def test_an_alignment_turns_snapping_off_for_its_axis_alone(
    alignment: str, snapped_across: int, snapped_nowhere: int
) -> None:
    fields = {**WORKED, "vertical_alignment": alignment}
    sides: tuple[Pair, Pair] = ((True, False), (False, True))  # 720 wide, from the left margin; 640 high, as aligned
    found = target(placed(fields, box=(0, 0, 360, 720), cropped=sides))
    assert found == (100, snapped_across, 820, snapped_across + 360)
    assert target(placed(fields, box=(0, 0, 250, 500))) == (180, snapped_nowhere, 820, snapped_nowhere + 320)


@pytest.mark.parametrize(("alignment", "left"), [("left", 0), ("center", 250), ("right", 500)])
def test_horizontal_alignment_moves_what_is_narrower(alignment: str, left: int) -> None:
    fields = {**THOUSAND, "horizontal_alignment": alignment}
    assert target(placed(fields, box=(0, 0, 200, 100))) == (left, 0, left + 500, 1000)


def test_fill_covers_the_place_and_is_cut_at_the_margins() -> None:
    placement = placed({**WORKED, "scaling": "fill"})  # 4:3 in 640 x 640
    left, top, right, bottom = target(placement)
    assert (top, bottom) == (180, 820)
    assert right - left == 853
    assert left == 180 + (640 - 853) // 2
    assert (placement.horizontal.clip.start, placement.horizontal.clip.end) == (100, 900)


def test_fill_keeps_the_cropped_side() -> None:
    placement = placed({**WORKED, "scaling": "fill"}, box=(0, 0, 900, 320), cropped=BOTTOM)
    left, top, right, bottom = target(placement)
    assert (left, right, bottom) == (180, 820, 900)
    assert top == 900 - 1800


# limits


@pytest.mark.parametrize(
    "fields", [{"output_size": "20001x1"}, {"output_size": "1x20001"}, {"output_size": "10000x5001"}], ids=str
)
def test_a_canvas_above_the_limits_is_refused_and_told(fields: dict[str, Any]) -> None:
    with pytest.raises(OptionError) as caught:
        placed(fields)
    assert (caught.value.code, caught.value.data["field"]) == ("invalid_option", "output_size")
    for part in (fields["output_size"], "20000", "50000000"):
        assert part in caught.value.message


def test_a_cropped_subject_can_grow_over_the_limits_too() -> None:
    fields = {"crop": "1", "margin": "0.49", "padding": "0.49"}  # 400 px become 1,000,000
    with pytest.raises(OptionError, match="1000000x750000"):
        placed(fields)
    assert canvas(placed({**fields, "max_width": "20000", "max_height": "2500"})) == (3333, 2500)


def test_the_operators_limits_count() -> None:
    with pytest.raises(OptionError, match="999 pixels in all"):
        placed({"output_size": "40x25"}, limits=Limits(pixels=999))
    assert canvas(placed({"output_size": "37x27"}, limits=Limits(pixels=999))) == (37, 27)


# which sides are cropped


@pytest.mark.parametrize("level", [127, 128, 255])
@pytest.mark.parametrize("side", ["left", "right", "top", "bottom"])
def test_a_side_is_cropped_where_the_subject_touches_it(side: str, level: int) -> None:
    alpha = np.zeros((6, 8), np.uint8)
    at = {"left": np.s_[3, 0], "right": np.s_[3, 7], "top": np.s_[0, 3], "bottom": np.s_[5, 3]}[side]
    alpha[at] = level
    (left, right), (top, bottom) = cropped_sides(alpha)
    touched = {"left": left, "right": right, "top": top, "bottom": bottom}
    assert touched == {name: name == side and level >= 128 for name in touched}


def test_a_picture_of_one_pixel_touches_every_side() -> None:
    assert cropped_sides(np.full((1, 1), 255, np.uint8)) == ((True, True), (True, True))
    assert cropped_sides(np.zeros((1, 1), np.uint8)) == NONE
