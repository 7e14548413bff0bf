"""A photo of a tenant's job, paid once: held before the work, charged when its result was created, else given back.

The order matters. Before the work, so that two workers never spend the same last megapixel. After the put, so that
whoever comes after a crash pays for no result that was paid for: it lies there, and is skipped. A crash in between
leaves a hold that ends by itself, so at worst one result is free. What it is not: it knows no budget (Account does).
Called by item.py.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable

from mattehorn.access.budgets import megapixel_images
from mattehorn.bulk.plan import Account, Outcome
from mattehorn.image.decode import read_header
from mattehorn.settings import Limits


def price(photo: bytes, limits: Limits) -> int:
    """Megapixel images. Raises as read_header does: ImageTooLarge for more pixels than the limits allow."""
    header = read_header(photo, limits)
    return megapixel_images(header.width, header.height)


async def paid(account: Account, work: str, cost: int, make: Callable[[], Awaitable[Outcome]]) -> Outcome:
    """What `make()` gives back, charged where this call created it. `work` is the result's place.

    Raises as Account.hold and `make` do. A cancelled call leaves its hold to end by itself: nobody waits for it.
    """
    holder = uuid.uuid4().hex
    await account.hold(work, holder, cost)
    try:
        outcome = await make()
    except Exception:
        await account.drop(work, holder)
        raise
    await (account.settle if outcome.first else account.drop)(work, holder)
    return outcome
