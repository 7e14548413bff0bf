"""Megapixels held for work that is charged when it is done: once each, within the month, whatever crashes."""

from __future__ import annotations

from datetime import UTC, datetime

from mattehorn.access.budgets import Budgets
from mattehorn.access.tenant import Budget
from tests.clock import Clock

START = datetime(2026, 11, 30, 23, 0, tzinfo=UTC).timestamp()
DECEMBER = datetime(2026, 12, 1, tzinfo=UTC).timestamp()
LEASE_S = 600.0


class Shop:
    """One tenant's holds, of 10 megapixel images a month."""

    def __init__(self) -> None:
        self.clock = Clock(START)
        self.budgets = Budgets(self.clock)
        self.budget = Budget(per_minute=1, per_month=10)

    def hold(self, work: str, holder: str = "a", cost: int = 4) -> bool:
        """Whether it was held."""
        return self.budgets.hold("shop", work, holder, cost, self.budget, LEASE_S) is None

    def settle(self, work: str, holder: str = "a") -> None:
        self.budgets.settle("shop", work, holder)

    def drop(self, work: str, holder: str = "a") -> None:
        self.budgets.drop("shop", work, holder)

    @property
    def spent(self) -> int:
        return self.budgets.spent("shop").month

    @property
    def left(self) -> int:
        """For requests, and for other work."""
        standing = self.budgets.charge("shop", 0, Budget(per_month=10))
        assert standing is not None
        return standing.remaining


def test_what_is_held_is_out_of_reach_and_not_yet_spent() -> None:
    shop = Shop()
    assert [shop.hold(work) for work in ("1", "2", "3")] == [True, True, False]
    assert (shop.left, shop.spent) == (2, 0)
    refused = shop.budgets.charge("shop", 3, Budget(per_month=10))
    assert refused is not None
    assert (refused.refused, refused.remaining) == ("quota_exceeded", 2)


def test_a_refused_hold_says_what_is_left_and_when_the_month_ends() -> None:
    shop = Shop()
    shop.hold("1", cost=9)
    refused = shop.budgets.hold("shop", "2", "a", 4, shop.budget, LEASE_S)
    assert refused is not None
    assert (refused.refused, refused.limit, refused.remaining) == ("quota_exceeded", 10, 1)
    assert (refused.reset_at, refused.retry_after_s) == (int(DECEMBER), 3600)


def test_the_minute_neither_limits_a_hold_nor_counts_it() -> None:
    shop = Shop()
    assert shop.hold("1")
    shop.settle("1")
    assert shop.budgets.spent("shop").minute == 0
    assert shop.spent == 4


def test_work_that_two_hold_is_held_once_and_paid_by_the_first_that_has_done_it() -> None:
    shop = Shop()
    assert shop.hold("1", "a", cost=9)
    assert shop.hold("1", "b", cost=9)
    assert shop.left == 1
    shop.drop("1", "b")  # whose put was refused, before the first one tells that it has made it
    shop.settle("1", "a")
    assert (shop.spent, shop.left) == (9, 1)


def test_two_that_both_believe_to_have_made_it_pay_once() -> None:
    shop = Shop()
    shop.hold("1", "a")
    shop.hold("1", "b")
    shop.settle("1", "a")
    shop.settle("1", "b")
    assert shop.spent == 4
    shop.hold("1", "c")
    shop.settle("1", "b")  # a late word does not pay with another's hold
    assert shop.spent == 4


def test_what_comes_to_nothing_costs_nothing() -> None:
    shop = Shop()
    shop.hold("1")
    shop.drop("1")
    shop.drop("1")
    shop.settle("1")
    assert (shop.spent, shop.left) == (0, 10)


def test_after_a_crash_the_work_is_taken_up_under_the_same_hold_and_paid_once() -> None:
    shop = Shop()
    shop.hold("1", "crashed", cost=10)
    assert shop.hold("1", "next", cost=10)
    shop.settle("1", "next")
    assert (shop.spent, shop.left) == (10, 0)
    assert not shop.hold("2")


def test_a_hold_that_nobody_ends_is_free_when_its_lease_is_over() -> None:
    shop = Shop()
    shop.hold("1", cost=10)
    shop.clock.now += LEASE_S - 1
    assert not shop.hold("2")
    shop.clock.now += 1
    assert shop.hold("2")
    shop.settle("1")
    assert (shop.spent, shop.left) == (0, 6)


def test_a_photo_counts_in_the_month_in_which_it_is_done() -> None:
    shop = Shop()
    shop.clock.now = DECEMBER - 1
    shop.hold("1")
    shop.clock.now = DECEMBER + 1
    shop.settle("1")
    assert shop.budgets.month() == ("2026-12", {"shop": 4})


def test_holds_are_not_among_the_counts_that_are_kept() -> None:
    shop = Shop()
    shop.hold("1")
    assert shop.budgets.month() == ("2026-11", {})


def test_tenants_hold_the_same_work_each_for_itself() -> None:
    shop = Shop()
    shop.hold("1")
    assert shop.budgets.hold("other", "1", "x", 3, Budget(), LEASE_S) is None
    shop.settle("1")
    shop.budgets.settle("other", "1", "x")
    assert shop.budgets.month()[1] == {"shop": 4, "other": 3}
