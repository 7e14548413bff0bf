"""A job's input cut into shards: immutable lists of photos, each with one queue message.

The listing is itself one message, so one lease holds it. It may die at any point and is taken up behind the last shard
that lies there: no gap, no photo in two shards, even with two listers at once. What it is not: it works on no photo.
Called by worker.py, in a thread.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import islice

from mattehorn.bulk import inputs, messages
from mattehorn.bulk.job_spec import JobSpec, require_own
from mattehorn.bulk.places import Place, Places
from mattehorn.bulk.state import SHARDS_MOST, JobState, shard_name
from mattehorn.errors import NotFound, OptionError
from mattehorn.events import ObjectRef
from mattehorn.queue.interface import Queue
from mattehorn.store.interface import StoreKeyChanged, StoreKeyError, StoreKeyMissing


def list_input(
    spec: JobSpec, state: JobState, places: Places, queue: Queue, should_stop: Callable[[], bool] = lambda: False
) -> bool:
    """True when all shards are placed and queued; False when `should_stop` said so, between two shards.

    Raises OptionError or NotFound for an input that can never be listed, StoreUnavailable and QueueUnavailable.
    """
    if state.exists("listing.done"):
        return True
    try:
        return _place_shards(spec, state, places, queue, should_stop)
    except StoreKeyMissing as error:
        raise NotFound(f"The job's input is gone: {error.message}") from error
    except StoreKeyChanged as error:
        raise OptionError(
            "The manifest was changed after the job was made; make a new job.", field="input.manifest"
        ) from error
    except StoreKeyError as error:
        raise OptionError(error.message, field=f"input.{spec.kind}") from error


def read_shard(state: JobState, shard: int) -> list[ObjectRef]:
    """The photos of a shard. Raises NotFound when there is no such shard."""
    data = state.read(shard_name(shard))
    if data is None:
        raise NotFound(f"The job has no shard {shard}.")
    return _decode(data)


def _place_shards(
    spec: JobSpec, state: JobState, places: Places, queue: Queue, should_stop: Callable[[], bool]
) -> bool:
    number, refs = _position(state)
    if number:  # whoever placed it may have died before its message was queued
        queue.send_many([messages.shard_message(spec.id, number - 1)])
    photos = _photos(spec, state, places, number, refs)
    while len(refs) == spec.shard_keys or not number:  # a short shard is the last one
        if should_stop():
            return False
        found = list(islice(photos, spec.shard_keys))
        if not found:
            break
        if number >= SHARDS_MOST:
            raise OptionError(f"The input has more than {SHARDS_MOST * spec.shard_keys} photos.", field="input")
        refs = found
        if not state.create(shard_name(number), _encode(refs)):
            refs = read_shard(state, number)  # another lister was faster: go on behind its shard
            photos = _photos(spec, state, places, number + 1, refs)
        queue.send_many([messages.shard_message(spec.id, number)])
        number += 1
    total = (number - 1) * spec.shard_keys + len(refs) if number else 0
    state.create_json("listing.done", {"shards": number, "total": total})
    return True


def _position(state: JobState) -> tuple[int, list[ObjectRef]]:
    """(the next shard's number, the photos of the last one placed). A listing that lags is made up for by asking."""
    number = len(state.shards()[0])
    while state.exists(shard_name(number)):
        number += 1
    return number, read_shard(state, number - 1) if number else []


def _photos(spec: JobSpec, state: JobState, places: Places, number: int, last: list[ObjectRef]) -> Iterator[ObjectRef]:
    """The photos behind shard `number - 1`, which holds `last`."""
    if spec.kind == "prefix" and spec.source is not None:
        return inputs.from_prefix(
            places.store(spec.source.bucket), spec.source, last[-1].key if last else None, _skipped(spec, places)
        )
    if spec.kind == "manifest" and spec.source is not None:
        stream = _own(spec, places, inputs.from_manifest(spec.source, spec.manifest_etag, places))
    else:
        stream = inputs.from_keys(state.read("input.jsonl") or b"", places)
    return islice(stream, number * spec.shard_keys, None)


def _own(spec: JobSpec, places: Places, refs: Iterator[ObjectRef]) -> Iterator[ObjectRef]:
    """`refs`, which a fenced job's manifest may name anywhere. Raises OptionError for one that it may not read."""
    for ref in refs:
        if spec.owner.fenced:
            require_own(Place(ref.bucket, ref.key), places, spec.id, "input.manifest")
        yield ref


def _skipped(spec: JobSpec, places: Places) -> Callable[[str, str], bool]:
    """Keys under a prefix that are no photos: the job's own results, and the service's state."""

    def skip(bucket: str, key: str) -> bool:
        return spec.output.covers(bucket, key) or places.is_state(bucket, key)

    return skip


def _encode(refs: list[ObjectRef]) -> bytes:
    return b"".join(json.dumps(_row(ref)).encode("ascii") + b"\n" for ref in refs)


def _row(ref: ObjectRef) -> dict[str, str]:
    row = {"bucket": ref.bucket, "key": ref.key}
    return row | {"version_id": ref.version_id} if ref.version_id else row


def _decode(data: bytes) -> list[ObjectRef]:
    rows = [json.loads(text) for text in data.split(b"\n") if text]
    return [inputs.reference(Place(row["bucket"], row["key"]), row.get("version_id")) for row in rows]
