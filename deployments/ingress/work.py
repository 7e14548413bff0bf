"""Between a read body and its answer, the same for every contract: look whether it is known, else charge the tenant and
have the job done.

What it is not: it knows no contract's fields and no error's shape. One per ingress replica.
"""

from __future__ import annotations

import math
from dataclasses import replace

from deployments.calls import Answer, Job
from deployments.ingress.jobs import Service
from deployments.ingress.once.answer_cache import AnswerCache
from deployments.ingress.served import Served
from deployments.ingress.tenancy import TENANT, own_limits
from deployments.weight import megapixels
from mattehorn.access.budgets import Standing, megapixel_images
from mattehorn.access.tenant import ANONYMOUS, Budget, Tenant
from mattehorn.cache.answers import Answers
from mattehorn.cache.fingerprint import Question
from mattehorn.cache.kept import CACHE, Kept
from mattehorn.errors import ImageTooLarge, MattehornError, QuotaExceeded, RateLimited
from mattehorn.image.decode import read_header


class Work:
    def __init__(self, service: Service) -> None:
        self._service = service
        settings = service.settings.cache
        self.kept = Kept(service.store, CACHE, ttl_s=settings.ttl_s, max_bytes=settings.max_bytes)
        self._cache = AnswerCache.of(service, Answers(self.kept, service.store))

    async def cut_out(self, job: Job, budget: Budget | None = None) -> Served:
        """The answer to one job of this request's tenant, within `budget` (the tenant's own where None is given).

        Raises the errors of `Service.cut_out`, RateLimited and QuotaExceeded; Overloaded where it would not be done in
        time; ImageTooLarge and what else a photo's header may show. What fails costs nothing, nor does what was
        computed before. Whoever has a key is counted, limited or not.
        """
        if self._cache is None:
            return await self._charged(job, budget)
        asked = _question(job)
        done = await self._cache.answer(asked, job.deadline, lambda: self._charged(job, budget))
        if isinstance(done, Answer):
            return Served(done, "hit", await self._standing(budget))
        return replace(done, cache="miss")

    async def _standing(self, budget: Budget | None) -> Standing | None:
        """Where the tenant stands, for an answer that costs nothing: it is given whether the tally answers or not."""
        tenant, allowed = _spender(budget)
        if allowed.unlimited:
            return None
        try:
            return await self._service.tally.charge(tenant.name, 0, allowed)
        except MattehornError:
            return None

    async def _charged(self, job: Job, budget: Budget | None) -> Served:
        tenant, allowed = _spender(budget)
        if allowed.unlimited and tenant.name == ANONYMOUS.name:
            return Served(await self._computed(job))
        limits = own_limits(self._service.settings.limits)
        header = read_header(job.photo, limits)
        if job.background is not None:
            read_header(job.background, limits)
        cost = megapixel_images(header.width, header.height)
        try:
            standing = await self._service.tally.charge(tenant.name, cost, allowed)
        except MattehornError:
            if not allowed.unlimited:
                raise
            return Served(await self._computed(job))  # where nothing is limited, no count is worth a request
        if standing is not None and standing.refused:
            raise refusal(standing, cost)
        try:
            return Served(await self._computed(job), standing=standing)
        except BaseException:
            await self._service.tally.refund(tenant.name, cost, standing.charged_at if standing else None)
            raise

    async def _computed(self, job: Job) -> Answer:
        weight = megapixels(job, own_limits(self._service.settings.limits))
        with self._service.admission.work(weight, job.deadline):
            return await self._service.cut_out(job)


def _spender(budget: Budget | None) -> tuple[Tenant, Budget]:
    """This request's tenant, and what it may spend."""
    tenant = TENANT.get()
    return tenant, tenant.budget if budget is None else budget


def _question(job: Job) -> Question:
    return Question(
        job.tenant,
        job.photo,
        job.options,
        job.name,
        job.background,
        job.binary,
        job.recipe,
        repr(job.rendition),  # frozen values all the way down
    )


def refusal(standing: Standing, cost: int) -> RateLimited | QuotaExceeded | ImageTooLarge:
    """The error of a charge that did not fit; one that never will is not to be tried again."""
    if cost > standing.limit:
        return ImageTooLarge(
            f"This photo costs {cost} megapixel images, more than this key's whole budget of {standing.limit}; send a "
            "smaller one."
        )
    kind, window = (RateLimited, "minute") if standing.refused == "rate_limited" else (QuotaExceeded, "month")
    return kind(
        f"This photo costs {cost} megapixel images; {standing.remaining} of {standing.limit} a {window} are left. "
        "Try again after Retry-After.",
        retry_after_s=max(1, math.ceil(standing.retry_after_s)),
        standing=standing,
    )
