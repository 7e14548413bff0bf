"""From an HTTP body to pictures and loose fields: every form of the contract, and every way to get it wrong."""

from __future__ import annotations

import asyncio
import base64
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from starlette.requests import Request
from starlette.types import Message

from deployments.ingress.bodies import Body, read_body, read_form
from mattehorn.errors import (
    BodyTooLarge,
    InvalidBody,
    MattehornError,
    MissingImage,
    MultipleImages,
    OptionError,
    UnsupportedMediaType,
)
from mattehorn.fetch.sources import Source
from mattehorn.settings import Limits

PHOTO = bytes(range(256)) * 5
URL_SAFE = base64.urlsafe_b64encode(PHOTO).decode()
PLAIN = base64.b64encode(PHOTO).decode()
SMALL = Limits(fields=3, field_bytes=100, files=2, body_bytes=2000)


def http_request(**kwargs: Any) -> Request:
    """A server's view of what httpx would send; the body comes in pieces of 100 bytes."""
    sent = httpx.Request("POST", "http://test/v1/mattes", **kwargs)
    body = sent.read()
    pieces = [body[at : at + 100] for at in range(0, len(body), 100)] or [b""]

    async def receive() -> Message:
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    scope = {
        "type": "http",
        "method": "POST",
        "path": sent.url.path,
        "query_string": sent.url.query,
        "headers": [(name.lower(), value) for name, value in sent.headers.raw],
        "app": None,  # present under a server: Starlette then raises HTTPException
    }
    return Request(scope, receive)


def read(limits: Limits | None = None, **kwargs: Any) -> Body:
    return asyncio.run(read_body(http_request(**kwargs), limits or Limits()))


def form(*parts: tuple[str, Any]) -> Any:
    """httpx's `files=` in order; text as a plain field."""
    return [(name, (None, value) if isinstance(value, str) else value) for name, value in parts]


@pytest.mark.parametrize("part", ["file", "image", "image_file"])
def test_a_form_gives_the_photo_its_name_and_its_fields(part: str) -> None:
    body = read(files=form(("format", "webp"), (part, ("my photo.jpg", PHOTO)), ("roi", "1 2 3 4"), ("sku", "")))
    assert body == Body(PHOTO, "my photo.jpg", None, {"format": "webp", "roi": "1 2 3 4"})


def test_a_background_file_comes_beside_the_photo() -> None:
    body = read(files=form(("background_file", ("b.png", b"behind")), ("file", ("a.png", PHOTO))))
    assert (body.photo, body.background) == (PHOTO, b"behind")


def test_an_empty_file_part_is_one_that_was_not_sent() -> None:
    body = read(files=form(("file", ("", b"")), ("background_file", ("", b"")), ("image", ("a.png", PHOTO))))
    assert (body.photo, body.background) == (PHOTO, None)


@pytest.mark.parametrize("content_type", ["image/jpeg", "image/anything", "application/octet-stream", "IMAGE/PNG; q=1"])
def test_a_raw_body_is_the_photo_and_the_query_its_options(content_type: str) -> None:
    body = read(content=PHOTO, headers={"content-type": content_type}, params={"format": "webp", "sku": "A 1"})
    assert body == Body(PHOTO, "", None, {"format": "webp", "sku": "A 1"})


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        URL_SAFE,
        PLAIN.rstrip("="),
        URL_SAFE.rstrip("="),
        "data:image/png;base64," + PLAIN,
        "  data:;base64, " + PLAIN,
        "\r\n".join(PLAIN[at : at + 76] for at in range(0, len(PLAIN), 76)) + "\n",
    ],
    ids=["plain", "url-safe", "no padding", "url-safe, no padding", "data url", "short data url", "line breaks"],
)
def test_base64_in_every_spelling_gives_the_same_photo(text: str) -> None:
    assert read(json={"image_base64": text, "format": "webp"}) == Body(PHOTO, fields={"format": "webp"})
    assert read(data={"image_base64": text, "format": "webp"}) == Body(PHOTO, fields={"format": "webp"})


def test_json_values_keep_their_types() -> None:
    body = read(json={"image_base64": PLAIN, "store": True, "erode_px": 2.5, "roi": None})
    assert body.fields == {"store": True, "erode_px": 2.5, "roi": None}


@pytest.mark.parametrize(
    "sent",
    [
        {},
        {"content": b"", "headers": {"content-type": "image/png"}},
        {"content": b"", "headers": {"content-type": "application/json"}},
        {"content": b"", "headers": {"content-type": "application/x-www-form-urlencoded"}},
        {"content": b"", "headers": {"content-type": "multipart/form-data; boundary=x"}},
        {"files": form(("format", "webp"))},
        {"files": form(("file", ("", b"")))},
        {"files": form(("background_file", ("b.png", b"behind")))},
        {"json": {"format": "png"}},
        {"json": {"image_base64": ""}},
        {"json": {"image_base64": None}},
        {"data": {"format": "png"}},
    ],
    ids=str,
)
def test_without_a_photo_it_is_missing(sent: dict[str, Any]) -> None:
    with pytest.raises(MissingImage):
        read(**sent)


