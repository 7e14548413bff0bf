"""Removing stored results: shared pictures stay while one names them, whatever meets, whatever breaks off."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mattehorn.errors import ResultNotFound
from mattehorn.store.interface import Store
from mattehorn.store.open import LocalStore
from mattehorn.store.records import StoredResult, load_result, record_key
from mattehorn.store.removal import finish_removal, load_removed, remove_result, unfinished
from mattehorn.store.results import load_alpha, load_image, load_source, save_result
from tests.memory_store import MemoryStore, interleaved

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
TEMPLATE = "{stem}.{ext}"  # every result of one name wants one key


def save(store: Any, image: bytes = b"picture", tenant: str = "shop", **changes: Any) -> StoredResult:
    info = {"name": "a.jpg", "width": 1, "height": 1, "tenant": tenant}
    plain: dict[str, Any] = {"content_type": "image/png", "ext": "png", "template": TEMPLATE, "now": NOW, "info": info}
    return save_result(store, image=image, **plain | changes)


def later() -> float:
    """When no save of NOW is still at work."""
    return (NOW + timedelta(days=1)).timestamp()


def remove(store: Any, result: StoredResult) -> bool:
    return remove_result(store, result, lambda: NOW.timestamp() + 1)


def sweep(store: Any) -> None:
    for copy in unfinished(store):
        finish_removal(store, copy, later)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


def test_a_removed_result_leaves_nothing(store: LocalStore) -> None:
    result = save(store, alpha=b"matte", source=b"upload", source_ext="jpg")
    other = save(store, b"another")
    assert remove(store, result)
    assert list(store.list("")) == [record_key("shop", other.id), other.key]
    with pytest.raises(ResultNotFound):
        load_result(store, result.id, "shop")
    assert load_image(store, other) == b"another"


def test_what_nobody_shares_costs_a_save_no_request() -> None:
    memory = MemoryStore()
    save(memory, alpha=b"matte", source=b"upload")
    assert memory.requests == {"put": 4}


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)], ids=str)
def test_a_shared_picture_goes_with_the_last_that_names_it(store: LocalStore, order: tuple[int, ...]) -> None:
    parts = {"alpha": b"matte", "source": b"upload", "source_ext": "jpg"}
    sharing = [save(store, **parts), save(store, **parts), save(store, source=b"upload", source_ext="jpg")]
    assert len({result.key for result in sharing}) == len({result.source_key for result in sharing}) == 1
    left = list(sharing)
    for number in order:
        left.remove(sharing[number])
        assert remove(store, sharing[number])
        for result in left:
            assert (load_image(store, result), load_source(store, result)) == (b"picture", b"upload")
            if result.alpha_key:
                assert load_alpha(store, result) == b"matte"
    assert list(store.list("")) == []


def test_a_key_may_be_one_results_matte_and_anothers_picture(store: LocalStore) -> None:
    first = save(store, alpha=b"matte")
    info = {"name": "a_alpha.png", "width": 1, "height": 1, "tenant": "shop"}
    second = save(store, b"matte", info=info)
    assert second.key == first.alpha_key
    assert remove(store, first)
    assert load_image(store, second) == b"matte"
    assert remove(store, second)
    assert list(store.list("")) == []


def test_tenants_share_no_picture(store: LocalStore) -> None:
    mine, theirs = save(store), save(store, tenant="other")
    assert (mine.key, theirs.key) == ("a.png", "a-2.png")
    remove(store, mine)
    assert load_image(store, theirs) == b"picture"


def test_what_took_the_place_of_a_picture_is_left_alone(store: LocalStore) -> None:
    first = save(store)
    store.delete(first.key)
    second = save(store, b"another", tenant="other")
    assert second.key == first.key
    assert remove(store, first)
    assert load_image(store, second) == b"another"
    store.put(second.key, b"by hand", content_type="image/png")
    assert remove(store, second)
    assert store.get(second.key) == b"by hand"


def test_pictures_of_version_0_1_are_left_since_nobody_knows_who_shares_them(store: LocalStore) -> None:
    result = save(store)
    store.put(result.key, b"picture", content_type="image/png", metadata={"result-id": result.id})
    again = save(store)
    assert again.key == "a-2.png"
    assert remove(store, result)
    assert store.get(result.key) == b"picture"


def test_a_picture_without_a_record_is_used_by_a_retry_and_goes_with_it(store: LocalStore) -> None:
    save(store)
    for key in list(store.list(".results/")):
        store.delete(key)  # as a save that broke off before its record
    again = save(store)
    assert again.key == "a.png"
    assert not remove(store, again)  # the first may still be at work, for all anybody knows
    with pytest.raises(ResultNotFound):
        load_result(store, again.id, "shop")
    sweep(store)
    assert list(store.list("")) == []


class Breaking:
    """Lets `left` requests pass, then none."""

    def __init__(self, store: MemoryStore, left: int) -> None:
        self._store, self.left = store, left

    def __getattr__(self, name: str) -> Any:
        self.left -= 1
        if self.left < 0:
            raise ConnectionError("down")
        return getattr(self._store, name)


def test_a_removal_that_breaks_off_anywhere_is_ended_by_the_next(store: LocalStore) -> None:
    begun = 0
    for number in range(100):
        memory = MemoryStore()
        shared, result = save(memory, source=b"upload"), save(memory, alpha=b"matte", source=b"upload")
        try:
            remove(Breaking(memory, number), result)
        except ConnectionError:
            begun += 1
            wanted: Store = memory  # type: ignore[assignment]
            try:
                assert load_result(wanted, result.id, "shop") == result  # nothing was done, or the copy only
                assert load_alpha(wanted, result) == b"matte"
                remove(memory, result)
            except ResultNotFound:
                remove(memory, load_removed(wanted, result.id, "shop"))
            assert (load_image(wanted, shared), load_source(wanted, shared)) == (b"picture", b"upload")
            assert unfinished(wanted) == []
            remove(memory, shared)
            assert memory.objects == {}
        else:
            break
    assert begun > 20


def test_a_result_whose_removal_is_begun_holds_no_picture(store: LocalStore) -> None:
    memory = MemoryStore()
    first, second = save(memory), save(memory)
    with pytest.raises(ConnectionError):
        remove(Breaking(memory, 4), second)
    assert record_key("shop", second.id) not in memory.objects
    assert len(unfinished(memory)) == 1  # type: ignore[arg-type]
    assert remove(memory, first)
    assert first.key not in memory.objects


SCHEDULES = st.lists(st.booleans(), max_size=40)


@settings(max_examples=400, deadline=None)
@given(schedule=SCHEDULES)
def test_a_save_that_meets_a_removal_keeps_its_picture_and_nothing_is_left_over(schedule: list[bool]) -> None:
    memory = MemoryStore()
    first = save(memory)
    _, second = interleaved(memory, schedule, lambda store: remove(store, first), lambda store: save(store))
    wanted: Store = memory  # type: ignore[assignment]
    assert load_image(wanted, second) == b"picture"
    sweep(memory)
    assert load_image(wanted, load_result(wanted, second.id, "shop")) == b"picture"
    remove(memory, second)
    sweep(memory)
    assert memory.objects == {}


@settings(max_examples=300, deadline=None)
@given(schedule=SCHEDULES, same=st.booleans())
def test_two_removals_at_once_leave_nothing(schedule: list[bool], same: bool) -> None:
    memory = MemoryStore()
    first, second = save(memory), save(memory)
    other = first if same else second
    interleaved(memory, schedule, lambda store: remove(store, first), lambda store: remove(store, other))
    if same:
        wanted: Store = memory  # type: ignore[assignment]
        assert load_image(wanted, second) == b"picture"
        remove(memory, second)
    sweep(memory)
    assert memory.objects == {}


@settings(max_examples=300, deadline=None)
@given(schedule=SCHEDULES)
def test_two_saves_at_once_keep_their_pictures(schedule: list[bool]) -> None:
    memory = MemoryStore()
    both = interleaved(memory, schedule, save, save)
    wanted: Store = memory  # type: ignore[assignment]
    assert [load_image(wanted, result) for result in both] == [b"picture"] * 2
    for result in both:
        remove(memory, result)
    sweep(memory)
    assert memory.objects == {}


def test_the_clock_is_the_machines_unless_a_test_says_otherwise(store: LocalStore) -> None:
    result = save(store, now=datetime.fromtimestamp(time.time(), UTC))
    assert remove_result(store, result)
