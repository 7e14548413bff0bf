"""The history of stored results against a plain list of them: pages, searches, times, tenants, bounded work."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mattehorn.store.history import READ_MOST, Page, Search, page
from mattehorn.store.interface import Store
from mattehorn.store.records import StoredResult, delete_record, new_id, put_record, record_key
from tests.memory_store import MemoryStore

EVERYTHING = Search()
START = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


@pytest.fixture(scope="module")
def readers() -> Iterator[Executor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


def result_at(ms: int, **changes: Any) -> StoredResult:
    at = START + timedelta(milliseconds=ms)
    made = at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    plain = StoredResult(new_id(at), "a.png", "image/png", 1, 1, 1, "00", made)
    return replace(plain, **changes)


def stored(store: Any, results: list[StoredResult]) -> list[StoredResult]:
    """The results, newest first, now in the store."""
    for result in results:
        put_record(store, result)
    return sorted(results, key=lambda result: result.id)


def pages(
    store: Any,
    readers: Executor,
    search: Search = EVERYTHING,
    limit: int = 50,
    tenants: tuple[str, ...] = ("anonymous",),
) -> list[Page]:
    found, after = [], None
    while True:
        found.append(page(store, tenants, search, limit, after, readers))
        after = found[-1].after
        if after is None:
            return found


def ids(found: list[Page]) -> list[str]:
    return [result.id for one in found for result in one.results]


MODELS = st.sampled_from(["slim@1", "slim@2", "slimmer@1", None])
RECIPES = st.sampled_from(["white@1;ab12", "white@2;cd34", None])
NAMES = st.sampled_from(["Red Shoe", "red shirt", "Café", "Cafe\u0301", None])
RESULTS = st.builds(
    result_at,
    st.integers(0, 30),
    name=NAMES,
    sku=st.sampled_from(["A-1", "B-red", None]),
    model=MODELS,
    recipe=RECIPES,
    tenant=st.sampled_from(["shop", "shop-2"]),
)
TIMES = st.none() | st.integers(-2, 32).map(lambda ms: START + timedelta(milliseconds=ms))
SEARCHES = st.builds(
    Search,
    q=st.none() | st.sampled_from(["RED", "café", "a-1", "nowhere"]),
    since=TIMES,
    until=TIMES,
    model=st.none() | st.sampled_from(["slim", "slim@2", "sli"]),
    recipe=st.none() | st.sampled_from(["white", "white@2", "white@2;cd34"]),
)


def plainly(results: list[StoredResult], search: Search, tenant: str) -> list[str]:
    """What a list of everything says, written apart from the code: no id's time, no prefix of a key."""

    def is_meant(result: StoredResult) -> bool:
        at = datetime.fromisoformat(result.created_at)
        words = [(text or "").lower().replace("e\u0301", "é") for text in (result.name, result.sku)]
        model, recipe = result.model or "", result.recipe or ""
        names = {model, model.split("@")[0], recipe, recipe.split(";")[0], recipe.split("@")[0]}
        return (
            result.tenant == tenant
            and (search.since is None or at >= search.since)
            and (search.until is None or at < search.until)
            and (search.q is None or any(search.q.lower() in word for word in words))
            and (search.model is None or search.model in names)
            and (search.recipe is None or search.recipe in names)
        )

    return sorted(result.id for result in results if is_meant(result))


