"""Whatever a caller sends is answered: options give Options or OptionError, the API never answers 5xx."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mattehorn.errors import OptionError
from mattehorn.options import Options, parse_options
from tests.api_client import Client
from tests.service import encoded, photo

PHOTO = encoded(photo(16, 12))
NAMES = [*Options.model_fields, "file", "image", "image_file", "background_file", "image_base64", "shiny"]
NAMES += ["image_url", "result_id", "background_url"]  # no value here is an address, and the client knows no names
GOOD: dict[str, list[str]] = {
    "output": ["cutout", "alpha", "composite", "zip"],
    "format": ["png", "jpg", "webp", "avif"],
    "roi": ["1 2 9 9", "0% 0% 50% 50%", "9 9 1 1", "0 0 999 999", "15 11 16 12"],
    "encode_quality": ["1", "100"],
    "background_color": ["#fff", "#fff8", "transparent", "red"],
    "background_gradient": ["90deg red blue", "radial #fff 0% #0008 100%"],
    "background_template": ["studio-white", "night"],
    "background_blur_px": ["0.5", "200"],
    "shadow": ["none", "drop", "contact"],
    "shadow_opacity": ["0", "100"],
    "shadow_blur_px": ["0", "200"],
    "shadow_offset": ["0 8", "-9999 9999"],
    "alpha_threshold": ["0", "128", "254"],
    "erode_px": ["0", "0.5", "20", "true"],
    "feather_px": ["0", "0.3", "50", "true"],
    "refine": ["none", "guided", "matting"],
    "foreground": ["estimate", "original"],
    "existing_alpha": ["multiply", "trust", "ignore"],
    "store": ["true", "0"],
    "store_alpha": ["true", "0"],
    "name": ["a", "鞋", "..", "."],
    "sku": ["A-1", "%", "~"],
    "include": ["alpha"],
    "inline": ["true", "false"],
    "allow_empty": ["true", "0"],
    "model": ["fake", "fake@1", "auto"],
    "output_size": ["original", "cropped_subject", "30x20", "1x1", "1x200"],
    "crop": ["true", "0"],
    "max_width": ["1", "9", "100000"],
    "max_height": ["1", "9", "100000"],
    "reference_box": ["subject", "original"],
    "margin": ["0", "0.49", "10%", "1px", "99999px"],
    "margin_left": ["0", "0.49", "3px"],
    "padding": ["0", "0.49", "10%", "1px", "99999px"],
    "padding_bottom": ["0", "0.49", "3px"],
    "snap_cropped_sides": ["true", "false"],
    "horizontal_alignment": ["left", "center", "right"],
    "vertical_alignment": ["top", "center", "bottom"],
    "scaling": ["fit", "fill"],
    "dpi": ["72", "1200"],
}
# they may ask for a canvas that leaves no pixel for the subject, or that is too large, or contradict each other
MAY_NOT_FIT = ("output_size", "crop", "margin", "margin_left", "padding", "padding_bottom")
BAD = ["-1", "nan", "inf", "1e999", "9" * 20, "gif", "a/b", "", " ", "\0", "[]", "null"]
TELLING = st.sampled_from([*BAD, *(value for values in GOOD.values() for value in values)])
LOOSE = st.one_of(TELLING, st.text(max_size=30))
FIELDS = st.dictionaries(st.one_of(st.sampled_from(NAMES), st.text(max_size=12)), LOOSE, max_size=6)
GOOD_FIELDS = st.fixed_dictionaries({}, optional={name: st.sampled_from(values) for name, values in GOOD.items()})
JSON_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), LOOSE),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=5,
)
PHOTOS = st.one_of(
    st.just(PHOTO),
    st.binary(max_size=60),
    st.integers(0, len(PHOTO)).map(lambda end: PHOTO[:end]),
    st.tuples(st.integers(0, len(PHOTO) - 1), st.integers(0, 255)).map(
        lambda change: PHOTO[: change[0]] + bytes([change[1]]) + PHOTO[change[0] + 1 :]
    ),
)
MEDIA_TYPES = st.sampled_from(
    [
        "image/png",
        "application/octet-stream",
        "application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=y",
        "multipart/form-data",
        "text/plain",
        "",
    ]
)
ACCEPTS = st.sampled_from(
    ["*/*", "application/json", "image/webp", "image/jpeg", "text/html", "image/*;q=0.5, */*;q=0"]
)
QUIET = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]


@given(FIELDS, st.booleans())
@settings(max_examples=400, deadline=None, suppress_health_check=QUIET)
def test_any_text_gives_options_or_an_option_error(fields: dict[str, str], background_file: bool) -> None:
    try:
        options = parse_options(fields, background_file=background_file)
    except OptionError as error:
        told = error.data.get("details") or [
            {"field": error.data["field"], "message": error.message, "code": error.code}
        ]
        for entry in told:
            assert entry["message"].endswith(".")
            assert len(entry["message"]) < 1000
    else:
        assert isinstance(options, Options)
        assert options.kind in ("cutout", "alpha", "composite", "zip")
        check_region(options)


def check_region(options: Options) -> None:
    try:
        box = options.roi_box(16, 12)
    except OptionError:
        return
    if box is not None:
        left, top, right, bottom = box
        assert 0 <= left < right <= 16
        assert 0 <= top < bottom <= 12


@given(st.dictionaries(st.one_of(st.sampled_from(NAMES), st.text(max_size=5)), JSON_VALUES, max_size=5))
@settings(max_examples=300, deadline=None, suppress_health_check=QUIET)
def test_any_json_values_give_options_or_an_option_error(fields: dict[str, Any]) -> None:
    error = None
    try:
        parse_options(fields)
    except OptionError as caught:
        error = caught
    assert error is None or error.message.endswith(".")


def check(response: Any) -> None:
    assert response.status_code < 500, response.text
    assert response.headers["x-request-id"]
    if response.status_code != 200:
        error = response.json()["error"]
        assert error["code"] not in ("internal", "")
        assert error["message"]
        assert error["request_id"] == response.headers["x-request-id"]


@given(photo=PHOTOS, fields=FIELDS, part=st.sampled_from(["file", "image", "background_file", "x"]), accept=ACCEPTS)
@settings(max_examples=120, deadline=None, suppress_health_check=QUIET)
def test_any_form_is_answered(client: Client, photo: bytes, fields: dict[str, str], part: str, accept: str) -> None:
    files = {part: ("p.png", photo)} | ({"file": ("a.png", PHOTO)} if part == "background_file" else {})
    check(client.post("/v1/mattes", files=files, data=fields, headers={"accept": accept}))


SHAPES = [(16, 12), (1, 1), (300, 1), (1, 300), (2, 3), (40, 30)]
WITH_ALPHA = encoded(np.dstack((photo(16, 12), np.linspace(0, 255, 192).reshape(12, 16).astype(np.uint8))))
WHOLE = [WITH_ALPHA, *(encoded(photo(*shape)) for shape in SHAPES)]


@given(photo=st.sampled_from(WHOLE), fields=GOOD_FIELDS, background=st.sampled_from([None, *WHOLE]))
@settings(max_examples=150, deadline=None, suppress_health_check=QUIET)
def test_any_photo_with_any_good_options_is_answered(
    client: Client, photo: bytes, fields: dict[str, str], background: bytes | None
) -> None:
    files = {"file": ("p.png", photo)} | ({} if background is None else {"background_file": ("b.png", background)})
    response = client.post("/v1/mattes", files=files, data=fields)
    check(response)
    assert response.status_code in (200, 422)


@given(fields=GOOD_FIELDS, photo=st.sampled_from(WHOLE))
@settings(max_examples=100, deadline=None, suppress_health_check=QUIET)
def test_good_options_that_do_not_conflict_give_an_answer(client: Client, photo: bytes, fields: dict[str, str]) -> None:
    backgrounds = [name for name in fields if name.startswith("background")]
    for name in ("roi", "format", "inline", "store_alpha", *MAY_NOT_FIT, *backgrounds):
        fields.pop(name, None)
    if fields.get("output") != "composite":
        fields.pop("shadow", None)
    fields["allow_empty"] = "true"
    response = client.post("/v1/mattes", files={"file": ("p.png", photo)}, data=fields)
    assert response.status_code == 200, response.text


@given(photo=PHOTOS, fields=FIELDS)
@settings(max_examples=60, deadline=None, suppress_health_check=QUIET)
def test_any_raw_photo_with_any_query_is_answered(client: Client, photo: bytes, fields: dict[str, str]) -> None:
    check(client.post("/v1/mattes", content=photo, params=fields, headers={"content-type": "image/png"}))


@given(body=st.binary(max_size=200), media_type=MEDIA_TYPES)
@settings(max_examples=150, deadline=None, suppress_health_check=QUIET)
def test_any_bytes_under_any_media_type_are_answered(client: Client, body: bytes, media_type: str) -> None:
    check(client.post("/v1/mattes", content=body, headers={"content-type": media_type} if media_type else {}))


@given(st.dictionaries(st.one_of(st.sampled_from(NAMES), st.text(max_size=5)), JSON_VALUES, max_size=5))
@settings(max_examples=100, deadline=None, suppress_health_check=QUIET)
def test_any_json_is_answered(client: Client, value: dict[str, Any]) -> None:
    # json.dumps writes NaN and Infinity too, which Python reads back
    check(client.post("/v1/mattes", content=json.dumps(value), headers={"content-type": "application/json"}))


@given(photo=PHOTOS, fields=FIELDS, path=st.sampled_from(["/api/matting", "/remove_background"]))
@settings(max_examples=60, deadline=None, suppress_health_check=QUIET)
def test_the_articles_endpoints_answer_any_form(
    client: Client, photo: bytes, fields: dict[str, str], path: str
) -> None:
    renamed = {"feather_px": "feather", "erode_px": "erode", "format": "output_format", "store_alpha": "save_alpha"}
    data = {renamed.get(name, name): value for name, value in fields.items()}
    check(client.post(path, files={"image": ("p.png", photo)}, data=data))


@given(accept=st.one_of(st.text(max_size=40), st.sampled_from(["a/b;q=", "*/*;q=1e9", ";", "application/json;q=.5"])))
@settings(max_examples=60, deadline=None, suppress_health_check=QUIET)
def test_any_accept_header_is_answered(client: Client, accept: str) -> None:
    raw = [(b"accept", accept.encode("utf-8", "replace").replace(b"\r", b"").replace(b"\n", b"").replace(b"\0", b""))]
    check(client.post("/v1/mattes", files={"file": ("p.png", PHOTO)}, headers=raw))


@given(path=st.text(max_size=30))
@settings(max_examples=60, deadline=None, suppress_health_check=QUIET)
def test_any_result_id_is_answered(client: Client, path: str) -> None:
    from urllib.parse import quote

    check(client.get("/v1/results/" + quote(path, safe="")))
