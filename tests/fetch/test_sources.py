"""The photo of a request that names it in a field."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mattehorn.errors import BodyTooLarge, InvalidBody, MattehornError, MissingImage, MultipleImages
from mattehorn.fetch.sources import Source, decode_base64, take_source

PHOTO = bytes(range(256))
PLAIN = base64.b64encode(PHOTO).decode()
SAFE = base64.urlsafe_b64encode(PHOTO).decode()


@pytest.mark.parametrize(
    "text",
    [
        *(PLAIN, SAFE, PLAIN.rstrip("="), SAFE.rstrip("="), f"  {PLAIN}\n", f"data:image/png;base64,{PLAIN}"),
        *(f" data:;base64, {SAFE}", f"DATA:image/jpeg;name=a.jpg;BASE64,{PLAIN}", f"data:image/png;base64 ,{PLAIN}"),
        *("\r\n".join(PLAIN[at : at + 76] for at in range(0, len(PLAIN), 76)), "\t\v\f".join(PLAIN)),
    ],
)
def test_base64_in_every_spelling_gives_the_same_bytes(text: str) -> None:
    assert decode_base64(text, len(PHOTO)) == PHOTO


@pytest.mark.parametrize(
    "text",
    [
        *("A", "AAAAA", "A===", "AA===", "=", "====", "AA=A", "AA==AA==", "not base64!", "ÄÖÜ", "AAA\0", "AA.A", "%2B"),
        *("data:image/png,AAAA", "data:,AAAA", "data:image/png;base64;AAAA", "data:text/plain;charset=utf-8,AAAA"),
        *("data:image/png;base64,AAAA,AAAA", "\ud800AAA", "data:" + "x" * 300 + ";base64,AAAA", "AAAA AAA\u2028A"),
    ],
)
def test_what_is_not_base64_is_a_bad_body(text: str) -> None:
    with pytest.raises(InvalidBody) as refused:
        decode_base64(text, 1000, field="background_base64")
    assert refused.value.data["field"] == "background_base64"


@pytest.mark.parametrize("text", ["", " \n", "data:image/png;base64,", "data:;base64,\r\n"])
def test_base64_of_nothing_is_no_photo(text: str) -> None:
    with pytest.raises(MissingImage):
        decode_base64(text, 1000)


@pytest.mark.parametrize("size", range(1, 9))
def test_the_size_is_counted_decoded(size: int) -> None:
    for text in (base64.b64encode(bytes(size)).decode(), base64.b64encode(bytes(size)).decode().rstrip("=") + "\n"):
        assert decode_base64(text, size) == bytes(size)
        with pytest.raises(BodyTooLarge, match=f"{size} bytes; allowed are {size - 1}"):
            decode_base64(text, size - 1)


@given(st.binary(min_size=1, max_size=200), st.integers(1, 80), st.booleans(), st.booleans())
def test_any_bytes_come_back(data: bytes, width: int, safe: bool, padded: bool) -> None:
    text = (base64.urlsafe_b64encode if safe else base64.b64encode)(data).decode()
    text = text if padded else text.rstrip("=")
    assert decode_base64("\n".join(text[at : at + width] for at in range(0, len(text), width)), 200) == data


@given(st.text(max_size=60) | st.text(alphabet="AZaz09+/-_= \ndata:;base64,", max_size=60))
def test_any_text_is_bytes_within_the_limit_or_one_of_the_errors(text: str) -> None:
    try:
        data = decode_base64(text, 20)
    except (InvalidBody, MissingImage, BodyTooLarge):
        return
    assert 1 <= len(data) <= 20


@pytest.mark.parametrize("name", ["image_url", "image_base64", "result_id"])
def test_the_one_source_is_taken_and_the_options_stay(name: str) -> None:
    fields = {"image_url": "", "image_base64": None, "result_id": "", "erode_px": 1, name: "text"}
    assert take_source(fields) == (Source(name, "text"), {"erode_px": 1})


def test_an_upload_is_a_source() -> None:
    assert take_source({"image_url": "", "format": "png"}, uploads=1) == (None, {"format": "png"})


@pytest.mark.parametrize(
    ("fields", "uploads", "error"),
    [
        ({}, 0, MissingImage),
        ({"image_url": "", "image_base64": None, "format": "png"}, 0, MissingImage),
        ({"image_url": "a", "image_base64": "b"}, 0, MultipleImages),
        ({"image_url": "a", "result_id": "b"}, 0, MultipleImages),
        ({"image_url": "a"}, 1, MultipleImages),
        ({}, 2, MultipleImages),
        ({"image_url": 7}, 0, InvalidBody),
        ({"image_base64": ["AAAA"]}, 0, InvalidBody),
        ({"result_id": {}}, 0, InvalidBody),
    ],
)
def test_there_is_exactly_one_source_and_it_is_text(
    fields: dict[str, Any], uploads: int, error: type[MattehornError]
) -> None:
    with pytest.raises(error):
        take_source(fields, uploads)
