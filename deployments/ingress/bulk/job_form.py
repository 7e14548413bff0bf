"""A multipart body in parts, each given as soon as it is complete, while the rest is still coming.

What it is not: it keeps nothing and knows no field's meaning. Called by job_uploads.py. The parser is
python-multipart's; Starlette's own use of it keeps a whole batch on disk until its end.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from mattehorn.errors import BodyTooLarge, InvalidBody
from mattehorn.settings import Limits

FILES_MOST = 200  # a folder on a person's desk; more is a bucket's prefix or a manifest
BODY_BYTES_MOST = 512 * 2**20
UPLOAD_S = 600.0  # 512 MB at 7 Mbit/s


@dataclass(frozen=True)
class Part:
    """One part of a form, names in UTF-8; `file_name` is None for a text field."""

    name: str
    file_name: str | None
    data: bytes


@dataclass
class _Open:
    """A part that is still coming."""

    disposition: bytes = b""
    name: str = ""
    file_name: str | None = None
    data: bytearray = field(default_factory=bytearray)


class BatchParser:
    """Gives each part as soon as it is complete. Raises InvalidBody, BodyTooLarge."""

    def __init__(self, content_type: str, limits: Limits) -> None:
        boundary = parse_options_header(content_type)[1].get(b"boundary")
        if not boundary:
            raise InvalidBody("The multipart body's Content-Type has no boundary.")
        self._limits = limits
        self._open = _Open()
        self._header, self._value = b"", b""
        self._complete: list[Part] = []
        self._files = self._fields = 0
        self._ended = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._header_name,
                    "on_header_value": self._header_value,
                    "on_header_end": self._header_end,
                    "on_headers_finished": self._headers_end,
                    "on_part_data": self._data,
                    "on_part_end": self._end,
                    "on_end": self._all,
                },
            )
        except FormParserError:
            raise _unreadable() from None

    async def parts(self, stream: AsyncIterator[bytes]) -> AsyncIterator[Part]:
        """The parts of the body in `stream`, in their order."""
        async for chunk in stream:
            try:
                self._parser.write(chunk)
            except FormParserError:
                raise _unreadable() from None
            while self._complete:
                yield self._complete.pop(0)
        if not self._ended:
            raise InvalidBody("The multipart body ends before its last boundary.")

    def _begin(self) -> None:
        self._open = _Open()

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._open.disposition = self._value
        self._header, self._value = b"", b""

    def _headers_end(self) -> None:
        _, options = parse_options_header(self._open.disposition)
        if b"name" not in options:
            raise InvalidBody("A part of the multipart body has no name.")
        self._open.name = options[b"name"].decode("utf-8", "replace")
        if b"filename" in options:
            self._open.file_name = options[b"filename"].decode("utf-8", "replace")
            self._files += 1
        else:
            self._fields += 1
        if self._files > FILES_MOST:
            raise InvalidBody(f"More than {FILES_MOST} files came; put them into a bucket and name its prefix.")
        if self._fields > self._limits.fields:
            raise InvalidBody(f"More than {self._limits.fields} form fields came.")

    def _data(self, data: bytes, start: int, end: int) -> None:
        part = self._open
        size = len(part.data) + end - start
        if part.file_name is not None and size > self._limits.body_bytes:
            raise BodyTooLarge(
                f"File {self._files} has more than {self._limits.body_bytes} bytes, which is the limit for one photo."
            )
        if part.file_name is None and size > self._limits.field_bytes:
            raise InvalidBody(f"{part.name[:80]} has more than {self._limits.field_bytes} bytes.")
        part.data += data[start:end]

    def _end(self) -> None:
        part = self._open
        self._complete.append(Part(part.name, part.file_name, bytes(part.data)))
        self._open = _Open()

    def _all(self) -> None:
        self._ended = True


def _unreadable() -> InvalidBody:
    return InvalidBody("The multipart body cannot be read; send it as a browser or curl -F makes it.")