@settings(max_examples=120, deadline=None)
@given(results=st.lists(RESULTS, max_size=40), search=SEARCHES, limit=st.integers(1, 9))
def test_the_pages_together_are_what_a_list_of_everything_says(
    readers: Executor, results: list[StoredResult], search: Search, limit: int
) -> None:
    store = MemoryStore()
    stored(store, results)
    found = pages(store, readers, search, limit, ("shop",))
    assert ids(found) == plainly(results, search, "shop")
    assert all(len(one.results) <= limit for one in found)


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(st.tuples(st.sampled_from(["add", "delete", "page"]), st.integers(0, 50)), max_size=30),
    limit=st.integers(1, 4),
)
def test_what_comes_and_goes_meanwhile_repeats_nothing_and_hides_nothing(
    readers: Executor, steps: list[tuple[str, int]], limit: int
) -> None:
    store = MemoryStore()
    there = stored(store, [result_at(n) for n in range(12)])
    whole, seen, after, is_over = {result.id for result in there}, [], None, False
    for what, number in steps:
        if what == "add":
            there += stored(store, [result_at(100 + number)])
        elif what == "delete" and there:
            gone = there.pop(number % len(there))
            delete_record(store, gone)  # type: ignore[arg-type]
            whole.discard(gone.id)
        elif what == "page" and not is_over:
            one = page(store, ["anonymous"], Search(), limit, after, readers)  # type: ignore[arg-type]
            seen += [result.id for result in one.results]
            after, is_over = one.after, one.after is None
    assert seen == sorted(set(seen))
    while not is_over:
        one = page(store, ["anonymous"], Search(), limit, after, readers)  # type: ignore[arg-type]
        seen += [result.id for result in one.results]
        after, is_over = one.after, one.after is None
    assert whole <= set(seen)


def test_records_of_version_0_1_are_the_history_of_anonymous_alone(readers: Executor) -> None:
    store = MemoryStore()
    earlier = [result_at(n, tenant=tenant) for n, tenant in enumerate(["anonymous", "shop", "anonymous"])]
    for result in earlier:
        data = json.dumps(asdict(result)).encode()
        store.put(f".results/{result.id}.json", data, content_type="application/json")
    (newer,) = stored(store, [result_at(9)])
    assert ids(pages(store, readers, limit=1)) == [newer.id, earlier[2].id, earlier[0].id]
    assert ids(pages(store, readers, tenants=("shop",))) == []


def test_several_tenants_are_one_history(readers: Executor) -> None:
    store = MemoryStore()
    everything = stored(store, [result_at(n, tenant=("shop", "anonymous", "other")[n % 3]) for n in range(12)])
    own = [result.id for result in everything if result.tenant != "other"]
    assert ids(pages(store, readers, limit=3, tenants=("shop", "anonymous"))) == own


def test_a_page_reads_its_own_records_only(readers: Executor) -> None:
    store = MemoryStore()
    everything = stored(store, [result_at(n, tenant=("shop", "other")[n % 2]) for n in range(2000)])
    store.requests.clear()
    page(store, ["shop"], Search(), 20, None, readers)  # type: ignore[arg-type]
    assert store.requests == {"list": 1, "get": 20}
    store.requests.clear()
    at = datetime.fromisoformat(everything[1001].created_at)
    search = Search(since=at - timedelta(milliseconds=3), until=at, q="x")
    assert page(store, ["shop", "other"], search, 20, None, readers).results == []  # type: ignore[arg-type]
    assert store.requests == {"list": 2, "get": 3}


def test_a_search_that_finds_little_comes_back_and_goes_on(readers: Executor) -> None:
    store = MemoryStore()
    everything = stored(store, [result_at(n, name="mug" if n == 0 else None) for n in range(READ_MOST + 10)])
    store.requests.clear()
    first, second = pages(store, readers, Search(q="mug"))
    assert (first.results, first.after) == ([], everything[READ_MOST - 1].id)
    assert store.requests["get"] == READ_MOST + 10
    assert [result.name for result in second.results] == ["mug"]


def test_a_damaged_record_hides_no_other(readers: Executor) -> None:
    store = MemoryStore()
    everything = stored(store, [result_at(n) for n in range(3)])
    store.put(record_key("anonymous", everything[1].id), b"{", content_type="application/json")
    store.put(".results/of/anonymous/notes.txt", b"", content_type="text/plain")
    assert ids(pages(store, readers, limit=1)) == [everything[0].id, everything[2].id]


def test_a_record_that_goes_after_it_was_listed_is_left_out(readers: Executor) -> None:
    class Deleting(MemoryStore):
        def get(self, key: str) -> bytes:
            self.objects.pop(record_key("anonymous", everything[1].id), None)
            return super().get(key)

    store = Deleting()
    everything = stored(store, [result_at(n) for n in range(3)])
    with ThreadPoolExecutor(1) as one:
        wanted: Store = store  # type: ignore[assignment]
        assert [r.id for r in page(wanted, ["anonymous"], Search(), 3, None, one).results] == [
            everything[0].id,
            everything[2].id,
        ]
