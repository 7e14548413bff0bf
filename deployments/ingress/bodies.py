"""From an HTTP request's body to loose values: pictures as bytes, options as text. Knows no option's meaning.

Pictures that the body only names, by URL or by a result's id, are brought by sources.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl

from starlette.datastructures import UploadFile
from starlette.requests import Request

from deployments.ingress.forms import parse_form
from mattehorn.errors import (
    BodyTooLarge,
    InvalidBody,
    MissingImage,
    MultipleImages,
    OptionError,
    UnsupportedMediaType,
)
from mattehorn.fetch.sources import Source, decode_base64, take_source
from mattehorn.settings import Limits

IMAGE_PARTS = ("file", "image", "image_file")
_RAW = ("image/", "application/octet-stream")


@dataclass(frozen=True)
class Body:
    """What came: one photo, perhaps a background picture, and the other fields as sent.

    `photo` is empty while `source` names it, `background` None while `background_url` does. `fetch_ms` is the time
    that fetching took.
    """

    photo: bytes
    file_name: str = ""
    background: bytes | None = None
    fields: dict[str, Any] = field(default_factory=dict)
    source: Source | None = None
    background_url: str | None = None
    fetch_ms: float | None = None


async def read_body(request: Request, limits: Limits) -> Body:
    """Reads any of the contract's four body forms; their photo is sent or named, exactly one. Raises InvalidBody,
    MissingImage, MultipleImages, UnsupportedMediaType, OptionError, and what the middleware raises while the body
    streams in."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type.startswith(_RAW):
        return _raw(await request.body(), once(request.query_params.multi_items()), limits)
    if in_query := once(request.query_params.multi_items()):
        first = next(iter(in_query))
        raise OptionError(f"{first[:80]} was sent in the query; send options in the body.", field=first[:80])
    if media_type == "multipart/form-data":
        return await read_form(request, limits)
    if media_type == "application/json":
        return _named(_json_object(await request.body()), limits)
    if media_type == "application/x-www-form-urlencoded":
        return _named(_urlencoded(await request.body(), limits), limits)
    if not media_type and not await request.body():
        raise MissingImage("The body is empty; send a photo as the form part 'file', or as the raw body.")
    raise UnsupportedMediaType(
        f"Content-Type is {media_type[:80] or 'missing'}; allowed: multipart/form-data, image/*, "
        "application/octet-stream, application/json, application/x-www-form-urlencoded."
    )


async def read_within(request: Request, most: int, what: str) -> bytes:
    """The whole body, of at most `most` bytes. Raises BodyTooLarge at once where its length is announced, else when
    the limit has come; `what` names it."""
    announced = request.headers.get("content-length", "")
    body = bytearray()
    too_large = announced.isascii() and announced.isdigit() and (len(announced) > 18 or int(announced) > most)
    if not too_large:
        async for chunk in request.stream():
            body += chunk
            if too_large := len(body) > most:
                break
    if too_large:
        raise BodyTooLarge(f"{what} has at most {most} bytes; this one has more.")
    return bytes(body)


async def read_form(request: Request, limits: Limits, *, photo_only: bool = False) -> Body:
    """A multipart body: the photo under one of IMAGE_PARTS or named by a field, `background_file`, and text fields.
    Every other file part is refused. With `photo_only` the photo is a file part, what else came is left aside, and no
    field names a picture."""
    form = await parse_form(request, limits)
    try:
        # an empty part is one that was not sent
        files = [(name, part) for name, part in form.multi_items() if isinstance(part, UploadFile) and part.size]
        fields = once((name, value) for name, value in form.multi_items() if isinstance(value, str))
        for name in IMAGE_PARTS:
            if name in fields:
                raise MissingImage(f"{name} came as text; send it as a file part (curl: -F {name}=@PHOTO).")
        photos = [part for name, part in files if name in IMAGE_PARTS]
        if photo_only:
            photo = _only_photo(photos)
            return Body(_within(await photo.read(), limits), photo.filename or "", None, fields)
        others = once(item for item in files if item[0] not in IMAGE_PARTS)
        background = others.pop("background_file", None)
        for name in others:
            raise OptionError(
                f"{name[:80]} is not a file part here; allowed are file and background_file.", field=name[:80]
            )
        body = _named(fields, limits, uploads=len(photos))
        if background:
            body = replace(body, background=await background.read())
        if photos:
            body = replace(body, photo=_within(await photos[0].read(), limits), file_name=photos[0].filename or "")
        return body
    finally:
        await form.close()


