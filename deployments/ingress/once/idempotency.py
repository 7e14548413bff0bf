"""`Idempotency-Key` on POST /v1/mattes: a request that is sent again gets the answer of the first (contract 1.3).

Pure asyncio over the store and the tally; mattehorn/cache/idempotency.py has what is kept. Unlike the cache it is a
promise: while the store cannot be asked, a request with a key is refused before any work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from fastapi import Response

from deployments.ingress import errors
from deployments.ingress.bodies import Body
from deployments.ingress.jobs import Service
from deployments.ingress.tenancy import TENANT
from deployments.tally.turns import Turns
from mattehorn.cache.idempotency import HEADER, KeptResponse, Repetitions, fingerprint, is_kept, record_name
from mattehorn.cache.kept import IDEMPOTENCY, Kept
from mattehorn.errors import IdempotencyInProgress, MattehornError, ResultNotFound, StoreUnavailable
from mattehorn.recipe.gate import Wish
from mattehorn.store.records import load_result

T = TypeVar("T")

REPLAYED, NOT_KEPT = "Idempotency-Replayed", "idempotency_not_kept"
RETRY_S = 2  # most photos take less
STORE_S = 10.0  # for one look or one put: a third of the time for the work
_THREADS = 8  # of its own: a store that hangs holds them for up to 48 s, and no other request's work
RESULT_ID = "x-mattehorn-result-id"  # among the kept headers, whose names are in lower case
_OWN = ("content-length", "x-request-id")  # headers that every answer makes anew


class Idempotency:
    """One per ingress replica."""

    def __init__(self, service: Service) -> None:
        settings = service.settings.cache
        self.kept = Kept(
            service.store,
            IDEMPOTENCY,
            ttl_s=settings.idempotency_ttl_s,
            max_bytes=settings.idempotency_max_bytes,
        )
        self._store = service.store
        self._repetitions, self._turns = Repetitions(self.kept), Turns(service.tally)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="idempotency")

    async def once(
        self, key: str | None, body: Body, wish: Wish, answer: Callable[[], Awaitable[Response]]
    ) -> Response:
        """What `answer()` gives, or gave for this tenant's `key` before; a MattehornError becomes its response, since
        that is the key's answer, too.

        Raises IdempotencyKeyReused, IdempotencyInProgress, ResultNotFound where the answer's result was removed, and
        StoreUnavailable before anything was done.
        """
        if key is None:
            return await answer()
        name = record_name(TENANT.get().name, key)
        asked = await asyncio.to_thread(_fingerprint, body, wish)
        if (kept := await self._find(name, asked)) is not None:
            return await self._again(kept)
        turn = await self._turns.take(f"key:{name}")
        if turn is None:
            raise IdempotencyInProgress(
                f"The first request with this {HEADER} is still in work; ask again after Retry-After.",
                retry_after_s=RETRY_S,
            )
        try:  # once more: the first may have been done between our look and our turn
            kept = await self._find(name, asked)
            return await self._again(kept) if kept is not None else await self._first(name, asked, answer)
        finally:
            await turn.give_back()

    async def _first(self, name: str, asked: str, answer: Callable[[], Awaitable[Response]]) -> Response:
        """Keeps the answer before it is sent: what a client has seen is what it will see again."""
        try:
            response = await answer()
        except MattehornError as error:
            response = errors.error_response(error)
        if is_kept(response.status_code):
            kept = _to_keep(response)
            try:
                await self._from_store(lambda: self._repetitions.keep(name, asked, kept))
            except StoreUnavailable:  # the work is done and charged: it is given, and says that it may be done twice
                _warn(response)
        return response

    async def _again(self, kept: KeptResponse) -> Response:
        """The kept answer. One whose stored result was removed is no answer any more: its id leads nowhere, and the
        picture was to go; nor is it made anew, which its key forbids. Raises ResultNotFound."""
        stored, tenant = dict(kept.headers).get(RESULT_ID), TENANT.get().name
        if stored is not None:
            try:
                await self._from_store(lambda: load_result(self._store, stored, tenant))
            except ResultNotFound:
                raise ResultNotFound(
                    f"The result of this {HEADER} was removed; send another key to have it made again.", field=HEADER
                ) from None
        return _replay(kept)

    async def _find(self, name: str, asked: str) -> KeptResponse | None:
        return await self._from_store(lambda: self._repetitions.find(name, asked))

    async def _from_store(self, call: Callable[[], T]) -> T:
        """`call()` in a thread. Raises StoreUnavailable, also after STORE_S."""
        try:
            async with asyncio.timeout(STORE_S):
                return await asyncio.get_running_loop().run_in_executor(self._threads, call)
        except TimeoutError:
            raise StoreUnavailable("The results store did not answer. Try again.", retry_after_s=RETRY_S) from None


def _fingerprint(body: Body, wish: Wish) -> str:
    photo = body.photo if body.source is None else f"{body.source.kind} {body.source.text}"
    background = body.background if body.background_url is None else body.background_url
    return fingerprint(photo, background, wish.options, wish.recipe)


def _to_keep(response: Response) -> KeptResponse:
    headers = tuple(item for item in response.headers.items() if item[0] not in _OWN)
    return KeptResponse(response.status_code, headers, bytes(response.body))


def _replay(kept: KeptResponse) -> Response:
    response = Response(kept.body, kept.status)
    for name, value in kept.headers:
        response.headers.append(name, value)
    response.headers[REPLAYED] = "true"
    return response


def _warn(response: Response) -> None:
    before = response.headers.get("X-Mattehorn-Warnings")
    response.headers["X-Mattehorn-Warnings"] = f"{before},{NOT_KEPT}" if before else NOT_KEPT
