"""The photos of web batches, removed from the results store when nobody needs them any more.

What it is not: it keeps no clock and no state; whoever calls it, how often and in how many processes makes no
difference, since it only removes what is done with, and removing twice does no harm. Called by the ingress.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from mattehorn.bulk.jobs import Jobs
from mattehorn.bulk.places import UPLOADS
from mattehorn.bulk.progress import ENDED
from mattehorn.errors import NotFound
from mattehorn.store.records import ID_FORM, time_of

ORPHAN_S = 24 * 3600.0  # of photos without a job: their request, which takes minutes, died or could not be queued


def remove_old_uploads(jobs: Jobs, *, kept_s: float, now: datetime) -> int:
    """Removes the uploads of jobs that ended more than `kept_s` before `now`, and those that never became a job; how
    many photos. A job that goes on keeps all of its own, and folders that are no job's id are left alone.

    Stopped in the middle, the next call goes on. Raises StoreUnavailable, also without the right to delete.
    """
    store = jobs.places.home
    removed = 0
    for job in [name for name in store.folders(UPLOADS) if ID_FORM.fullmatch(name)]:
        if _is_done_with(jobs, job, kept_s, now):
            for key in list(store.list(f"{UPLOADS}{job}/")):
                store.delete(key)
                removed += 1
    return removed


def born_at(job: str) -> datetime:
    """When the id was made, to the millisecond."""
    return datetime.fromtimestamp(0, UTC) + timedelta(seconds=time_of(job))


def _is_done_with(jobs: Jobs, job: str, kept_s: float, now: datetime) -> bool:
    try:
        progress = jobs.progress(job)
    except NotFound:
        return _seconds(born_at(job), now) > ORPHAN_S
    ended = progress.state in ENDED and progress.finished_at is not None
    return ended and _seconds(datetime.fromisoformat(str(progress.finished_at)), now) >= kept_s


def _seconds(since: datetime, now: datetime) -> float:
    return (now - since).total_seconds()
