"""A whole multipart body, parsed: parts in their order, files spooled to disk.

What it is not: it knows no part's meaning (bodies.py and the contracts do), and gives nothing before the body's end, as
a batch's parser does (bulk/job_form.py).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from starlette.datastructures import FormData
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from mattehorn.errors import InvalidBody
from mattehorn.settings import Limits


async def parse_form(request: Request, limits: Limits) -> FormData:
    """The parts of the request's body, to be closed; none of an empty one. Raises InvalidBody."""
    async with aclosing(request.stream()) as stream:
        parser = _NotingTheEnd(request, stream, limits)
        try:
            form = await parser.parse()
        except MultiPartException as error:
            raise InvalidBody(f"The multipart body cannot be read: {error.message}") from None
        except ValueError:  # from the codec that the request's charset names
            raise InvalidBody("The multipart body's text cannot be decoded; send UTF-8.") from None
    if parser.begun and not parser.ended:
        await form.close()
        raise InvalidBody("The multipart body ends before its last boundary; send all of it.")
    return form


class _NotingTheEnd(MultiPartParser):
    """Starlette's parser, which takes a body that was cut off for a whole one. `begun`: any byte came; `ended`: the
    closing boundary came, with a line break after it or without."""

    def __init__(self, request: Request, stream: AsyncGenerator[bytes, None], limits: Limits) -> None:
        self.begun = self.ended = False
        super().__init__(
            request.headers,
            self._noted(stream),
            max_files=limits.files,
            max_fields=limits.fields,
            max_part_size=limits.field_bytes,
        )

    def on_end(self) -> None:
        self.ended = True

    async def _noted(self, stream: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        async for chunk in stream:
            self.begun = self.begun or bool(chunk)
            yield chunk
