"""The layout options: spellings, defaults, conflicts, and that nothing changes where none is sent."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from mattehorn.errors import ConflictingOptions, OptionError
from mattehorn.layout.options import LAYOUT_FIELDS
from mattehorn.layout.plan import CENTER, END, START, Inset, Layout
from mattehorn.options import Options, parse_options
from mattehorn.recipe.recipe import Recipe, find_recipe


def layout(**fields: Any) -> Layout:
    found = parse_options(fields).layout
    assert found is not None
    return found


@pytest.mark.parametrize("fields", [{}, {"dpi": "300"}, {"crop": "false"}, {"margin": ""}, {"scaling": None}], ids=str)
def test_without_a_layout_option_there_is_no_layout(fields: dict[str, Any]) -> None:
    assert parse_options(fields).layout is None


SENT: dict[str, Any] = {
    "output_size": "original",
    "max_width": 9,
    "max_height": 9,
    "reference_box": "subject",
    "snap_cropped_sides": True,
    "horizontal_alignment": "center",
    "vertical_alignment": "center",
    "scaling": "fit",
}


@pytest.mark.parametrize("name", [*LAYOUT_FIELDS, "crop"])
def test_any_layout_option_makes_a_layout_even_one_with_its_default(name: str) -> None:
    assert parse_options({name: SENT.get(name, "1" if name == "crop" else "0")}).layout is not None


def test_the_defaults_are_the_contracts() -> None:
    assert layout(output_size="original") == Layout()
    default = Layout()
    assert (default.size, default.reference, default.scaling, default.snap) == ("original", "subject", "fit", True)
    assert default.horizontal.margins == default.vertical.paddings == (Inset(), Inset())
    assert default.horizontal.anchor is None


@pytest.mark.parametrize(
    ("sent", "inset", "kept"),
    [
        ("0", Inset(), "0"),
        ("0px", Inset(), "0"),
        ("0.1", Inset(Fraction(1, 10)), "0.1"),
        (0.1, Inset(Fraction(1, 10)), "0.1"),
        (0, Inset(), "0"),
        ("10%", Inset(Fraction(1, 10)), "0.1"),
        (" 12.5% ", Inset(Fraction(1, 8)), "0.125"),
        ("0.49", Inset(Fraction(49, 100)), "0.49"),
        ("49%", Inset(Fraction(49, 100)), "0.49"),
        ("0.490", Inset(Fraction(49, 100)), "0.49"),
        ("100px", Inset(px=100), "100px"),
        ("007px", Inset(px=7), "7px"),
        (1e-5, Inset(Fraction(1, 100_000)), "0.00001"),
    ],
)
def test_margins_and_paddings_in_every_spelling_are_kept_in_one(sent: Any, inset: Inset, kept: str) -> None:
    options = parse_options({"margin": sent, "padding_left": sent})
    assert (options.margin, options.padding_left) == (kept, kept)
    assert options.layout is not None
    assert options.layout.horizontal.margins == options.layout.vertical.margins == (inset, inset)
    assert options.layout.horizontal.paddings == (inset, Inset())


WRONG_TEXTS = [
    "0.5",
    "50%",
    "49.1%",
    "-1",
    "-5px",
    "1",
    "100",
    "1.5px",
    "px",
    "%",
    "0.1.1",
    "10 %",
    "1e-2",
    "٣%",
    "nan",
]
WRONG_VALUES: list[Any] = ["100000px", True, 0.5, float("nan"), float("inf"), 10**400]


@pytest.mark.parametrize("sent", [*WRONG_TEXTS, *WRONG_VALUES], ids=lambda value: str(value)[:20])
def test_other_insets_are_refused_and_told_what_is_allowed(sent: Any) -> None:
    for name in ("margin", "padding_bottom"):
        with pytest.raises(OptionError) as caught:
            parse_options({name: sent})
        assert caught.value.data["field"] == name
        assert caught.value.message.startswith(f"{name} is ")
        if not isinstance(sent, bool):
            assert "allowed 0 to 0.49, a percentage like 30%, or whole pixels like 100px" in caught.value.message


def test_a_side_overrides_the_general_one() -> None:
    found = layout(margin="10%", margin_top="20px", margin_right="0", padding_left="1px")
    assert found.horizontal.margins == (Inset(Fraction(1, 10)), Inset())
    assert found.vertical.margins == (Inset(px=20), Inset(Fraction(1, 10)))
    assert found.horizontal.paddings == (Inset(px=1), Inset())


@pytest.mark.parametrize(
    ("sent", "size"),
    [
        ("original", "original"),
        (" Cropped_Subject ", "cropped_subject"),
        ("1000x800", (1000, 800)),
        ("1000X0800", (1000, 800)),
        ("1x1", (1, 1)),
        ("999999x1", (999_999, 1)),  # what may be made, the operator's limits say
    ],
)
def test_an_output_size_is_a_word_or_two_numbers(sent: str, size: Any) -> None:
    assert layout(output_size=sent).size == size
    assert layout(crop="yes").size == "cropped_subject"


@pytest.mark.parametrize(
    "sent", ["0x5", "5x0", "5", "x", "5x", "5x5x5", "-5x5", "5.5x5", "5 x 5", "auto", "9999999x1", "٣x٣"]
)
def test_another_output_size_is_refused(sent: str) -> None:
    with pytest.raises(OptionError, match="cropped_subject, or WxH") as caught:
        parse_options({"output_size": sent})
    assert caught.value.data["field"] == "output_size"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"crop": "1", "output_size": "cropped_subject"}, "crop"),
        ({"crop": "1", "output_size": "9x9"}, "crop"),
        ({"max_width": "5", "output_size": "9x9"}, "max_width"),
        ({"max_height": "5", "output_size": "9x9"}, "max_height"),
    ],
    ids=str,
)
def test_sizes_that_cannot_hold_together_conflict(fields: dict[str, str], field: str) -> None:
    with pytest.raises(ConflictingOptions) as caught:
        parse_options(fields)
    assert caught.value.data["field"] == field
    assert field in caught.value.message


@pytest.mark.parametrize("fields", [{"crop": "0", "output_size": "9x9"}, {"crop": "1", "max_width": "9"}], ids=str)
def test_sizes_that_hold_together_pass(fields: dict[str, str]) -> None:
    assert parse_options(fields).layout is not None


@pytest.mark.parametrize(
    ("name", "low", "high"), [("dpi", 72, 1200), ("max_width", 1, 100_000), ("max_height", 1, 100_000)]
)
def test_ranges_hold_at_their_ends_and_are_named(name: str, low: int, high: int) -> None:
    for value in (low, high):
        assert getattr(parse_options({name: str(value)}), name) == value
    for value in (low - 1, high + 1, "x", "72.5"):
        with pytest.raises(OptionError, match=f"allowed {low} to {high}"):
            parse_options({name: str(value)})


def test_alignments_are_kept_by_axis() -> None:
    found = layout(horizontal_alignment="left", vertical_alignment="bottom")
    assert (found.horizontal.anchor, found.vertical.anchor) == (START, END)
    found = layout(horizontal_alignment="right", vertical_alignment="center")
    assert (found.horizontal.anchor, found.vertical.anchor) == (END, CENTER)


def test_layout_options_are_kept_as_sent_and_not_filled_in() -> None:
    fields = {"margin": "10%", "output_size": "20X30"}
    assert parse_options(fields).model_dump(exclude_unset=True) == {"margin": "0.1", "output_size": "20x30"}
    stored = parse_options(fields).model_dump(exclude_none=True)
    assert parse_options(stored) == parse_options(fields)
    assert parse_options(Options().model_dump(exclude_none=True)).layout is None, "a stored result can be made again"


def test_a_recipe_without_layout_has_the_hash_it_had() -> None:
    assert find_recipe("transparent-web@1").hash == "410ad765f5807f45f4285bc517f913df764de9be9900409cac8491e34092f838"


def test_one_wish_has_one_hash_however_it_is_written() -> None:
    hashes = {Recipe("a", 1, {"margin": sent}).hash for sent in ("10%", "0.1", 0.1, "0.10")}
    assert len(hashes) == 1
    assert hashes != {Recipe("a", 1).hash}