def test_text_in_the_file_part_says_how_to_send_a_file() -> None:
    with pytest.raises(MissingImage, match="-F file=@"):
        read(files=form(("file", "photo.jpg")))


def test_two_photos_are_too_many() -> None:
    with pytest.raises(MultipleImages):
        read(files=form(("file", ("a", b"1")), ("image", ("b", b"2"))))
    with pytest.raises(MultipleImages):
        read(files=form(("file", ("a", b"1")), ("file", ("b", b"2"))))


@pytest.mark.parametrize(
    "sent",
    [
        {"content": b"{", "headers": {"content-type": "application/json"}},
        {"content": b"\xff\xfe", "headers": {"content-type": "application/json"}},
        {"content": b"[" * 100_000, "headers": {"content-type": "application/json"}},
        {"content": b'{"a":' + b"9" * 5000 + b"}", "headers": {"content-type": "application/json"}},
        {"json": [1, 2]},
        {"json": "text"},
        {"json": {"image_base64": 7}},
        {"json": {"image_base64": ["a"]}},
        {"json": {"image_base64": "not base64!"}},
        {"json": {"image_base64": "ÄÖÜ"}},
        {"json": {"image_base64": "A"}},
        {"content": b"\xff=\xfe", "headers": {"content-type": "application/x-www-form-urlencoded"}},
        {"content": b"xx", "headers": {"content-type": "multipart/form-data"}},
        {"content": b"xx", "headers": {"content-type": "multipart/form-data; boundary=y"}},
        {"content": b"--y\r\n\r\nx\r\n--y--", "headers": {"content-type": "multipart/form-data; boundary=y"}},
    ],
    ids=lambda sent: str(sent)[:60],
)
def test_a_body_that_cannot_be_read_is_invalid(sent: dict[str, Any]) -> None:
    with pytest.raises(InvalidBody):
        read(**sent)


def test_a_form_that_is_cut_off_anywhere_is_invalid_and_its_last_line_break_may_be_missing() -> None:
    head = b'--y\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
    whole = head + PHOTO[:200] + b'\r\n--y\r\nContent-Disposition: form-data; name="output"\r\n\r\nalpha\r\n--y--'
    headers = {"content-type": "multipart/form-data; boundary=y"}
    for sent in (whole, whole + b"\r\n", whole + b"\r\nepilogue"):
        assert read(content=sent, headers=headers) == Body(PHOTO[:200], "a.png", None, {"output": "alpha"})
    for end in range(1, len(whole)):
        with pytest.raises(InvalidBody, match="before its last boundary"):
            read(content=whole[:end], headers=headers)


@pytest.mark.parametrize("charset", ["punycode", "idna", "utf-7", "base64", "zlib", "no-such", "unicode_escape", "a b"])
def test_a_strange_charset_is_never_an_internal_error(charset: str) -> None:
    lines = (
        b"--y",
        b'Content-Disposition: form-data; name="x+2AA-"; filename="+2AA-\xff-9\\\\x"',
        b"",
        b"\xff\\",
        b"--y",
        b'Content-Disposition: form-data; name="sku"',
        b"",
        b"\xff\\x+2AA-",
        b"--y--",
        b"",
    )
    headers = {"content-type": f"multipart/form-data; boundary=y; charset={charset}"}
    with pytest.raises(MattehornError) as caught:
        read(content=b"\r\n".join(lines), headers=headers)
    assert caught.value.status < 500


@pytest.mark.parametrize("media_type", ["text/plain", "text/html; charset=utf-8", "application/xml", "video/mp4"])
def test_another_media_type_is_named_with_what_is_allowed(media_type: str) -> None:
    with pytest.raises(UnsupportedMediaType, match=r"multipart/form-data") as caught:
        read(content=PHOTO, headers={"content-type": media_type})
    assert media_type.partition(";")[0] in caught.value.message


def test_a_body_without_a_media_type_is_unsupported() -> None:
    with pytest.raises(UnsupportedMediaType, match="missing"):
        read(content=PHOTO)


@pytest.mark.parametrize("sent", [{"files": form(("file", ("a", PHOTO)))}, {"json": {"image_base64": PLAIN}}])
def test_options_in_the_query_of_another_body_are_refused_by_name(sent: dict[str, Any]) -> None:
    with pytest.raises(OptionError) as caught:
        read(params={"format": "webp"}, **sent)
    assert caught.value.data["field"] == "format"


