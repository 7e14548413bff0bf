"""Who pays for the photos of jobs: tenants, by the keys file as it is now and the tally. No Ray.

What it is not: it decides on no photo (mattehorn/bulk/paid.py) and counts nothing (the tally). A job without a tenant,
or in a service without keys, has no account: nobody is asked.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

from deployments.tally.book import Tally
from mattehorn.access.budgets import Standing
from mattehorn.access.keys_file import KeysFile
from mattehorn.access.tenant import ANONYMOUS, Budget, Tenant
from mattehorn.bulk.plan import Account, Accounts, free
from mattehorn.errors import ImageTooLarge, MattehornError, QuotaExceeded, Unavailable
from mattehorn.settings import Limits, Settings

log = logging.getLogger("ray.serve")

SPENT_FOR_S = 5.0  # a job of a million photos is not read to the end for nothing; a larger budget counts as soon
KEYS_RETRY_S = 10


def make_accounts(settings: Settings, tally: Tally, clock: Callable[[], float] = time.monotonic) -> Accounts:
    """The account of each tenant by its name; one each, so that what a photo learns the next one knows."""
    if settings.keys_file is None:
        return free
    keys = KeysFile(Path(settings.keys_file), log=log)
    known: dict[str, TenantAccount] = {}

    def account(tenant: str) -> Account | None:
        if tenant == ANONYMOUS.name:
            return None
        return known.setdefault(tenant, TenantAccount(tenant, keys, settings, tally, clock))

    return account


class TenantAccount:
    """An Account of mattehorn/bulk/plan.py. The minute's rate is for requests: a job waits behind those anyway."""

    def __init__(
        self, tenant: str, keys: KeysFile, settings: Settings, tally: Tally, clock: Callable[[], float]
    ) -> None:
        self._name, self._keys, self._limits, self._tally, self._clock = tenant, keys, settings.limits, tally, clock
        self._lease_s = 2 * settings.bulk.photo_s  # an attempt and the time to keep its result
        self._spent: tuple[float, str] = (float("-inf"), "")

    @property
    def limits(self) -> Limits:
        return self._tenant().narrowed(self._limits)

    @property
    def source_bytes(self) -> int | None:
        return self._tenant().body_bytes

    def require_left(self) -> None:
        at, said = self._spent
        if self._clock() - at < SPENT_FOR_S:
            raise QuotaExceeded(said)

    async def hold(self, work: str, holder: str, megapixels: int) -> None:
        budget = Budget(per_month=self._tenant().budget.per_month)
        try:
            refused = await self._tally.hold(self._name, work, holder, megapixels, budget, self._lease_s)
        except MattehornError:
            if not budget.unlimited:
                raise
            return  # where nothing is limited, no count is worth a photo
        if refused is None:
            return
        if megapixels > refused.limit:
            raise ImageTooLarge(
                f"This photo costs {megapixels} megapixel images, more than its tenant's whole budget of "
                f"{refused.limit} a month; send a smaller one."
            )
        if not refused.remaining:
            self._spent = (self._clock(), f"The month's budget is spent: {_advice(refused)}")
        raise QuotaExceeded(f"This photo costs {megapixels} megapixel images: {_advice(refused)}")

    async def settle(self, work: str, holder: str) -> None:
        await self._tell("settle", self._tally.settle(self._name, work, holder))

    async def drop(self, work: str, holder: str) -> None:
        await self._tell("drop", self._tally.drop(self._name, work, holder))

    async def _tell(self, what: str, call: Awaitable[None]) -> None:
        """The hold ends by itself where the tally is away; then the photo is free."""
        try:
            await call
        except MattehornError as error:
            log.warning("bulk_charge_lost call=%s reason=%s", what, error.message)

    def _tenant(self) -> Tenant:
        """Raises Unavailable where the file was never to be read: no limits known are not no limits."""
        keyring = self._keys.read_keyring()
        if keyring is None:
            raise Unavailable("The keys file cannot be read by bulk work; see its log.", retry_after_s=KEYS_RETRY_S)
        return keyring.tenant(self._name)


def _advice(refused: Standing) -> str:
    whole_again = f"{datetime.fromtimestamp(refused.reset_at, UTC):%Y-%m-%dT%H:%M:%SZ}"
    return (
        f"{refused.remaining} of {refused.limit} megapixel images a month are left. Send it in a new job after "
        f"{whole_again}, or ask the operator for a larger budget."
    )
