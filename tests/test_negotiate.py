"""The Accept header: JSON or bytes, and which image type. Contract 1.3 and 8.8."""

from __future__ import annotations

import pytest

from deployments.ingress.negotiate import parse_accept, require
from mattehorn.errors import NotAcceptable

AXIOS = "application/json, text/plain, */*"
JQUERY = "application/json, */*; q=0.01"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


@pytest.mark.parametrize(
    ("header", "json"),
    [
        (None, False),
        ("", False),
        ("*/*", False),
        (AXIOS, False),
        (BROWSER, False),
        ("text/html", False),
        ("image/webp", False),
        ("application/json", True),
        (JQUERY, True),
        ("application/json;q=0.5, */*;q=0.4", True),
        ("application/json, image/png", False),
        ("application/json, image/png;q=0.9", True),
        ("application/json;q=0.9, image/*;q=0.9", False),
        ("application/json;q=0", False),
        ("APPLICATION/JSON", True),
        ("application/json;charset=utf-8", True),
    ],
)
def test_json_only_when_its_quality_is_strictly_the_highest(header: str | None, json: bool) -> None:
    assert parse_accept(header).wants_json is json


@pytest.mark.parametrize(
    ("header", "format"),
    [
        (None, None),
        ("*/*", None),
        ("image/*", None),
        ("image/webp", "webp"),
        ("image/jpeg", "jpg"),
        ("image/avif, */*;q=0.1", "avif"),
        ("image/webp, image/png", None),
        ("image/webp, image/png;q=0", "webp"),
        ("image/gif", None),
        ("text/html", None),
    ],
)
def test_one_concrete_image_type_picks_the_format(header: str | None, format: str | None) -> None:
    assert parse_accept(header).format == format


@pytest.mark.parametrize(
    "header", [None, "*/*", "image/*", "image/png", "text/html, image/png;q=0.1", "application/json", AXIOS, BROWSER]
)
def test_a_png_may_be_sent_for(header: str | None) -> None:
    require(parse_accept(header), ["image/png"])


@pytest.mark.parametrize("header", ["text/html", "image/webp", "image/png;q=0, image/*", "application/json;q=0"])
def test_a_png_may_not_be_sent_for(header: str) -> None:
    with pytest.raises(NotAcceptable) as caught:
        require(parse_accept(header), ["image/png"])
    assert "image/png" in caught.value.message


def test_a_concrete_range_overrules_a_wider_one() -> None:
    accept = parse_accept("image/png;q=0, image/*;q=0.5")
    assert not accept.allows("image/png")
    assert accept.allows("image/webp")
    assert not accept.allows("application/zip")


@pytest.mark.parametrize("header", ["nonsense", ";;,,;q=1", "a/b/c", ",", "/;q=x", "q=0.5"])
def test_a_malformed_header_never_fails(header: str) -> None:
    accept = parse_accept(header)
    assert accept.wants_json is False
    assert accept.format is None


def test_a_malformed_quality_counts_as_one_and_a_larger_one_too() -> None:
    assert parse_accept("image/png;q=high").ranges == {"image/png": 1.0}
    assert parse_accept("image/png;q=nan").ranges == {"image/png": 1.0}
    assert parse_accept("image/png;q=-2").ranges == {"image/png": 1.0}
    assert parse_accept("image/png;q=7").ranges == {"image/png": 1.0}
    assert parse_accept("image/png;q=0.250").ranges == {"image/png": 0.25}


def test_json_that_is_allowed_but_not_preferred_does_not_excuse_another_image_type() -> None:
    accept = parse_accept("image/webp, application/json;q=0.5")
    with pytest.raises(NotAcceptable):
        require(accept, ["image/png"])
    require(accept, ["image/webp"])
