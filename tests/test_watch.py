"""A watched folder: what is taken and when, that a restart repeats nothing, and that no photo stops the others."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mattehorn.bulk.embedded import consumer_limits, own_queue
from mattehorn.bulk.plan import CutOut, Outcome
from mattehorn.bulk.watch import FolderWatch, InputFolder, Settling
from mattehorn.cli.main import main
from mattehorn.errors import OptionError, StoreUnavailable, Unavailable
from mattehorn.models import registry
from mattehorn.models.fake import FakeModel
from mattehorn.pipeline import Result
from mattehorn.recipe.gate import Wish
from mattehorn.recipe.recipe import Recipe, find_recipe
from mattehorn.store.interface import StoreKeyError
from tests.bulk_bench import POISON, POISON_CODES, QUICK, fake_cut_out, photo
from tests.service import CARD_64

ROOT = Path(__file__).parent.parent
WITHIN_S = 60
SETTLE_S = 0.05


class Folder:
    """IN_DIR and OUT_DIR, and what a watch said of them."""

    def __init__(self, root: Path) -> None:
        self.source, self.target = root / "in", root / "out"
        self.source.mkdir()
        self.outcomes: list[Outcome] = []
        self.given_up: list[str] = []

    def add(self, name: str, data: bytes | None = None) -> Path:
        path = self.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photo(len(name)) if data is None else data)
        return path

    def results(self) -> list[str]:
        """What lies in OUT_DIR, its own notes aside."""
        found = (path.relative_to(self.target) for path in self.target.rglob("*") if path.is_file())
        return sorted(str(path) for path in found if path.parts[0] not in (".meta", ".tmp"))

    def sources(self) -> list[str]:
        """The photos that have a result, in order."""
        return sorted(name.rsplit(".", 2)[0] for name in self.results())

    def watch(self, queue: Any, *, cut_out: CutOut = fake_cut_out, recipe: Recipe | None = None) -> FolderWatch:
        return FolderWatch(
            self.source,
            self.target,
            recipe or find_recipe("transparent-web"),
            queue,
            cut_out,
            model="digest",
            in_flight=3,
            limits=consumer_limits(3),
            settle_s=SETTLE_S,
            patience=QUICK,
            on_outcome=self.outcomes.append,
            on_given_up=lambda key, reason: self.given_up.append(f"{key}: {reason}"),
        )

    def once(self, **more: Any) -> list[str]:
        """One run over what lies there; (status, key) of what was worked on."""
        self.outcomes.clear()
        with own_queue() as queue:

            async def run() -> None:  # the watch belongs to the loop that it is made on
                async with asyncio.timeout(WITHIN_S):
                    await self.watch(queue, **more).run_once()

            asyncio.run(run())
        return sorted(f"{outcome.status} {outcome.ref.key}" for outcome in self.outcomes)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


# ---- what is taken, and when ----


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_photo_is_taken_once_when_it_has_kept_still(folder: Folder, clock: Clock) -> None:
    settling = Settling(folder.source, 5, clock)
    path = folder.add("a.jpg", b"1")
    assert settling.look() == []
    clock.now += 4
    path.write_bytes(b"12")  # still being written
    assert settling.look() == []
    clock.now += 4
    assert settling.look() == []
    assert settling.waiting == 1
    clock.now += 1
    assert settling.look() == ["a.jpg"]
    clock.now += 100
    assert settling.look() == []
    assert settling.waiting == 0


def test_an_old_photo_with_its_own_time_settles_like_any(folder: Folder, clock: Clock) -> None:
    settling = Settling(folder.source, 5, clock)
    os.utime(folder.add("a.jpg"), (1e9, 1e9))
    assert settling.look() == []
    clock.now += 5
    assert settling.look() == ["a.jpg"]


def test_a_photo_that_is_written_again_is_taken_again(folder: Folder, clock: Clock) -> None:
    settling = Settling(folder.source, 0, clock)
    path = folder.add("a.jpg")
    assert settling.look() == ["a.jpg"]
    os.utime(path, ns=(1, 1))
    assert settling.look() == ["a.jpg"]
    path.unlink()
    assert settling.look() == []
    folder.add("a.jpg")
    assert settling.look() == ["a.jpg"]


def test_only_photos_are_taken(folder: Folder, clock: Clock) -> None:
    for name in ("b/c/A.JPG", "a.png", "note.txt", ".hidden.jpg", ".sync/x.jpg", "x.jpg.part", "jpg", "ä ö.webp"):
        folder.add(name)
    (folder.source / "link.jpg").symlink_to(folder.source / "a.png")
    (folder.source / "linked").symlink_to(folder.source / "b")
    (folder.source / "folder.jpg").mkdir()
    assert Settling(folder.source, 0, clock).look() == ["a.png", "b/c/A.JPG", "ä ö.webp"]


def test_a_folder_that_is_away_is_waited_for(folder: Folder, clock: Clock) -> None:
    settling = Settling(folder.source, 0, clock)
    folder.add("a.jpg")
    folder.source.rename(folder.source.with_name("elsewhere"))
    assert settling.look() == []
    folder.source.with_name("elsewhere").rename(folder.source)
    assert settling.look() == ["a.jpg"]


def test_nothing_is_made_in_the_watched_folder(folder: Folder) -> None:
    folder.add("a.jpg")
    folder.once()
    assert [path.name for path in folder.source.iterdir()] == ["a.jpg"]
    with pytest.raises(StoreKeyError):
        InputFolder(folder.source).put("b.jpg", b"", content_type="image/jpeg")


# ---- what becomes of it ----


def test_photos_become_results_under_the_same_folders(folder: Folder) -> None:
    for name in ("a.jpg", "x/a.jpg", "x/y/b.png"):
        folder.add(name)
    assert folder.once() == ["done a.jpg", "done x/a.jpg", "done x/y/b.png"]
    assert folder.sources() == ["a.jpg", "x/a.jpg", "x/y/b.png"]
    assert all(name.endswith(".webp") for name in folder.results())


def test_a_restart_repeats_neither_results_nor_errors(folder: Folder) -> None:
    folder.add("a.jpg")
    folder.add("text.jpg", POISON["text.jpg"])
    assert folder.once() == ["done a.jpg", "error text.jpg"]
    before = folder.results()
    assert folder.once() == []
    folder.add("b.jpg")
    assert folder.once() == ["done b.jpg"]
    assert set(before) < set(folder.results())


def test_poison_goes_to_errors_with_its_reason_and_stops_nobody(folder: Folder) -> None:
    for name, data in POISON.items():
        folder.add(f"bad/{name}", data)
    folder.add("good.jpg")
    folder.once()
    records = [json.loads(path.read_bytes()) for path in folder.target.glob("errors/bad/*.json")]
    assert {record["source"].rpartition("/")[2]: record["code"] for record in records} == POISON_CODES
    assert len([name for name in folder.results() if name.startswith("good.jpg.")]) == 1


def test_a_new_version_of_a_photo_is_a_new_result(folder: Folder) -> None:
    folder.add("a.jpg")
    folder.once()
    folder.add("a.jpg", photo(99))
    assert folder.once() == ["done a.jpg"]
    assert folder.sources() == ["a.jpg", "a.jpg"]


def test_another_recipe_is_another_result(folder: Folder) -> None:
    folder.add("a.jpg")
    folder.once()
    assert folder.once(recipe=find_recipe("transparent-web").with_options({"encode_quality": 50})) == ["done a.jpg"]
    assert len(folder.results()) == 2


def test_a_fault_that_passes_is_tried_again_until_it_has_passed(folder: Folder) -> None:
    faults = iter(range(QUICK.tries + 1))  # more than one message's worth

    async def shaky(data: bytes, wish: Wish) -> Result:
        if next(faults, None) is not None:
            raise Unavailable("away")
        return await fake_cut_out(data, wish)

    folder.add("a.jpg")
    assert folder.once(cut_out=shaky) == ["done a.jpg"]
    assert folder.given_up == []


def test_what_fails_on_every_attempt_is_said_and_tried_at_the_next_start(folder: Folder) -> None:
    async def away(data: bytes, wish: Wish) -> Result:
        raise StoreUnavailable("the disk is full")

    folder.add("a.jpg")
    assert folder.once(cut_out=away) == []
    assert folder.given_up == ["a.jpg: the disk is full"]
    assert folder.results() == []
    assert folder.once() == ["done a.jpg"]


def test_a_name_that_no_store_can_hold_ends_as_an_error(folder: Folder) -> None:
    folder.add(f"{'x' * 245}.jpg")  # with the hash it is longer than a file's name may be
    assert [outcome.split()[0] for outcome in folder.once()] == ["error"]
    assert len(list(folder.target.glob("errors/by-hash/*.json"))) == 1


def test_photos_that_come_while_it_runs_are_done_until_it_is_stopped(folder: Folder) -> None:
    async def run() -> None:
        with own_queue() as queue:
            watch = folder.watch(queue)
            running = asyncio.create_task(watch.run(0.02))
            for name in ("a.jpg", "b/c.jpg", "d.jpg"):
                folder.add(name)
                async with asyncio.timeout(WITHIN_S):
                    while name not in {outcome.ref.key for outcome in folder.outcomes}:
                        await asyncio.sleep(0.02)
            watch.stop()
            async with asyncio.timeout(WITHIN_S):
                await running

    asyncio.run(run())
    assert folder.sources() == ["a.jpg", "b/c.jpg", "d.jpg"]


# ---- what is refused ----


@pytest.mark.parametrize(("source", "target"), [("a", "a"), ("a", "a/out"), ("a/in", "a"), ("a", "a/x/../out")])
def test_folders_in_each_other_are_refused(tmp_path: Path, source: str, target: str) -> None:
    (tmp_path / source).mkdir(parents=True)
    with own_queue() as queue, pytest.raises(OptionError, match="lie in each other"):
        FolderWatch(
            tmp_path / source,
            tmp_path / target,
            find_recipe("transparent-web"),
            queue,
            fake_cut_out,
            model="m",
            in_flight=1,
            limits=consumer_limits(1),
        )
    assert not (tmp_path / "a" / ".meta").exists()


def test_a_recipe_whose_keys_need_a_job_is_refused(folder: Folder) -> None:
    with own_queue() as queue, pytest.raises(OptionError, match="key template"):
        folder.watch(queue, recipe=Recipe("dated", 1, key_template="{run:%Y}/{key}.{h}.{ext}"))


# ---- the command ----


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, folder: Folder) -> Callable[..., int]:
    class Small(FakeModel):
        def __init__(self, *times: float) -> None:
            super().__init__(*times)
            self.card = CARD_64

    monkeypatch.setattr(registry, "FakeModel", Small)
    return lambda *more: main(arguments(folder, "--once", "--settle", str(SETTLE_S), *more))


def arguments(folder: Folder, *more: str) -> list[str]:
    flags = ["--recipe", "transparent-web", "--set", "model=fake", *more]
    return ["watch", str(folder.source), str(folder.target), *flags]


def test_the_command_prints_a_line_a_photo_and_ends_with_the_counts(
    folder: Folder, command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    folder.add("a.jpg")
    folder.add("\x1b[31m.jpg", POISON["text.jpg"])
    assert command("--option", "format=png") == 1
    said = capsys.readouterr()
    assert any(line.startswith('done "a.jpg" -> "a.jpg.') and line.endswith('.png"') for line in said.out.splitlines())
    assert "unsupported_image" in said.out
    assert "\x1b" not in said.out
    assert said.err.splitlines()[-1] == "1 photos done, 1 failed."
    assert command("--option", "format=png") == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--recipe", "none"], "transparent-web"),
        (["--set", "model=none-such"], "none-such"),
        (["--option", "formt=1"], "formt"),
        (["--set", "store.colour=1"], "store.colour"),
    ],
)
def test_a_wrong_wish_is_a_usage_error(
    command: Callable[..., int], folder: Folder, more: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(*more) == 2
    assert said in capsys.readouterr().err
    assert not folder.target.exists()


def test_a_folder_that_is_not_there_is_a_usage_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", str(tmp_path / "no"), str(tmp_path / "out"), "--recipe", "transparent-web"]) == 2
    assert "is not a folder" in capsys.readouterr().err


@pytest.fixture
def running(folder: Folder) -> Iterator[subprocess.Popen[str]]:
    code = "import sys; from mattehorn.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", code, *arguments(folder, "--every", "0.05", "--settle", str(SETTLE_S))]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    ) as child:
        yield child
        if child.poll() is None:
            child.kill()


def test_a_signal_ends_it_in_order(folder: Folder, running: subprocess.Popen[str]) -> None:
    folder.add("a.jpg")
    deadline = time.monotonic() + WITHIN_S
    while not folder.results():
        assert time.monotonic() < deadline
        assert running.poll() is None
        time.sleep(0.05)
    running.send_signal(signal.SIGTERM)
    out, _ = running.communicate(timeout=WITHIN_S)
    assert running.returncode == 0
    assert out.startswith('done "a.jpg"')
