"""One photo run through the core over a local store: what the tests of it share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mattehorn.bulk.item import run_item
from mattehorn.bulk.plan import Outcome, Plan
from mattehorn.events import ObjectRef
from mattehorn.pipeline import Result
from mattehorn.recipe.gate import Wish
from mattehorn.store.interface import Store
from mattehorn.store.local import LocalStore

from .bulk_bench import JPEG, StoreAround, event, fake_cut_out, photo, plan

PLAN = plan()


def store_with_photo(folder: Path) -> StoreAround:
    """A local store with `in/a.jpg`, nothing counted yet."""
    around = StoreAround(LocalStore(folder / "store"))
    around.put("in/a.jpg", photo(), content_type=JPEG)
    around.calls.clear()
    around.created.clear()
    return around


def work(
    store: Store, ref: ObjectRef | None = None, plan: Plan = PLAN, cut_out: Any = fake_cut_out, **more: Any
) -> Outcome:
    return asyncio.run(run_item(ref or event("in/a.jpg"), plan, store, store, cut_out, **more))


def raising(error: Exception) -> Callable[[bytes, Wish], Any]:
    async def cut_out(data: bytes, wish: Wish) -> Result:
        raise error

    return cut_out


def never(data: bytes, wish: Wish) -> Any:
    raise AssertionError("nothing is to be worked on")
