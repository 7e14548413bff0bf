"""Pictures that several results of one tenant name, and when such a picture may go.

What it is not: it knows no record's form and no HTTP. Called by results.py, when a key holds the same bytes already,
and by removal.py. An object's note names its maker. A result that uses the key as well leaves a mark for itself and
one for the maker, empty objects `.results/shared/HASH/ID`; so a picture that nobody shares costs no request.

Save and removal may meet. A saver writes its mark, then looks for the removal's claim; a removal writes its claim, then
looks for marks: in a store whose listings are up to date one of them sees the other and gives way. A mark without a
record is of a saver at work, or of one that crashed: only its age tells.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from mattehorn.store.interface import DEFAULT_TYPE, Head, Store, StoreKeyMissing
from mattehorn.store.records import ID_FORM, RECORDS, time_of

CLAIM = "removal-"  # and the id of the result that goes
SAVED_WITHIN_S = 3600.0  # a request saves within its 30 s; the rest is for clocks that differ


@dataclass(frozen=True)
class Maker:
    """Which result an object was stored for."""

    id: str
    tenant: str
    model: str = ""

    def note(self) -> dict[str, str]:
        """As the object's metadata."""
        return {"model": self.model, "result-id": self.id, "tenant": self.tenant}


def may_share(store: Store, key: str, data: bytes, maker: Maker) -> bool:
    """Whether the object under `key` has these bytes and will stay for this result of the same tenant."""
    head = store.head(key)
    first = _maker_of(head, maker.tenant)
    if head is None or first is None or head.size != len(data):
        return False
    if first == maker.id:  # our own put, which a retry within the store's client met again
        return _holds(store, key, data)
    mark = f"{_place(key)}{maker.id}"
    store.put(mark, b"", content_type=DEFAULT_TYPE)
    claimed = any(name.startswith(CLAIM) for name in _names(store, _place(key)))
    if not claimed and _holds(store, key, data):
        store.put(f"{_place(key)}{first}", b"", content_type=DEFAULT_TYPE)
        return True
    store.delete(mark)
    return False


def remove_picture(store: Store, key: str, maker: Maker, now: float, names: Callable[[str], bool | None]) -> bool:
    """Removes the object unless another result needs it, or it is not this result's; False: nobody can tell yet.

    The result's own record is gone by now. `names` says whether another id's record names the key, None where there is
    no such record.
    """
    place = _place(key)
    claim = f"{place}{CLAIM}{maker.id}"
    store.put(claim, b"", content_type=DEFAULT_TYPE)
    try:
        marks = {name for name in _names(store, place) if ID_FORM.fullmatch(name)}
        first = _maker_of(store.head(key), maker.tenant)
        if first is not None and (first == maker.id or maker.id in marks):
            others = {other: names(other) for other in marks - {maker.id}}
            if any(others.values()):
                pass  # it stays
            elif any(named is None and now - time_of(other) < SAVED_WITHIN_S for other, named in others.items()):
                return False
            else:
                store.delete(key)
                for other in others:
                    store.delete(f"{place}{other}")
        store.delete(f"{place}{maker.id}")
    finally:
        store.delete(claim)
    return True


def _place(key: str) -> str:
    """Named by hash: a key may be as long as keys can be."""
    return f"{RECORDS}shared/{sha256(key.encode()).hexdigest()[:40]}/"


def _names(store: Store, place: str) -> list[str]:
    return [key.removeprefix(place) for key in store.list(place)]


def _maker_of(head: Head | None, tenant: str) -> str | None:
    """The id of the result that the object was stored for; None for another tenant's, and for what names none."""
    if head is None or head.metadata.get("tenant") != tenant:
        return None
    made_for = head.metadata.get("result-id", "")
    return made_for if ID_FORM.fullmatch(made_for) else None


def _holds(store: Store, key: str, data: bytes) -> bool:
    try:
        return store.get(key) == data
    except StoreKeyMissing:
        return False
