"""A watched folder: every photo that is put into IN_DIR becomes one result in OUT_DIR, under the keys of all bulk work.

The folder is looked at again and again. The kernel's notices (inotify) are not used: on a network mount, where most
such folders are, they tell nothing of what other machines write; they are lost when too many come at once; and a start
has to look through the folder anyway. A look costs one directory listing and one stat a photo.

All state is the results themselves: a photo whose result, or whose error's record, lies in OUT_DIR is finished, so a
restart needs no memory. What it is not: no command line, no model. Called by cli_watch.py.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from mattehorn.bulk.consumer import Consumer, ConsumerLimits
from mattehorn.bulk.inputs import reference
from mattehorn.bulk.messages import ObjectWork, object_message, parse_message
from mattehorn.bulk.patience import Border, Patience, PhotoRunner
from mattehorn.bulk.places import Place, Places
from mattehorn.bulk.plan import CutOut, Outcome, Plan
from mattehorn.bulk.verdict import Verdict
from mattehorn.bulk.worker import always
from mattehorn.cli.batch import EXTENSIONS
from mattehorn.errors import MattehornError, OptionError
from mattehorn.queue.interface import Message, Queue
from mattehorn.recipe import result_keys as keys
from mattehorn.recipe.recipe import Recipe
from mattehorn.settings import StoreSettings
from mattehorn.store.interface import Store, StoreKeyError
from mattehorn.store.local import LocalStore

log = logging.getLogger(__name__)

INPUT = "IN_DIR"  # the bucket that it is to the rest of bulk work; OUT_DIR is the results folder
OUTPUT = "OUT_DIR"  # for whoever reads a message; the plan says where results go
EVERY_S = 2.0
SETTLE_S = 5.0  # a copy over a network pauses for a second or two; one that paused longer comes again when it is whole
ITEM_S = 300.0  # one photo's work; nobody waits for an answer
SEND_AT_ONCE = 500

OnOutcome = Callable[[Outcome], None]
OnGivenUp = Callable[[str, str], None]


class InputFolder(LocalStore):
    """IN_DIR as a store that is only read: nothing is made in it, not even the folders of a results store."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._temp, self._meta = self._root / ".tmp", self._root / ".meta"

    def put(
        self, key: str, data: bytes, *, create: bool = False, content_type: str, metadata: Mapping[str, str] = {}
    ) -> bool:
        raise StoreKeyError(f"{key!r} lies in the watched folder, which is only read.")


@dataclass
class _Seen:
    """A file as it was at the last look. `since`: when it was first seen so; `taken`: it is in the queue, or done."""

    size: int
    mtime_ns: int
    since: float
    taken: bool = False