@pytest.mark.parametrize(
    "sent",
    [
        {"files": form(("file", ("a", PHOTO)), ("roi", "1 2 3 4"), ("roi", "5 6 7 8"))},
        {"content": PHOTO, "headers": {"content-type": "image/png"}, "params": [("roi", "1"), ("roi", "2")]},
        {
            "content": b"image_base64=AAAA&roi=1&roi=2",
            "headers": {"content-type": "application/x-www-form-urlencoded"},
        },
    ],
    ids=["form", "query", "urlencoded"],
)
def test_a_field_sent_twice_is_refused_by_name(sent: dict[str, Any]) -> None:
    with pytest.raises(OptionError) as caught:
        read(**sent)
    assert caught.value.data["field"] == "roi"


@pytest.mark.parametrize("pairs", [[("roi", ""), ("roi", "1")], [("roi", "1"), ("roi", "")]], ids=["first", "last"])
def test_an_empty_twin_is_one_that_was_not_sent(pairs: list[tuple[str, str]]) -> None:
    form_type = {"content-type": "application/x-www-form-urlencoded"}
    encoded = urlencode([("image_base64", PLAIN), *pairs])
    raw = {"content-type": "image/png"}
    assert read(files=form(("file", ("a", PHOTO)), *pairs)).fields == {"roi": "1"}
    assert read(content=encoded.encode(), headers=form_type).fields == {"roi": "1"}
    assert read(content=PHOTO, headers=raw, params=pairs).fields == {"roi": "1"}
    assert read(files=form(("file", ("a", PHOTO))), params={"format": ""}).fields == {}


def test_an_unknown_file_part_is_refused_by_name() -> None:
    with pytest.raises(OptionError) as caught:
        read(files=form(("file", ("a", PHOTO)), ("mask", ("m", b"x"))))
    assert caught.value.data["field"] == "mask"


def test_two_backgrounds_are_refused() -> None:
    with pytest.raises(OptionError) as caught:
        read(files=form(("file", ("a", PHOTO)), ("background_file", ("b", b"x")), ("background_file", ("c", b"y"))))
    assert caught.value.data["field"] == "background_file"


def test_a_form_of_the_photo_only_leaves_other_file_parts_aside() -> None:
    sent = form(("image", ("a", PHOTO)), ("mask", ("m", b"x")), ("background_file", ("b", b"y")), ("q", "1"))
    body = asyncio.run(read_form(http_request(files=sent), Limits(), photo_only=True))
    assert body == Body(PHOTO, "a", None, {"q": "1"})


def test_limits_of_a_form_hold_at_their_edge() -> None:
    fits = form(("file", ("a", PHOTO)), ("a", "1"), ("b", "2"), ("c", "x" * 100))
    assert read(SMALL, files=fits).fields["c"] == "x" * 100
    for sent in (
        form(("file", ("a", PHOTO)), ("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")),
        form(("file", ("a", PHOTO)), ("a", "x" * 101)),
        form(("file", ("a", b"1")), ("image", ("b", b"2")), ("background_file", ("c", b"3"))),
    ):
        with pytest.raises(InvalidBody):
            read(SMALL, files=sent)


def test_urlencoded_fields_are_limited_in_number() -> None:
    with pytest.raises(InvalidBody):
        read(SMALL, data={"image_base64": PLAIN, "a": "1", "b": "2", "c": "3"})


def test_a_photo_that_is_named_stays_to_be_fetched() -> None:
    url, id = "http://shop.example/cup.jpg", "0" * 26
    for kind, text in (("image_url", url), ("result_id", id)):
        expected = Body(b"", fields={"format": "webp"}, source=Source(kind, text))
        fields = {kind: text, "format": "webp", "background_url": ""}
        assert read(json=fields) == read(data=fields) == read(files=form(*fields.items())) == expected


def test_the_url_of_a_background_comes_beside_any_photo() -> None:
    url = "http://shop.example/wood.jpg"
    raw = read(content=PHOTO, headers={"content-type": "image/png"}, params={"background_url": url})
    assert raw == read(json={"image_base64": PLAIN, "background_url": url}) == Body(PHOTO, background_url=url)
    sent = read(files=form(("file", ("a", PHOTO)), ("background_url", url)))
    assert sent == Body(PHOTO, "a", background_url=url)


@pytest.mark.parametrize(
    "sent",
    [
        {"files": form(("file", ("a", PHOTO)), ("image_url", "http://shop.example/"))},
        {"content": PHOTO, "headers": {"content-type": "image/png"}, "params": {"result_id": "0" * 26}},
        {"json": {"image_base64": PLAIN, "image_url": "http://shop.example/"}},
    ],
    ids=["form", "raw", "json"],
)
def test_a_photo_that_is_named_beside_another_is_one_too_many(sent: dict[str, Any]) -> None:
    with pytest.raises(MultipleImages):
        read(**sent)


def test_base64_is_counted_decoded() -> None:
    fits = base64.b64encode(bytes(SMALL.body_bytes)).decode()
    assert len(read(SMALL, json={"image_base64": fits}).photo) == SMALL.body_bytes
    with pytest.raises(BodyTooLarge):
        read(SMALL, json={"image_base64": base64.b64encode(bytes(SMALL.body_bytes + 1)).decode()})
