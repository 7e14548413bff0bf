"""Whose deadline comes first goes first, and no slot is ever lost."""

from __future__ import annotations

import asyncio
import random

from deployments.compose.slots import Slots


async def use(slots: Slots, deadline: float, name: str, log: list[str], until: asyncio.Event) -> None:
    async with slots.hold(deadline):
        log.append(name)
        await until.wait()


def test_the_earliest_deadline_goes_first_then_who_came_first() -> None:
    async def run() -> list[str]:
        slots, log, first, now = Slots(1), [], asyncio.Event(), asyncio.Event()
        now.set()
        tasks = [asyncio.create_task(use(slots, 50, "holder", log, first))]
        await asyncio.sleep(0)
        for deadline, name in [(30, "late"), (10, "early"), (30, "later"), (20, "middle")]:
            tasks.append(asyncio.create_task(use(slots, deadline, name, log, now)))
        await asyncio.sleep(0)
        assert log == ["holder"]
        first.set()
        await asyncio.gather(*tasks)
        return log

    assert asyncio.run(run()) == ["holder", "early", "middle", "late", "later"]


def test_an_older_photos_last_step_goes_before_a_younger_ones_first() -> None:
    async def photo(slots: Slots, number: int, log: list[tuple[int, int]]) -> None:
        for step in range(3):
            async with slots.hold(deadline=100 + number):
                log.append((number, step))
                await asyncio.sleep(0)

    async def run() -> list[tuple[int, int]]:
        slots, log = Slots(1), []
        await asyncio.gather(*(photo(slots, number, log) for number in range(4)))
        return log

    done = asyncio.run(run())
    ends = [done.index((number, 2)) for number in range(4)]
    assert ends[0] < len(done) / 2  # in one plain line it would end as the fourth from the last
    assert ends == sorted(ends)


def test_slots_survive_callers_that_leave_at_any_moment() -> None:
    async def run() -> int:
        slots, chance, most, busy = Slots(3), random.Random(7), 0, 0

        async def work() -> None:
            nonlocal most, busy
            async with slots.hold(chance.random()):
                busy += 1
                most = max(most, busy)
                try:
                    await asyncio.sleep(chance.random() / 500)
                finally:
                    busy -= 1

        tasks = [asyncio.create_task(work()) for _ in range(200)]
        for task in chance.sample(tasks, 80):
            await asyncio.sleep(chance.random() / 500)
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        async with asyncio.timeout(10):
            async with slots.hold(0), slots.hold(0), slots.hold(0):  # all three are there again
                pass
        return most

    assert asyncio.run(run()) == 3
