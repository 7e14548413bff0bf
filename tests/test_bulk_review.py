"""What a recipe's gate sends to review, in bulk work: a key of its own, exactly once, counted."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from mattehorn.bulk import manifest
from mattehorn.bulk.manifest import Tally, tally_from
from mattehorn.recipe.gate import Gate
from mattehorn.recipe.recipe import Recipe

from .bulk_bench import OUT, RECIPE, Bench, StoreAround, body, fake_cut_out, plan, rows
from .bulk_item import never, store_with_photo, work


def gated(**quality: Any) -> Recipe:
    return dataclasses.replace(RECIPE, quality=Gate(**quality))


LOW = plan(recipe=gated(accept=1.0))
HIGH = plan(recipe=gated(accept=0.1))


@pytest.fixture
def store(tmp_path: Path) -> StoreAround:
    return store_with_photo(tmp_path)


def test_a_weak_result_lies_below_review_under_its_usual_key(store: StoreAround) -> None:
    outcome = work(store, plan=LOW)
    (usual, review) = LOW.results("in/a.jpg", LOW.identity(outcome.version))
    assert (outcome.status, outcome.output, outcome.review) == ("done", review, True)
    assert review == usual.replace(OUT, f"{OUT}review/", 1)
    assert list(store.inner.list(OUT)) == [review]
    head = store.inner.head(review)
    assert head is not None
    assert json.loads(head.metadata["quality"])["route"] == "review"


def test_a_good_one_lies_where_it_always_did(store: StoreAround) -> None:
    outcome = work(store, plan=HIGH)
    assert (outcome.review, (outcome.output or "").startswith(f"{OUT}in/")) == (False, True)


@pytest.mark.parametrize("plan", [LOW, HIGH], ids=["review", "accept"])
def test_a_second_time_it_is_found_in_either_place(store: StoreAround, plan: Any) -> None:
    first = work(store, plan=plan)
    again = work(store, plan=plan, cut_out=never)
    assert (again.status, again.output, again.review) == ("skipped", first.output, first.review)


def test_another_machine_that_judges_otherwise_makes_no_second_one(tmp_path: Path) -> None:
    class Racing(StoreAround):
        """Another worker's result comes while this one works."""

        looks = 0

        def head(self, key: str) -> Any:
            self.looks += 1
            return super().head(key) if self.looks > 2 else None

    store = store_with_photo(tmp_path)
    head = store.inner.head("in/a.jpg")
    assert head is not None
    h = LOW.identity(head.etag)
    accepted = LOW.result("in/a.jpg", h)
    store.put(accepted, b"made elsewhere", content_type="image/webp")
    outcome = work(Racing(store), plan=LOW)
    assert (outcome.status, outcome.output) == ("skipped", accepted)
    assert list(store.inner.list(OUT)) == [accepted]


def test_a_rejected_one_is_a_record_of_an_error(store: StoreAround) -> None:
    outcome = work(store, plan=plan(recipe=gated(accept=1.0, otherwise="reject")))
    assert (outcome.status, outcome.code) == ("error", "low_quality")
    assert (outcome.output or "").startswith(f"{OUT}errors/")


def test_without_a_gate_one_place_is_looked_at(store: StoreAround) -> None:
    work(store)
    assert [name for name, _ in store.calls] == ["open", "head", "put"]


def test_the_job_counts_reviews_and_its_manifest_names_them(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.add_photos(3)
    mine = {**gated(accept=1.0).document(), "name": "mine"}
    spec = bench.jobs.submit(body(recipe=mine, output=OUT))
    bench.run()
    document = bench.jobs.progress(spec.id).document()
    assert (document["success"], document["review"], document["failed"]) == (3, 3, [])
    lines = rows(bench, spec.id)
    assert [line["review"] for line in lines] == [True] * 3
    assert all("/review/" in line["output"] or line["output"].startswith("out/review/") for line in lines)
    bench.close()


def test_counts_of_an_older_release_are_read() -> None:
    document = Tally(success=2, first_at=1.0, last_at=2.0).document()
    del document["review"]
    assert tally_from(document).review == 0
    assert (tally_from(document) + Tally(success=1, review=1)).review == 1
    assert manifest.tally([]).review == 0


def test_a_recipe_of_a_job_is_told_to_whoever_makes_the_picture(store: StoreAround) -> None:
    heard: list[Any] = []

    async def cut_out(data: bytes, wish: Any) -> Any:
        heard.append(wish)
        return await fake_cut_out(data, wish)

    work(store, plan=LOW, cut_out=cut_out)
    assert (heard[0].recipe, heard[0].gate) == (LOW.recipe.tag, LOW.recipe.quality)
