"""One photo, exactly once out: read the source, look for its result, work, create the result. THE CORE of bulk work.

The order matters, and every step may be the last before a crash: GET source (under the condition of the event) -> HEAD
result (there: done) -> read and work -> create-only put -> refused: HEAD -> the caller acks last. The key follows from
what was read, never from what was announced, so equal keys mean equal content whoever wins a race. Where somebody pays
for the photo, its price is held around the work and charged after a put that created (paid.py).

What it is not: it knows no queue, no job and no retry. A permanent fault of the photo ends here as an object under
`errors/`; everything else is raised, for worker.py to try again.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

from mattehorn.bulk.paid import paid, price
from mattehorn.bulk.places import Place
from mattehorn.bulk.plan import CutOut, CutOutResult, Outcome, Plan
from mattehorn.errors import (
    BodyTooLarge,
    CorruptImage,
    DeadlineExceeded,
    ImageTooLarge,
    LowQuality,
    MattehornError,
    MissingImage,
    NoForeground,
    OptionError,
    QuotaExceeded,
    StoreUnavailable,
    UnknownModel,
    UnsupportedImage,
)
from mattehorn.events import ObjectRef
from mattehorn.recipe import result_keys as keys
from mattehorn.recipe.gate import quality_document
from mattehorn.store.interface import Head, Store, StoreKeyChanged, StoreKeyError, StoreKeyMissing

# The photo's or the recipe's own fault: the same answer tomorrow. An outage, a refused credential, a full queue or a
# model that this service does not run (UnknownModel) is not.
PERMANENT = (
    BodyTooLarge,
    CorruptImage,
    ImageTooLarge,
    LowQuality,
    MissingImage,
    NoForeground,
    OptionError,
    StoreKeyError,
    UnsupportedImage,
)
# Their versions are no S3 version ids, and their etags are not always those that the S3 side of the store answers with.
UNCONDITIONAL = frozenset(("gcs",))
ITEM_S = 120.0  # one photo's work; compose's own deadline is 30 s
CHANGED_RETRY_S = 5


@dataclass(frozen=True)
class _Source:
    """A photo that has been read and whose result is not there yet."""

    data: bytes
    version: str
    etag: str
    h: str


class _Permanent(Exception):
    """A permanent fault on the way, with what is known of the source."""

    def __init__(self, cause: MattehornError, h: str, version: str) -> None:
        super().__init__(cause.message)
        self.cause, self.h, self.version = cause, h, version


async def run_item(
    ref: ObjectRef,
    plan: Plan,
    store_in: Store,
    store_out: Store,
    cut_out: CutOut,
    *,
    threads: Executor | None = None,
    follow: bool = False,
    is_state: Callable[[str, str], bool] = lambda bucket, key: False,
    item_s: float = ITEM_S,
) -> Outcome:
    """What became of the photo `ref`; both stores are whole buckets.

    `follow`: a photo that changed since it was listed is read as it is now, for no event of its own will come.
    `is_state` knows keys that are never photos. Blocking calls run in `threads`. Raises whatever may pass: Unavailable
    and its kinds, Overloaded, DeadlineExceeded, and errors that nobody foresaw.
    """
    began = perf_counter()
    if plan.output.covers(ref.bucket, ref.key) or is_state(ref.bucket, ref.key):
        return Outcome(ref, "loop", code="loop", reason="The photo lies below the output or among the service's state.")
    run_in = asyncio.get_running_loop().run_in_executor
    try:
        found = await run_in(threads, _look, ref, plan, store_in, store_out, follow)
        if isinstance(found, Outcome):
            return replace(found, seconds=perf_counter() - began)

        async def make() -> Outcome:
            result = await _work(found, plan, cut_out, item_s)
            return await run_in(threads, _keep, ref, plan, store_out, found, result)

        if plan.account is None:
            outcome = await make()
        else:
            with _faults_of(found):
                cost = await run_in(threads, price, found.data, plan.account.limits)
                work = str(Place(plan.output.bucket, plan.results(ref.key, found.h)[0]))
                outcome = await paid(plan.account, work, cost, make)
    except _Permanent as fault:
        outcome = await run_in(threads, _record_error, ref, plan, store_out, fault)
    except QuotaExceeded as error:  # no object: the photo is sound, and a later job may do it
        announced = ref.version_id or ref.etag or ""
        outcome = Outcome(ref, "error", announced, first=True, code=error.code, reason=error.message)
    return replace(outcome, seconds=perf_counter() - began)


def _look(ref: ObjectRef, plan: Plan, store_in: Store, store_out: Store, follow: bool) -> Outcome | _Source:
    """The photo's bytes, or the outcome when there is nothing to do. Raises _Permanent and what may pass."""
    announced = ref.version_id or ref.etag or ""
    try:
        return _read(ref, plan, store_in, store_out, follow)
    except StoreKeyMissing:
        return Outcome(ref, "gone", announced, code="gone", reason="The photo is no longer in its bucket.")
    except StoreKeyChanged:
        reason = "The photo was overwritten; its new version has an event of its own."
        return Outcome(ref, "superseded", announced, code="superseded", reason=reason)
    except StoreKeyError as error:  # of the source's own key
        raise _Permanent(error, plan.identity(announced), announced) from error


