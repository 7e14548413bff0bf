"""What a caller asks for: defaults, loose spellings, checks, and messages that say what came and what is allowed."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from mattehorn.colour import BACKGROUND_TEMPLATES
from mattehorn.errors import ConflictingOptions, OptionError, UnknownOption
from mattehorn.options import Options, one_spelling, parse_options


def refused(fields: dict[str, Any], **kwargs: Any) -> OptionError:
    with pytest.raises(OptionError) as caught:
        parse_options(fields, **kwargs)
    return caught.value


def test_defaults_are_the_contracts() -> None:
    options = parse_options({})
    assert options == Options()
    assert (options.kind, options.format, options.encode_quality) == ("cutout", None, 90)
    assert (options.alpha_threshold, options.refine, options.foreground) == (10, "guided", "estimate")
    assert (options.erode_px, options.feather_px) == (0, 0)  # an ADR says why not 1
    assert (options.existing_alpha, options.background_scaling) == ("multiply", "fill")
    assert (options.shadow, options.shadow_opacity, options.shadow_blur_px, options.offset_px) == (
        "none",
        40,
        12,
        (0, 8),
    )
    assert (options.store, options.inline, options.allow_empty, options.include) == (False, True, False, None)


def test_every_option_is_described() -> None:
    undescribed = [name for name, info in Options.model_fields.items() if not info.description]
    assert set(undescribed) <= {"shadow_blur_px"}


def test_an_empty_string_and_none_mean_not_sent() -> None:
    assert parse_options(dict.fromkeys(Options.model_fields, "")) == Options()
    assert parse_options(dict.fromkeys(Options.model_fields)) == Options()
    assert parse_options({"nonsense": "", "more": None}) == Options()


@pytest.mark.parametrize("yes", ["true", "TRUE", "1", "yes", "Yes", "on", True, 1])
@pytest.mark.parametrize("no", ["false", "False", "0", "no", "off", "OFF", False, 0])
def test_booleans_in_every_spelling(yes: Any, no: Any) -> None:
    options = parse_options({"store": yes, "allow_empty": no})
    assert (options.store, options.allow_empty) == (True, False)


@pytest.mark.parametrize(
    ("sent", "radius"),
    [
        ("true", 1),
        (True, 1),
        ("on", 1),
        ("false", 0),
        (False, 0),
        ("No", 0),
        ("1", 1),
        ("2.5", 2.5),
        (3, 3),
        (" 4 ", 4),
    ],
)
def test_radii_are_numbers_or_booleans(sent: Any, radius: float) -> None:
    options = parse_options({"erode_px": sent, "feather_px": sent})
    assert (options.erode_px, options.feather_px) == (radius, radius)


@pytest.mark.parametrize("sent", ["jpg", "jpeg", "JPEG", " Jpg "])
def test_jpeg_has_two_spellings(sent: str) -> None:
    assert parse_options({"format": sent, "output": "alpha"}).format == "jpg"


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("encode_quality", 1, 100),
        ("alpha_threshold", 0, 254),
        ("erode_px", 0, 20),
        ("feather_px", 0, 50),
        ("background_blur_px", 0.5, 200),
        ("shadow_opacity", 0, 100),
        ("shadow_blur_px", 0, 200),
    ],
)
def test_ranges_hold_at_their_ends_and_are_named(name: str, low: float, high: float) -> None:
    for value in (low, high):
        assert getattr(parse_options({name: str(value)}), name) == value
    for value in (low - 1, high + 1, "nan", "inf", "-inf", "1e999", "x"):
        error = refused({name: str(value)})
        assert error.data["field"] == name
        assert error.message.startswith(f"{name} is {value}; allowed {low} to {high}"[: len(f"{name} is {value}; ")])
        if value not in ("x", "nan"):
            assert f"{high}" in error.message


def test_the_contracts_example_of_a_message() -> None:
    assert refused({"feather_px": 99}).message == "feather_px is 99; allowed 0 to 50."


@pytest.mark.parametrize(
    ("fields", "allowed"),
    [
        ({"output": "mask"}, "cutout, alpha, composite or zip"),
        ({"format": "gif"}, "png, webp, jpg or avif"),
        ({"refine": "x"}, "none, guided or matting"),
        ({"store": "maybe"}, "true or false"),
        ({"background_template": "x"}, ", ".join(BACKGROUND_TEMPLATES)),
        ({"background_color": "reddish"}, "hex"),
        ({"roi": "1 2 3"}, "x1 y1 x2 y2"),
        ({"shadow_offset": "1"}, "x y"),
        ({"name": "a/b"}, "separators"),
        ({"sku": "x" * 201}, "200"),
    ],
    ids=str,
)
def test_a_bad_value_is_told_with_what_is_allowed(fields: dict[str, str], allowed: str) -> None:
    error = refused(fields)
    (name,) = fields
    assert error.code == "invalid_option"
    assert error.data["field"] == name
    assert error.message.startswith(f"{name} is ")
    assert allowed in error.message
    assert error.message.endswith(".")
    assert not error.message.endswith("..")


def test_a_long_value_is_shortened_and_a_nested_one_not_spelled_out() -> None:
    assert len(refused({"roi": "x" * 100_000}).message) < 300
    nested: Any = []
    for _ in range(5000):
        nested = [nested]
    assert "a list or object" in refused({"roi": nested}).message
    assert "a list or object" in refused({"store": {"a": 1}}).message


def test_an_unknown_option_is_told_with_what_there_is() -> None:
    error = refused({"feather": "1"})
    assert isinstance(error, UnknownOption)
    assert error.data["field"] == "feather"
    assert "feather_px" in error.message


def test_several_bad_fields_have_one_entry_each() -> None:
    error = refused({"feather": "1", "roi": "x", "encode_quality": "0"})
    assert type(error) is OptionError
    assert error.data["field"] in ("roi", "encode_quality")
    assert {entry["field"]: entry["code"] for entry in error.data["details"]} == {
        "feather": "unknown_option",
        "roi": "invalid_option",
        "encode_quality": "invalid_option",
    }
    assert isinstance(refused({"a": "1", "b": "2"}), UnknownOption)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"background_color": "red", "background_blur_px": "2"}, "background_blur_px"),
        ({"background_color": "red", "output": "cutout"}, "background_color"),
        ({"background_template": "mint", "output": "alpha"}, "background_template"),
        ({"background_gradient": "radial red blue", "output": "zip"}, "background_gradient"),
        ({"shadow": "drop"}, "shadow"),
        ({"shadow": "contact", "output": "alpha"}, "shadow"),
        ({"format": "jpg"}, "format"),
        ({"format": "jpg", "output": "cutout"}, "format"),
        ({"format": "png", "output": "zip"}, "format"),
        ({"store_alpha": "1"}, "store_alpha"),
        ({"store_source": "1"}, "store_source"),
        ({"inline": "0"}, "inline"),
    ],
    ids=str,
)
def test_options_that_cannot_hold_together_conflict(fields: dict[str, str], field: str) -> None:
    error = refused(fields)
    assert isinstance(error, ConflictingOptions)
    assert error.data["field"] == field
    assert field in error.message


@pytest.mark.parametrize(
    "fields",
    [
        {"background_color": "red", "output": "composite", "format": "jpg", "shadow": "drop"},
        {"background_color": "transparent", "shadow": "contact"},
        {"output": "alpha", "format": "jpg"},
        {"store": "1", "inline": "0", "store_alpha": "1", "store_source": "1"},
        {"output": "zip", "include": "alpha"},
    ],
    ids=str,
)
def test_options_that_hold_together_pass(fields: dict[str, str]) -> None:
    parse_options(fields)


def test_a_background_makes_a_composite() -> None:
    for fields in ({"background_color": "#fff"}, {"background_blur_px": "2"}, {"background_template": "mint"}):
        assert parse_options(fields).kind == "composite"
    assert parse_options({}, background_file=True).kind == "composite"
    assert parse_options({"output": "composite"}).kind == "composite"


@pytest.mark.parametrize(
    "fields",
    [{"background_color": "red"}, {"output": "cutout"}, {"output": "zip"}, {"background_blur_px": "3"}],
    ids=str,
)
def test_a_background_file_conflicts_like_any_other_background(fields: dict[str, str]) -> None:
    error = refused(fields, background_file=True)
    assert isinstance(error, ConflictingOptions)
    assert error.data["field"] == "background_file"


def test_a_bad_output_beside_a_background_file_is_told_as_such() -> None:
    assert refused({"output": "mask"}, background_file=True).data["field"] == "output"


@pytest.mark.parametrize(
    ("roi", "box"),
    [
        ("10 20 30 40", (10, 20, 30, 40)),
        ("10px 20px 30px 40px", (10, 20, 30, 40)),
        ("10% 20% 30% 40%", (20, 20, 60, 40)),
        ("0 0 100% 100%", (0, 0, 200, 100)),
        ("5 5 900 900", (5, 5, 200, 100)),
        ("  1  2\t3 4 ", (1, 2, 3, 4)),
        ("10.4 10.6 20 20", (10, 11, 20, 20)),
        ("0% 0% 250% 100%", (0, 0, 200, 100)),
    ],
)
def test_a_region_is_in_pixels_of_the_photo(roi: str, box: tuple[int, int, int, int]) -> None:
    assert parse_options({"roi": roi}).roi_box(200, 100) == box


def test_no_region_is_the_whole_photo() -> None:
    assert Options().roi_box(200, 100) is None


@pytest.mark.parametrize(
    "roi", ["1 2 3", "1 2 3 4 5", "a b c d", "-1 0 5 5", "1,2,3,4", "1 2 3 4em", "1e3 0 5 5", "١ 2 3 4"]
)
def test_a_region_of_another_form_is_refused(roi: str) -> None:
    assert refused({"roi": roi}).data["field"] == "roi"


@pytest.mark.parametrize(
    ("sent", "offset"), [("0 8", (0, 8)), ("-3 -4", (-3, -4)), ("10px 20px", (10, 20)), (" 1   2 ", (1, 2))]
)
def test_a_shadows_offset_is_two_whole_numbers(sent: str, offset: tuple[int, int]) -> None:
    assert parse_options({"shadow_offset": sent}).offset_px == offset


@pytest.mark.parametrize("name", ["a/b", "a\\b", "a\0b", "a\nb", "\x7f", "x" * 201])
def test_names_cannot_hold_separators_or_controls(name: str) -> None:
    assert refused({"name": name}).data["field"] == "name"
    assert refused({"sku": name}).data["field"] == "sku"


def test_names_may_be_in_any_script() -> None:
    assert parse_options({"name": "红鞋 – №1", "sku": "A.1-b"}).name == "红鞋 – №1"


def test_options_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValidationError):
        Options().store = True


@pytest.mark.parametrize(
    ("name", "sent", "kept"),
    [
        ("background_color", "White", "#ffffff"),
        ("background_gradient", "-90deg fff 0%, 000", "270deg #ffffff #000000"),
        ("roi", " 010.50% 1 2.0px 30 ", "10.5% 1px 2px 30px"),
        ("shadow_offset", "-0px  08px", "0 8"),
        ("background_blur_px", "3", 3.0),
    ],
)
def test_a_value_has_one_spelling(name: str, sent: str, kept: Any) -> None:
    assert getattr(parse_options({name: sent}), name) == kept == one_spelling(name, sent)


def test_what_is_no_value_stays_as_it_came() -> None:
    assert one_spelling("roi", "1 2") == "1 2"
    assert one_spelling("\ud800", "1") == "1"
