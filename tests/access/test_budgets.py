"""What tenants spend: windows, months, refunds, and what of it outlives the replica that counts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.tally.keeper import Keeper
from mattehorn.access.budgets import Budgets, megapixel_images, month_ends, month_of
from mattehorn.access.tenant import Budget
from mattehorn.access.usage import read_month, write_month
from mattehorn.errors import StoreUnavailable
from mattehorn.store.local import LocalStore
from tests.clock import Clock

START = datetime(2026, 11, 28, 9, 30, 0, 250_000, tzinfo=UTC).timestamp()
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC).timestamp()


def at(now: float = START) -> tuple[Budgets, Clock]:
    clock = Clock(now)
    return Budgets(clock), clock


@pytest.mark.parametrize(
    ("width", "height", "cost"), [(1, 1, 1), (1200, 800, 1), (1600, 1200, 2), (6250, 4000, 25), (1000, 1001, 2)]
)
def test_a_photo_costs_its_megapixels_rounded_up(width: int, height: int, cost: int) -> None:
    assert megapixel_images(width, height) == cost


def test_a_window_is_opened_by_its_first_charge_and_reset_stays_the_same_in_it() -> None:
    budgets, clock = at()
    standings = []
    for second in (0, 10, 59.7):
        clock.now = START + second
        standings.append(budgets.charge("shop", 2, Budget(per_minute=5)))
    first, second, third = standings
    assert first
    assert second
    assert third
    assert [one.remaining for one in (first, second, third)] == [3, 1, 1]
    assert {one.reset_at for one in (first, second, third)} == {int(START) + 61}
    assert (third.refused, third.retry_after_s) == ("rate_limited", 2)
    clock.now = START + 60
    opened = budgets.charge("shop", 2, Budget(per_minute=5))
    assert opened is not None
    assert (opened.remaining, opened.reset_at) == (3, int(START) + 121)


def test_a_refused_charge_costs_nothing_and_a_smaller_one_still_fits() -> None:
    budgets, _ = at()
    budget = Budget(per_minute=5, per_month=100)
    assert budgets.charge("shop", 4, budget)
    refused = budgets.charge("shop", 2, budget)
    assert refused is not None
    assert (refused.refused, refused.remaining) == ("rate_limited", 1)
    assert budgets.spent("shop").month == 4
    assert budgets.charge("shop", 1, budget).refused is None  # type: ignore[union-attr]


def test_the_tighter_limit_is_told_and_the_one_that_lasts_longer_refuses() -> None:
    budgets, _ = at()
    told = budgets.charge("shop", 1, Budget(per_minute=10, per_month=3))
    assert told is not None
    assert (told.limit, told.remaining, told.reset_at) == (3, 2, int(DECEMBER))
    refused = budgets.charge("shop", 20, Budget(per_minute=10, per_month=3))
    assert refused is not None
    assert (refused.refused, refused.reset_at) == ("quota_exceeded", int(DECEMBER))


def test_a_month_ends_at_midnight_utc_and_never_comes_back() -> None:
    budgets, clock = at(DECEMBER - 0.5)
    budget = Budget(per_month=3)
    assert budgets.charge("shop", 3, budget).refused is None  # type: ignore[union-attr]
    assert budgets.charge("shop", 1, budget).retry_after_s == 1  # type: ignore[union-attr]
    clock.now = DECEMBER
    assert budgets.charge("shop", 2, budget).remaining == 1  # type: ignore[union-attr]
    clock.now = DECEMBER - 0.2  # a clock set right
    assert budgets.month() == ("2026-12", {"shop": 2})


def test_months_end_where_the_calendar_says() -> None:
    for text, ends in (("2026-12-31T23:59:59+00:00", "2027-01-01"), ("2028-02-29T12:00:00+00:00", "2028-03-01")):
        moment = datetime.fromisoformat(text).timestamp()
        assert month_of(month_ends(moment)) == ends[:7]
        assert datetime.fromtimestamp(month_ends(moment), UTC).isoformat().startswith(f"{ends}T00:00:00")


def test_a_refund_goes_to_the_window_and_the_month_that_paid() -> None:
    budgets, clock = at()
    budget = Budget(per_minute=5, per_month=50)
    early = budgets.charge("shop", 3, budget)
    assert early is not None
    clock.now += 61
    late = budgets.charge("shop", 4, budget)
    assert late is not None
    budgets.refund("shop", 3, early.charged_at)
    assert (budgets.spent("shop").minute, budgets.spent("shop").month) == (4, 4)
    budgets.refund("shop", 4, late.charged_at)
    assert (budgets.spent("shop").minute, budgets.spent("shop").month) == (0, 0)
    clock.now = DECEMBER + 5
    budgets.charge("shop", 2, budget)
    budgets.refund("shop", 4, late.charged_at)
    assert budgets.spent("shop").month == 2


def test_tenants_do_not_pay_for_each_other_and_an_unlimited_one_is_counted() -> None:
    budgets, _ = at()
    assert budgets.charge("shop", 5, Budget(per_minute=5))
    assert budgets.charge("other", 5, Budget(per_minute=5)).refused is None  # type: ignore[union-attr]
    assert budgets.charge("free", 7, Budget()) is None
    assert budgets.spent("free").month == 7


def test_windows_that_have_ended_take_no_memory() -> None:
    budgets, clock = at()
    for number in range(1000):
        budgets.charge(f"shop{number}", 1, Budget(per_minute=5))
    clock.now += 61
    budgets.charge("shop", 1, Budget(per_minute=5))
    assert len(budgets._minutes) == 1


@given(
    st.integers(1, 30),
    st.lists(st.tuples(st.integers(1, 12), st.floats(0, 50), st.booleans()), min_size=1, max_size=40),
)
def test_no_window_ever_holds_more_than_the_budget(limit: int, steps: Iterable[tuple[int, float, bool]]) -> None:
    budgets, clock = at()
    spent: list[tuple[float, int]] = []
    for cost, pause, fails in steps:
        clock.now += pause
        standing = budgets.charge("shop", cost, Budget(per_minute=limit))
        assert standing is not None
        assert 0 <= standing.remaining <= limit
        assert standing.reset_at - clock.now <= 61
        if standing.refused is None:
            if fails:
                budgets.refund("shop", cost, standing.charged_at)
            else:
                spent.append((standing.reset_at, cost))
        assert sum(one for reset_at, one in spent if reset_at == standing.reset_at) <= limit


# what outlives the replica


class Fragile(LocalStore):
    """A store that may be away, and counts what is written."""

    away = False
    written = 0

    def get(self, *arguments: Any, **more: Any) -> bytes:
        if self.away:
            raise StoreUnavailable("away")
        return super().get(*arguments, **more)

    def put(self, *arguments: Any, **more: Any) -> bool:
        if self.away:
            raise StoreUnavailable("away")
        self.written += 1
        return super().put(*arguments, **more)


def test_a_months_counts_are_found_again_by_the_next_replica(tmp_path: Path) -> None:
    store = Fragile(tmp_path)
    first, _ = at()
    first.charge("shop", 3, Budget(per_month=5))
    assert asyncio.run(Keeper(first, store).save())
    second, _ = at()
    asyncio.run(Keeper(second, store).save())
    refused = second.charge("shop", 3, Budget(per_month=5))
    assert refused is not None
    assert (refused.refused, refused.remaining) == ("quota_exceeded", 2)
    assert list(store.list(".usage/")) == [".usage/2026-11.json"]


def test_only_what_has_changed_is_written(tmp_path: Path) -> None:
    store, (budgets, _) = Fragile(tmp_path), at()

    async def story() -> list[int]:
        keeper = Keeper(budgets, store)
        seen = []
        for cost in (0, 3, 0, 2, 0):
            if cost:
                budgets.charge("shop", cost, Budget())
            await keeper.save()
            seen.append(store.written)
        return seen

    assert asyncio.run(story()) == [0, 1, 1, 2, 2]


def test_what_is_counted_while_the_store_is_away_is_added_to_what_it_holds(tmp_path: Path) -> None:
    store, (budgets, _) = Fragile(tmp_path), at()
    write_month(store, "2026-11", {"shop": 4})

    async def story() -> tuple[bool, bool]:
        keeper = Keeper(budgets, store)
        store.away = True
        budgets.charge("shop", 3, Budget())
        failed = await keeper.save()
        store.away = False
        return failed, await keeper.save()

    assert asyncio.run(story()) == (False, True)
    assert read_month(store, "2026-11") == {"shop": 7}


def test_a_damaged_record_is_counted_anew_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store, (budgets, _) = Fragile(tmp_path), at()
    store.put(".usage/2026-11.json", b"{", content_type="application/json")
    budgets.charge("shop", 3, Budget())
    assert asyncio.run(Keeper(budgets, store).save())
    assert read_month(store, "2026-11") == {"shop": 3}
    assert "usage_not_kept" in caplog.text