def _read(ref: ObjectRef, plan: Plan, store_in: Store, store_out: Store, follow: bool) -> Outcome | _Source:
    conditional = ref.provider not in UNCONDITIONAL and not follow
    etag = ref.etag if conditional else None
    version_id = ref.version_id if ref.provider not in UNCONDITIONAL else None
    with store_in.open(ref.key, etag, version_id) as opened:
        version = opened.head.version_id or opened.head.etag
        h = plan.identity(version)
        try:
            if (there := _result(plan, ref.key, h, store_out)) is not None:
                return _already_there(ref, plan, store_out, version, there)
            if opened.head.size > plan.max_source_bytes:
                raise BodyTooLarge(
                    f"The photo has {opened.head.size} bytes; at most {plan.max_source_bytes} are allowed."
                )
        except (StoreKeyError, BodyTooLarge) as error:
            raise _Permanent(error, h, version) from error
        if plan.account is not None:
            plan.account.require_left()
        try:
            data = opened.read()
        except StoreKeyChanged as error:
            message = "The photo was changed while it was read."
            raise StoreUnavailable(message, retry_after_s=CHANGED_RETRY_S) from error
    return _Source(data, version, opened.head.etag, h)


def _result(plan: Plan, key: str, h: str, store: Store) -> Head | None:
    """The head of the photo's result, accepted or to be reviewed. Raises StoreKeyError."""
    return next((head for place in plan.results(key, h) if (head := store.head(place)) is not None), None)


@contextmanager
def _faults_of(source: _Source) -> Iterator[None]:
    """Makes permanent faults of the photo _Permanent ones, which know the photo."""
    try:
        yield
    except UnknownModel:
        raise
    except PERMANENT as error:
        raise _Permanent(error, source.h, source.version) from error


async def _work(source: _Source, plan: Plan, cut_out: CutOut, item_s: float) -> CutOutResult:
    try:
        with _faults_of(source):
            async with asyncio.timeout(item_s):
                result = await cut_out(source.data, plan.wish)
    except TimeoutError:
        raise DeadlineExceeded(f"The photo was not done within {item_s:g} s.") from None
    promised = keys.extension(plan.options)
    if result.extension != promised:
        raise MattehornError(f"The result came as {result.extension}, its key says {promised}; check the service.")
    return result


