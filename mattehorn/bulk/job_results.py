"""A job's results as streams: the manifest's lines, and a zip of the pictures. Neither is ever whole in memory.

What it is not: it makes no picture and changes nothing. Called by the HTTP API and the command line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from zipstream import ZIP_STORED, ZipStream  # type: ignore[import-untyped]

from mattehorn.bulk import manifest
from mattehorn.bulk.job_spec import JobSpec
from mattehorn.bulk.jobs import Jobs
from mattehorn.bulk.places import Places
from mattehorn.bulk.progress import ENDED
from mattehorn.bulk.state import JobState, part_name, results_name
from mattehorn.errors import MattehornError, OptionError
from mattehorn.store.interface import StoreKeyMissing

# The zip's own directory comes last and is kept till then: some 500 bytes a file. A million files are for the manifest.
ZIP_FILES = 100_000
ERRORS_NAME = "errors.json"


class JobRunning(MattehornError):
    """The job has not ended."""

    code, status = "job_running", 409


def manifest_rows(state: JobState) -> Iterator[dict[str, Any]]:
    """The manifest's lines so far, each photo once, in the order of the input."""
    placed, done = state.shards()
    for shard in sorted(placed | done):
        data = state.read(results_name(shard)) if shard in done else None
        yield from manifest.decode(_shard_so_far(state, shard) if data is None else data)


def manifest_lines(jobs: Jobs, job: str) -> Iterator[bytes]:
    """`manifest.jsonl`, one piece a photo; of a running job what there is. Raises NotFound."""
    jobs.spec(job)
    return (manifest.encode([row]) for row in manifest_rows(jobs.state(job)))


def results_zip(jobs: Jobs, job: str) -> Iterator[bytes]:
    """`results.zip` in pieces; one picture is in memory at a time. Raises NotFound, JobRunning, and OptionError for a
    job with more than ZIP_FILES results, before the first piece.

    A name is the result's key below the job's output. Photos without a result stand in `errors.json`, as
    [{file, error}].
    """
    spec, progress = jobs.spec(job), jobs.progress(job)
    if progress.state not in ENDED:
        raise JobRunning("The job has not ended; ask again when its state is succeeded, failed or cancelled.")
    if progress.tally.success + progress.tally.skipped > ZIP_FILES:
        raise OptionError(f"A zip holds at most {ZIP_FILES} results; read manifest.jsonl and the bucket instead.")
    return _zip(spec, jobs.state(job), jobs.places)


def _shard_so_far(state: JobState, shard: int) -> bytes:
    """Its parts; when one goes while they are read, the shard has been closed and its results are whole."""
    found = [state.read(part_name(shard, part)) for _, part in list(state.parts(shard))]
    if None in found:
        return state.read(results_name(shard)) or b""
    return b"".join(part for part in found if part is not None)


def _zip(spec: JobSpec, state: JobState, places: Places) -> Iterator[bytes]:
    archive = ZipStream(compress_type=ZIP_STORED)  # pictures do not shrink further
    store = places.store(spec.output.bucket)
    missing: list[dict[str, str]] = []
    for row in manifest_rows(state):
        if row["status"] == "failed":
            continue
        key = str(row["output"]).removeprefix(str(spec.output))
        try:
            data = store.get(spec.output.below(key).key)
        except StoreKeyMissing:
            missing.append({"file": str(row["source"]), "error": f"gone: the result {key} is no longer in its bucket"})
            continue
        archive.add(data, key)
        del data
        yield from archive.all_files()
    archive.add(_errors(state, missing), ERRORS_NAME)
    yield from archive.finalize()


def _errors(state: JobState, missing: list[dict[str, str]]) -> Iterator[bytes]:
    """The failures as one JSON list, written as they are read."""
    opening = "["
    for row in manifest_rows(state):
        if row["status"] == "failed":
            yield f"{opening}\n{json.dumps(manifest.failure(row), ensure_ascii=False)}".encode("utf-8", "replace")
            opening = ","
    for failure in missing:
        yield f"{opening}\n{json.dumps(failure, ensure_ascii=False)}".encode("utf-8", "replace")
        opening = ","
    yield b"[]\n" if opening == "[" else b"\n]\n"
