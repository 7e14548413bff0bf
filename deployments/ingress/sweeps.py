"""What runs beside the requests while the ingress lives: sweeps of what is kept only for a while."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Protocol

from fastapi import FastAPI

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


class Sweep(Protocol):
    async def run(self) -> None:
        """Until it is cancelled."""


def lifespan(sweeps: Sequence[Sweep]) -> Lifespan:
    """What FastAPI runs around the application's life."""

    @asynccontextmanager
    async def sweeping(app: FastAPI) -> AsyncIterator[None]:
        running = asyncio.gather(*(sweep.run() for sweep in sweeps))
        try:
            yield
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running

    return sweeping