def _keep(ref: ObjectRef, plan: Plan, store: Store, source: _Source, result: CutOutResult) -> Outcome:
    """Creates the result; where that is refused, what lies there is as good.

    Where a gate may send it to review, the other place is looked at once more: machines whose scores differ in the last
    digit, on both sides of the border, would else make two.
    """
    digest = hashlib.sha256(result.data).hexdigest()
    quality = quality_document(result.quality, result.route)
    note = {
        "src-etag": source.etag,
        "src-version": source.version,
        "model": result.model,
        "recipe": plan.recipe.id,
        "sha256": digest,
        "quality": json.dumps(quality),
        "pixels": f"{result.width}x{result.height}",
        **({"subject": result.subject} if result.subject else {}),
        **({"job-id": plan.job} if plan.job else {}),
    }
    review = result.route == "review"
    key = plan.result(ref.key, source.h, review)
    try:
        if len(plan.results(ref.key, source.h)) > 1 and (there := _result(plan, ref.key, source.h, store)):
            return _already_there(ref, plan, store, source.version, there)
        created = store.put(key, result.data, create=True, content_type=result.content_type, metadata=note)
    except StoreKeyError as error:
        raise _Permanent(error, source.h, source.version) from error
    if not created:
        there = store.head(key)
        if there is None:
            message = "The result was refused as existing and is not there. Try again."
            raise StoreUnavailable(message, retry_after_s=CHANGED_RETRY_S)
        return _already_there(ref, plan, store, source.version, there)
    return Outcome(
        ref,
        "done",
        source.version,
        key,
        review=review,
        first=True,
        sha256=digest,
        size=len(result.data),
        width=result.width,
        height=result.height,
        model=result.model,
        subject=result.subject,
        quality=quality,
        timings_ms=dict(result.timings_ms),
    )


def _already_there(ref: ObjectRef, plan: Plan, store: Store, version: str, there: Head) -> Outcome:
    """The outcome for a result made before. Its note is for people; where it was lost, the bytes are read for a job."""
    note = there.metadata
    width, _, height = note.get("pixels", "").partition("x")
    digest = note.get("sha256")
    if digest is None and plan.job is not None:
        try:
            digest = hashlib.sha256(store.get(there.key)).hexdigest()
        except StoreKeyMissing as error:
            message = "The result was deleted while it was looked at. Try again."
            raise StoreUnavailable(message, retry_after_s=CHANGED_RETRY_S) from error
    return Outcome(
        ref,
        "skipped",
        version,
        there.key,
        review=there.key.startswith(plan.output.below(keys.REVIEW).key),
        own=plan.job is not None and note.get("job-id") == plan.job,
        sha256=digest,
        size=there.size,
        width=int(width) if width.isdecimal() else None,
        height=int(height) if height.isdecimal() else None,
        model=note.get("model"),
        subject=note.get("subject"),
        quality=_quality(note.get("quality")),
    )


def _quality(text: str | None) -> Mapping[str, Any] | None:
    try:
        found = json.loads(text) if text else None
    except ValueError:  # written by somebody else
        return None
    return found if isinstance(found, dict) else None


def _record_error(ref: ObjectRef, plan: Plan, store: Store, fault: _Permanent) -> Outcome:
    """Creates the photo's record under `errors/`; a second one changes nothing and is not `first`.

    It names no job: whoever comes across the photo writes the same bytes, for some stores let racing creators all win.
    """
    document = {
        "source": str(Place(ref.bucket, ref.key)),
        "version": fault.version,
        "code": fault.cause.code,
        "reason": fault.cause.message,
        "recipe": plan.recipe.id,
    }
    if isinstance(fault.cause, StoreKeyError):
        document["code"] = "invalid_key"
    data = json.dumps(document, ensure_ascii=False, indent=1).encode("utf-8", "replace")
    key = plan.output.below(keys.error_key(ref.key, fault.h)).key
    try:
        first = store.put(key, data, create=True, content_type="application/json")
    except StoreKeyError:
        key = plan.output.below(keys.short_error_key(ref.key, fault.h)).key
        first = store.put(key, data, create=True, content_type="application/json")
    return Outcome(
        ref,
        "error",
        fault.version,
        key,
        first=first,
        code=str(document["code"]),
        reason=fault.cause.message,
    )
