"""A stored result goes, with its pictures, as far as no other result names them.

What it is not: it asks nobody whose the result is; the ingress does. The record's copy under `.results/removed/` comes
first and goes last: whatever ends a removal half-way, the id is not found, and the copy says what is left to do. A
repeated DELETE does it, or the ingress's sweep. Every call blocks.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from mattehorn.errors import MattehornError, ResultNotFound, StoreUnavailable
from mattehorn.store.interface import Store, StoreKeyMissing
from mattehorn.store.records import (
    ID_FORM,
    RECORDS,
    StoredResult,
    as_json,
    delete_record,
    load_result,
    no_result,
    read_record,
    whole_record,
)
from mattehorn.store.shared import Maker, remove_picture

REMOVED = f"{RECORDS}removed/"


def remove_result(store: Store, result: StoredResult, now: Callable[[], float] = time.time) -> bool:
    """Whether nothing is left of it. False: a picture waits for finish_removal, since a result that is being saved may
    need it. The id is not found in either case. Raises StoreUnavailable; the removal may then be begun already."""
    copy = _copy_key(result.tenant, result.id)
    store.put(copy, as_json(result), content_type="application/json")
    delete_record(store, result)

    maker, at = Maker(result.id, result.tenant), now()
    gone = [remove_picture(store, key, maker, at, _names(store, key, result.tenant)) for key in result.keys]
    if all(gone):
        store.delete(copy)
    return all(gone)


def load_removed(store: Store, result_id: str, tenant: str) -> StoredResult:
    """What a removal has begun with and not ended. Raises ResultNotFound."""
    if not ID_FORM.fullmatch(result_id):
        raise no_result()
    try:
        return read_record(store.get(_copy_key(tenant, result_id)))
    except StoreKeyMissing:
        raise no_result() from None


def unfinished(store: Store) -> list[str]:
    """Keys of the copies that lie there: of removals at work, and of those that ended half-way."""
    return list(store.list(REMOVED))


def finish_removal(store: Store, copy: str, now: Callable[[], float] = time.time) -> bool:
    """Does what is left; whether that was all. Raises StoreUnavailable."""
    result = whole_record(store, copy)
    return result is None or remove_result(store, result, now)


def _names(store: Store, key: str, tenant: str) -> Callable[[str], bool | None]:
    """Whether the record of an id names `key`: True also for a damaged one; None where there is none, and was none."""

    def names(other: str) -> bool | None:
        try:
            return key in load_result(store, other, tenant).keys
        except ResultNotFound:
            return None if store.head(_copy_key(tenant, other)) is None else False
        except StoreUnavailable:
            raise
        except MattehornError:
            return True

    return names


def _copy_key(tenant: str, result_id: str) -> str:
    return f"{REMOVED}{tenant}/{result_id}.json"
