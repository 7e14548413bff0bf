"""Claims: one holder at a time, leases that run out, waiters that hear of it, and nothing left behind."""

from __future__ import annotations

import asyncio

import pytest

from mattehorn.cache.claims import Claims
from tests.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def claims(clock: Clock) -> Claims:
    return Claims(clock)


def test_the_first_has_it_until_it_is_released(claims: Claims) -> None:
    assert claims.claim("photo", "a", 5)
    assert not claims.claim("photo", "b", 5)
    assert claims.claim("other", "b", 5)
    claims.release("photo", "a")
    assert claims.claim("photo", "b", 5)


def test_only_the_holder_can_release(claims: Claims) -> None:
    claims.claim("photo", "a", 5)
    claims.release("photo", "b")
    claims.release("nothing", "b")
    assert not claims.claim("photo", "b", 5)


def test_a_lease_runs_out_and_renewing_puts_that_off(claims: Claims, clock: Clock) -> None:
    claims.claim("photo", "a", 5)
    clock.now = 4
    assert claims.claim("photo", "a", 5)
    clock.now = 8.9
    assert not claims.claim("photo", "b", 5)
    clock.now = 9
    assert claims.claim("photo", "b", 5)
    assert not claims.claim("photo", "a", 5)  # the late one learns that it has lost it
    claims.release("photo", "a")
    assert not claims.claim("photo", "c", 5)


def test_a_lease_that_ran_out_behind_a_longer_one_is_free_all_the_same(claims: Claims, clock: Clock) -> None:
    claims.claim("long", "a", 100)
    claims.claim("photo", "a", 5)
    clock.now = 6
    assert claims.claim("photo", "b", 5)


def test_claims_of_the_dead_are_dropped_by_whoever_claims_next(claims: Claims, clock: Clock) -> None:
    for number in range(1000):
        claims.claim(f"photo {number}", "dead", 5)
    assert len(claims) == 1000
    clock.now = 5
    claims.claim("another", "b", 5)
    assert len(claims) == 1


async def until_all_wait() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_all_who_wait_hear_of_the_release() -> None:
    async def story() -> list[bool]:
        claims = Claims()
        claims.claim("photo", "a", 60)
        waiting = [asyncio.create_task(claims.released("photo", 60)) for _ in range(50)]
        await until_all_wait()
        assert not any(task.done() for task in waiting)
        claims.release("photo", "a")
        return await asyncio.gather(*waiting)

    assert asyncio.run(story()) == [True] * 50


def test_what_nobody_holds_is_released() -> None:
    assert asyncio.run(Claims().released("photo", 60))


def test_who_waits_gives_up_in_time() -> None:
    async def story() -> bool:
        claims = Claims()
        claims.claim("photo", "a", 60)
        return await claims.released("photo", 0.01)

    assert not asyncio.run(story())


def test_the_lease_of_a_dead_holder_ends_the_wait() -> None:
    async def story() -> bool:
        claims = Claims()
        claims.claim("photo", "dead", 0.02)
        return await claims.released("photo", 60)

    assert asyncio.run(story())


def test_a_renewed_lease_does_not_end_the_wait() -> None:
    async def story() -> bool:
        claims = Claims()
        claims.claim("photo", "a", 0.02)
        waiting = asyncio.create_task(claims.released("photo", 0.08))
        await until_all_wait()
        claims.claim("photo", "a", 60)
        return await waiting

    assert not asyncio.run(story())


def test_one_who_stops_waiting_leaves_the_others_and_the_claim_as_they_are() -> None:
    async def story() -> bool:
        claims = Claims()
        claims.claim("photo", "a", 60)
        leaves, stays = (asyncio.create_task(claims.released("photo", 60)) for _ in range(2))
        await until_all_wait()
        leaves.cancel()
        await until_all_wait()
        assert not claims.claim("photo", "b", 60)
        claims.release("photo", "a")
        return await stays

    assert asyncio.run(story())


def test_those_who_waited_for_a_claim_do_not_wait_for_the_next_one() -> None:
    async def story() -> bool:
        claims = Claims()
        claims.claim("photo", "a", 60)
        waiting = asyncio.create_task(claims.released("photo", 60))
        await until_all_wait()
        claims.release("photo", "a")
        claims.claim("photo", "b", 60)
        return await waiting

    assert asyncio.run(story())
