"""The weighted semaphore: never above its capacity, first come first served, nothing lost when a caller leaves."""

from __future__ import annotations

import asyncio
import random

import pytest

from deployments.compose.permits import Permits


class Holder:
    """A task that takes `amount`, says so in `log`, and gives it back when told."""

    def __init__(self, permits: Permits, amount: float, name: str, log: list[str]) -> None:
        self.permits, self.amount, self.name, self.log = permits, amount, name, log
        self.release = asyncio.Event()
        self.task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        async with self.permits.hold(self.amount):
            self.log.append(self.name)
            await self.release.wait()

    async def finish(self) -> None:
        self.release.set()
        await self.task


async def settle() -> None:
    """Lets every ready task run until all of them wait."""
    for _ in range(10):
        await asyncio.sleep(0)


def test_what_fits_together_is_held_together() -> None:
    async def check() -> None:
        permits, log = Permits(10), []
        holders = [Holder(permits, 4, "a", log), Holder(permits, 6, "b", log)]
        await settle()
        assert log == ["a", "b"]
        assert permits.held == 10
        for holder in holders:
            await holder.finish()
        assert permits.held == 0

    asyncio.run(check())


def test_what_does_not_fit_waits_until_enough_is_given_back() -> None:
    async def check() -> None:
        permits, log = Permits(10), []
        first, second = Holder(permits, 6, "a", log), Holder(permits, 5, "b", log)
        await settle()
        assert log == ["a"]
        await first.finish()
        await settle()
        assert log == ["a", "b"]
        await second.finish()

    asyncio.run(check())


def test_a_small_wish_does_not_overtake_a_large_one() -> None:
    async def check() -> None:
        permits, log = Permits(10), []
        first = Holder(permits, 6, "first", log)
        large, small = Holder(permits, 10, "large", log), Holder(permits, 1, "small", log)
        await settle()
        assert log == ["first"]  # small would fit, and large would starve
        await first.finish()
        await settle()
        assert log == ["first", "large"]
        await large.finish()
        await settle()
        assert log == ["first", "large", "small"]
        await small.finish()

    asyncio.run(check())


def test_a_wish_above_the_capacity_takes_all_of_it_and_gives_all_back() -> None:
    async def check() -> None:
        permits = Permits(10)
        async with permits.hold(50):
            assert permits.held == 10
        assert permits.held == 0

    asyncio.run(check())


def test_an_error_inside_the_block_gives_the_permit_back() -> None:
    async def check() -> None:
        permits = Permits(10)
        with pytest.raises(KeyError):
            async with permits.hold(7):
                raise KeyError("x")
        assert permits.held == 0

    asyncio.run(check())


def test_a_waiting_caller_that_leaves_lets_the_next_one_in() -> None:
    async def check() -> None:
        permits, log = Permits(10), []
        first = Holder(permits, 6, "first", log)
        large, small = Holder(permits, 10, "large", log), Holder(permits, 1, "small", log)
        await settle()
        large.task.cancel()
        await settle()
        assert log == ["first", "small"]
        await first.finish()
        await small.finish()
        assert permits.held == 0

    asyncio.run(check())


def test_a_caller_that_leaves_in_the_moment_of_getting_its_permit_gives_it_back() -> None:
    async def check() -> None:
        permits, log = Permits(10), []
        first, second = Holder(permits, 10, "first", log), Holder(permits, 10, "second", log)
        third = Holder(permits, 10, "third", log)
        await settle()
        first.release.set()
        while not first.task.done():
            await asyncio.sleep(0)
        second.task.cancel()  # its permit may be given, but its task has not run yet
        await settle()
        assert log[-1] == "third"
        await third.finish()
        assert permits.held == 0

    asyncio.run(check())


def test_fractions_of_megapixels_leave_no_crumbs() -> None:
    """0.1 + 0.2 - 0.1 - 0.2 is not 0 in floats: a wish for everything must still be met after many others."""

    async def check() -> None:
        permits, log = Permits(200), []
        rng = random.Random(7)
        for _ in range(300):
            holders = [Holder(permits, rng.uniform(0.01, 30), "some", log) for _ in range(5)]
            await settle()
            for holder in holders:
                await holder.finish()
        whole = Holder(permits, 200, "whole", log)
        await settle()
        assert log[-1] == "whole"
        await whole.finish()
        assert permits.held == 0

    asyncio.run(check())


def test_many_callers_that_come_and_go_never_exceed_the_capacity() -> None:
    async def check() -> None:
        permits, rng = Permits(50), random.Random(3)
        held, most = 0.0, 0.0

        async def one(amount: float) -> None:
            nonlocal held, most
            async with permits.hold(amount):
                held += amount
                most = max(most, held)
                try:
                    await asyncio.sleep(0)
                finally:
                    held -= amount

        tasks = [asyncio.ensure_future(one(rng.uniform(1, 30))) for _ in range(200)]
        await asyncio.sleep(0)
        for task in rng.sample(tasks, 60):
            task.cancel()
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 30)
        assert 0 < most <= 50 + 1e-6
        assert permits.held == pytest.approx(0)

    asyncio.run(check())
