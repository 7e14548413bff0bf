"""`POST /v1.0/improve`: a photo that came out badly, kept in the results store by tenant, for a person to look at.

It lies under `.improve/TENANT/DAY/ID` beside a record of what was said about it; no key template reaches there.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

from mattehorn.errors import RateLimited
from mattehorn.image.decode import read_header
from mattehorn.settings import Limits
from mattehorn.store.interface import Store

PLACE = ".improve/"
BODY_BYTES = 12 * 2**20  # the contract's, as the next
PHOTOS_A_DAY = 100
_NAME_CHARACTERS = 200


def keep(
    store: Store,
    tenant: str,
    photo: bytes,
    said: dict[str, str],
    limits: Limits,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> str:
    """The new id. Raises RateLimited after PHOTOS_A_DAY, and the errors of read_header."""
    header = read_header(photo, limits)
    at = now()
    folder = f"{PLACE}{quote(tenant, safe='')}/{at:%Y-%m-%d}/"
    if len([key for key in store.list(folder) if key.endswith(".json")]) >= PHOTOS_A_DAY:
        midnight = (at + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
        raise RateLimited(
            f"{PHOTOS_A_DAY} photos were kept today, which is the limit; the next day begins at 00:00 UTC.",
            retry_after_s=max(1, round((midnight - at).total_seconds())),
        )
    name = str(uuid.uuid4())
    store.put(f"{folder}{name}.{header.format}", photo, content_type=f"image/{header.format}")
    record = {
        "id": name,
        "format": header.format,
        "created_at": at.isoformat(),
        **{key: text[:_NAME_CHARACTERS] for key, text in said.items()},
    }
    data = json.dumps(record).encode()  # last: what has a record is whole
    store.put(f"{folder}{name}.json", data, content_type="application/json")
    return name