class Settling:
    """Which files of a folder are photos that nobody writes any more."""

    def __init__(self, folder: Path, settle_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._settle_s, self._clock = folder, settle_s, clock
        self._seen: dict[str, _Seen] = {}

    def look(self) -> list[str]:
        """Keys of photos that are new or other than before and have kept size and time for `settle_s`; each once.

        A folder that cannot be read at the moment has no photos; they are new again when it comes back.
        """
        now, seen, settled = self._clock(), {}, []
        for key, stat in _photos(self._folder, ""):
            last = self._seen.get(key)
            if last is None or (last.size, last.mtime_ns) != (stat.st_size, stat.st_mtime_ns):
                last = _Seen(stat.st_size, stat.st_mtime_ns, now)
            if not last.taken and now - last.since >= self._settle_s:
                last.taken = True
                settled.append(key)
            seen[key] = last
        self._seen = seen
        return settled

    @property
    def waiting(self) -> int:
        """Photos that may still be written."""
        return sum(not entry.taken for entry in self._seen.values())


def _photos(folder: Path, base: str) -> Iterator[tuple[str, os.stat_result]]:
    """(key, stat) of every photo below: told by its suffix; names with a leading dot and symbolic links are not."""
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        log.warning("watch_folder_unreadable folder=%r reason=%s", base, error.strerror)
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        try:
            if entry.is_dir(follow_symlinks=False):
                yield from _photos(Path(entry.path), f"{base}{entry.name}/")
            elif entry.is_file(follow_symlinks=False) and _suffix(entry.name) in EXTENSIONS:
                yield base + entry.name, entry.stat(follow_symlinks=False)
        except OSError:  # gone in between
            continue


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower().removeprefix(".")


class FolderWatch:
    """IN_DIR to OUT_DIR, until it is stopped. `run` or `run_once`, once."""

    def __init__(
        self,
        source: Path,
        target: Path,
        recipe: Recipe,
        queue: Queue,
        cut_out: CutOut,
        *,
        model: str,
        in_flight: int,
        limits: ConsumerLimits,
        settle_s: float = SETTLE_S,
        patience: Patience | None = None,
        on_outcome: OnOutcome = lambda outcome: None,
        on_given_up: OnGivenUp = lambda key, reason: None,
    ) -> None:
        """`queue` is nobody else's. `model` is keys.model_digest() of what `cut_out` runs.

        Raises OptionError for folders that lie in each other, and for a recipe whose keys need a job.
        """
        _check_folders(source, target)
        if keys.needs_job(recipe.key_template):
            raise OptionError(f"The recipe {recipe.id} has {{job}} or {{run}} in its key template.", field="recipe")
        self._input = InputFolder(source)
        self._places = Places(StoreSettings(url=f"file://{target.resolve()}"), open_bucket=self._open)
        self._plan = Plan(recipe, Place("", ""), model)
        self._settling, self._queue = Settling(source.resolve(), settle_s), queue
        self._settle_s, self._stopping = settle_s, asyncio.Event()
        self._threads = ThreadPoolExecutor(in_flight + 1, thread_name_prefix="watch")
        worker = _PhotoWorker(
            PhotoRunner(
                self._places,
                cut_out,
                in_flight=in_flight,
                threads=self._threads,
                permit=always,
                patience=patience or Patience(),
                item_s=ITEM_S,
            ),
            self._plan,
            patience or Patience(),
            limits.max_receive,
            on_outcome,
            on_given_up,
        )
        self._consumer = Consumer(queue, worker, limits)

    @property
    def waiting(self) -> int:
        """Photos that were still being written at the last look."""
        return self._settling.waiting

    async def run(self, every_s: float = EVERY_S) -> None:
        """Until `stop`. Between two looks lie `every_s`, or as long as the last one took."""
        working = asyncio.create_task(self._consumer.run())
        try:
            while not self._stopping.is_set() and not working.done():
                began = time.monotonic()
                await self._take()
                await self._pause(max(every_s, time.monotonic() - began))
        finally:
            self.stop()
            await working
            self._threads.shutdown(wait=False)

    async def run_once(self) -> None:
        """Until what lies there now is done; what is still being written is left."""
        try:
            await self._take()
            await self._pause(self._settle_s)
            await self._take()
            if not self._stopping.is_set():
                await self._consumer.run_until_empty()
        finally:
            self._threads.shutdown(wait=False)

    def stop(self) -> None:
        """What is in work is ended; what waits is found again at the next start."""
        self._stopping.set()
        self._consumer.stop()

    async def _take(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._threads, self._enqueue)

    def _enqueue(self) -> None:
        """One look: settled photos that are not finished become messages."""
        bodies: list[str] = []
        for key in self._settling.look():
            if self._stopping.is_set():
                return
            if not self._is_finished(key):
                bodies.append(object_message(reference(Place(INPUT, key)), self._plan.recipe.id, OUTPUT))
            if len(bodies) == SEND_AT_ONCE:
                self._queue.send_many(bodies)
                bodies = []
        self._queue.send_many(bodies)

    def _is_finished(self, key: str) -> bool:
        """Whether this very version of the photo has its result or its error's record."""
        try:
            head = self._input.head(key)
            if head is None:
                return True
            h, out = self._plan.identity(head.etag), self._places.home
            record = self._plan.output.below(keys.error_key(key, h)).key
            return any(out.head(place) is not None for place in (*self._plan.results(key, h), record))
        except MattehornError:  # a key that cannot be, a disk that is away: the work itself says what it is
            return False

    def _open(self, bucket: str, settings: StoreSettings) -> Store:
        assert bucket == INPUT  # no message names another one
        return self._input

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return


@dataclass(frozen=True)
class _PhotoWorker:
    """Does one message, that is one photo; its outcome is told to whoever started the watch."""

    runner: PhotoRunner
    plan: Plan
    patience: Patience
    max_receive: int
    on_outcome: OnOutcome
    on_given_up: OnGivenUp

    async def permit(self) -> None:
        """Nothing goes before it."""

    async def handle(self, message: Message, border: Border) -> Verdict:
        key = ""
        try:
            work = parse_message(message.body)
            assert isinstance(work, ObjectWork)  # the queue is ours alone
            key = work.ref.key
            outcome = await self.runner.run(work.ref, self.plan, border, follow=True)
        except Exception as error:  # the runner has logged it; the queue bounds how often
            reason = error.message if isinstance(error, MattehornError) else type(error).__name__
            if message.attempt >= self.max_receive:
                self.on_given_up(key, reason)
            return Verdict.retry(self.patience.for_message(message.attempt), reason)
        self.on_outcome(outcome)
        return Verdict.ack()


def _check_folders(source: Path, target: Path) -> None:
    source, target = source.resolve(), target.resolve()
    if source == target or source in target.parents or target in source.parents:
        raise OptionError(
            f"{source} and {target} lie in each other, so results could come in as photos again. Name folders side by "
            "side.",
            field="OUT_DIR",
        )