async def read_shim_form(request: Request, limits: Limits, part: str) -> Body:
    """A form as FastAPI's own endpoints take it: the photo is `part`, with a file name or without; of what a multipart
    body has twice the last counts that is not empty; other files are left aside. `photo` may be empty. Raises
    InvalidBody, BodyTooLarge, UnsupportedMediaType, and OptionError for what an urlencoded body has twice."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == "application/x-www-form-urlencoded":
        return Body(b"", fields=_urlencoded(await request.body(), limits))
    if not media_type and not await request.body():
        return Body(b"")
    if media_type != "multipart/form-data":
        raise UnsupportedMediaType(f"Send multipart/form-data with the photo as the part '{part}'.")
    # a photo without a file name is a text field to the parser; the middleware bounds the whole
    form = await parse_form(request, limits.model_copy(update={"field_bytes": limits.body_bytes}))
    try:
        photo, file_name = b"", ""
        fields: dict[str, str] = {}
        for name, value in form.multi_items():
            if isinstance(value, str):
                if value and name == part:
                    photo, file_name = sent_bytes(value), ""
                elif value:
                    fields[name] = value
            elif value.size and name == part:
                photo, file_name = await value.read(), value.filename or ""
        for name, text in fields.items():
            if len(text) > limits.field_bytes:
                raise InvalidBody(f"{name[:80]} has {len(text)} characters; allowed are {limits.field_bytes}.")
        return Body(_within(photo, limits), file_name, fields=fields)
    finally:
        await form.close()


def sent_bytes(text: str) -> bytes:
    """What was sent as `text`: the parser reads UTF-8, and Latin-1 where that fails, as it does for every picture."""
    try:
        sent = text.encode("latin-1")
        sent.decode("utf-8")
    except UnicodeDecodeError:
        return sent
    except UnicodeEncodeError:
        pass
    return text.encode("utf-8", "replace")


def _only_photo(photos: list[UploadFile]) -> UploadFile:
    if not photos:
        raise MissingImage("No photo came; send one as the form part 'file' (curl: -F file=@PHOTO).")
    if len(photos) > 1:
        raise MultipleImages(f"{len(photos)} photos came; send one per request.")
    return photos[0]


def _raw(data: bytes, fields: dict[str, Any], limits: Limits) -> Body:
    if not data:
        raise MissingImage("The body is empty; send a photo's bytes.")
    return replace(_named(fields, limits, uploads=1), photo=_within(data, limits))


def _within(photo: bytes, limits: Limits) -> bytes:
    """`photo`, when it is within the limit by itself: the middleware counts it with what is around it."""
    if len(photo) > limits.body_bytes:
        raise BodyTooLarge(f"The photo has {len(photo)} bytes; allowed are {limits.body_bytes}.")
    return photo


def once(items: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """`items` as a dict, without empty texts, which are not sent. Raises OptionError for one that came twice."""
    fields: dict[str, Any] = {}
    for name, value in items:
        if value == "":
            continue
        if name in fields:
            raise OptionError(f"{name[:80]} was sent twice; send it once.", field=name[:80])
        fields[name] = value
    return fields


def _json_object(data: bytes) -> dict[str, Any]:
    if not data:
        raise MissingImage("The body is empty; send a JSON object with image_url, image_base64 or result_id.")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise InvalidBody("The body is not valid JSON; send one flat object.") from None
    if not isinstance(value, dict):
        raise InvalidBody("The JSON body is not an object; send one flat object with the photo and the options.")
    return value


def _urlencoded(data: bytes, limits: Limits) -> dict[str, Any]:
    try:
        pairs = parse_qsl(data.decode("ascii"), keep_blank_values=True, max_num_fields=limits.fields)
    except ValueError:
        raise InvalidBody(
            "The body is not urlencoded text of at most "
            f"{limits.fields} fields; a photo's bytes need Content-Type image/* or a multipart form."
        ) from None
    return once(pairs)


def _named(fields: dict[str, Any], limits: Limits, uploads: int = 0) -> Body:
    """A body of fields that name its pictures, but for the photos that came as `uploads`; base64 is decoded."""
    source, rest = take_source(fields, uploads)
    background_url = rest.pop("background_url", None) or None
    if background_url is not None and not isinstance(background_url, str):
        raise OptionError("background_url is not text; send a URL.", field="background_url")
    photo = b""
    if source is not None and source.kind == "image_base64":
        photo, source = decode_base64(source.text, limits.body_bytes), None
    return Body(photo=photo, fields=rest, source=source, background_url=background_url)
