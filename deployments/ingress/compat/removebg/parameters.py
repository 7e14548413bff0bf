"""What a remove.bg request carries, read from any of its three body forms. Knows no parameter's meaning.

An empty text, an empty file part and JSON's null are not sent; of what is sent twice the last counts. `*_file` fields
exist in a multipart body only; there a part without a file name is a file as well.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn
from urllib.parse import parse_qsl

from starlette.requests import Request

from deployments.ingress.bodies import Body, sent_bytes
from deployments.ingress.forms import parse_form
from mattehorn.errors import (
    BodyTooLarge,
    ConflictingOptions,
    InvalidBody,
    MissingImage,
    MultipleImages,
    OptionError,
    UnsupportedMediaType,
)
from mattehorn.fetch.sources import Source, decode_base64
from mattehorn.settings import Limits

PHOTO, BACKGROUND = "image_file", "bg_image_file"
BASE64, URL = "image_file_b64", "image_url"
BACKGROUND_URL = "bg_image_url"
BACKGROUNDS = ("bg_color", BACKGROUND_URL, BACKGROUND)
_BASE64_GROWTH = 1.37  # 4/3, and a line break after every 76 characters
_BOOLEANS = dict.fromkeys(("true", "1", "yes", "on"), True) | dict.fromkeys(("false", "0", "no", "off"), False)
_SHOWN = 60  # characters of a bad value that its error repeats


@dataclass(frozen=True)
class Upload:
    data: bytes
    file_name: str


@dataclass(frozen=True)
class Sent:
    """`texts` by name, none empty; `uploads` by name, none empty. `is_form`: not JSON."""

    texts: Mapping[str, str] = field(default_factory=dict)
    uploads: Mapping[str, list[Upload]] = field(default_factory=dict)
    is_form: bool = True

    @property
    def names(self) -> set[str]:
        return {*self.texts, *self.uploads}

    def text(self, name: str) -> str:
        return self.texts.get(name, "").strip()

    def truth(self, name: str, default: bool) -> bool:
        """Raises OptionError."""
        if not (text := self.text(name).lower()):
            return default
        if text not in _BOOLEANS:
            self.refuse(name, "true or false")
        return _BOOLEANS[text]

    def choice(self, name: str, allowed: tuple[str, ...], default: str) -> str:
        """One of `allowed`, in whatever case it came. Raises OptionError."""
        text = self.text(name).lower()
        found = next((value for value in allowed if value.lower() == text), None)
        if text and found is None:
            self.refuse(name, ", ".join(allowed))
        return found or default

    def refuse(self, name: str, allowed: str) -> NoReturn:
        """Raises OptionError: what came, what is allowed."""
        raise OptionError(f"{name} is '{self.text(name)[:_SHOWN]}'; allowed: {allowed}.", field=name)


async def read(request: Request, limits: Limits) -> Sent:
    """Raises InvalidBody, UnsupportedMediaType, and what the middleware raises while the body streams in."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        return await _multipart(request, limits)
    if media_type == "application/x-www-form-urlencoded":
        return Sent(_kept(_urlencoded(await request.body(), limits), limits))
    if media_type == "application/json":
        return Sent(_kept(_json(await request.body()), limits), is_form=False)
    if not await request.body():
        return Sent()
    raise UnsupportedMediaType(
        f"Content-Type is {media_type[:80] or 'missing'}; allowed: multipart/form-data, "
        "application/x-www-form-urlencoded, application/json."
    )


def pictures(sent: Sent, limits: Limits) -> Body:
    """The photo, or where it is, and the same of the background; exactly one photo, at most one background.

    Raises MissingImage, MultipleImages, ConflictingOptions, InvalidBody (base64) and BodyTooLarge.
    """
    uploads = sent.uploads.get(PHOTO, [])
    named = [name for name in (BASE64, URL) if sent.text(name)]
    if not uploads and not named:
        raise MissingImage(f"No photo came; send one as {PHOTO}, {BASE64} or {URL}.")
    if len(uploads) + len(named) > 1:
        raise MultipleImages(f"{len(uploads) + len(named)} photos came; send one per request.")
    if len([name for name in BACKGROUNDS if name in sent.names]) > 1:
        raise ConflictingOptions("Several backgrounds were sent; send one.", field="bg_color")
    behind = sent.uploads.get(BACKGROUND)
    body = Body(
        b"",
        background=behind[-1].data if behind else None,
        background_url=sent.text(BACKGROUND_URL) or None,
    )
    if sent.text(URL):
        return _within(replace(body, source=Source("image_url", sent.text(URL))), limits)
    if sent.text(BASE64):
        body = replace(body, photo=decode_base64(sent.text(BASE64), limits.body_bytes, field=BASE64))
    else:
        body = replace(body, photo=uploads[0].data, file_name=uploads[0].file_name)
    return _within(body, limits)


def _within(body: Body, limits: Limits) -> Body:
    """`body`, when its pictures are within the limit together: the middleware leaves room for base64 and the fields."""
    size, most = len(body.photo) + len(body.background or b""), limits.body_bytes
    if size > most:
        raise BodyTooLarge(f"The pictures have {size} bytes; allowed are {most}.", most_bytes=most)
    return body


async def _multipart(request: Request, limits: Limits) -> Sent:
    # base64 and a photo without a file name are text to the parser; the middleware bounds the whole
    most = int(limits.body_bytes * _BASE64_GROWTH)
    form = await parse_form(request, limits.model_copy(update={"field_bytes": most}))
    try:
        texts: dict[str, str] = {}
        uploads: dict[str, list[Upload]] = {}
        for name, value in form.multi_items():
            if isinstance(value, str):
                if name not in (PHOTO, BACKGROUND):
                    texts |= {name: value} if value.strip() else {}
                elif value:
                    uploads.setdefault(name, []).append(Upload(sent_bytes(value), ""))
            elif value.size:
                uploads.setdefault(name, []).append(Upload(await value.read(), value.filename or ""))
        return Sent(_kept(texts, limits), uploads)
    finally:
        await form.close()


def _kept(texts: Mapping[str, str], limits: Limits) -> dict[str, str]:
    """Those that say something. Raises InvalidBody for a long one, but base64."""
    for name, text in texts.items():
        if name != BASE64 and len(text) > limits.field_bytes:
            raise InvalidBody(f"{name[:80]} has {len(text)} characters; allowed are {limits.field_bytes}.")
    return {name: text for name, text in texts.items() if text.strip()}


def _urlencoded(data: bytes, limits: Limits) -> dict[str, str]:
    try:
        pairs = parse_qsl(data.decode("ascii"), max_num_fields=limits.fields)
        return {name: text for name, text in pairs if text.strip()}
    except ValueError:
        raise InvalidBody(f"The body is not urlencoded text of at most {limits.fields} fields.") from None


def _json(data: bytes) -> dict[str, str]:
    try:
        value = json.loads(data or b"{}")
    except (ValueError, RecursionError):
        raise InvalidBody("The body is not valid JSON; send one flat object.") from None
    if not isinstance(value, dict):
        raise InvalidBody("The JSON body is not an object; send one flat object.")
    return {name: _as_text(entry) for name, entry in value.items() if not name.endswith("_file")}


def _as_text(value: Any) -> str:
    """A JSON value as a form would have it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, str | int | float) else "a list or an object"
