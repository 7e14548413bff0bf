"""`mattehorn submit`, `jobs` and `watch`: against the real API with a worker behind it, and in this process."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mattehorn import client
from mattehorn.bulk import watch
from mattehorn.bulk.job_results import manifest_lines
from mattehorn.cli import jobs as cli_jobs
from mattehorn.cli import watch as cli_watch
from mattehorn.cli.main import main
from mattehorn.models import registry
from mattehorn.models.fake import FakeModel
from tests.bulk_bench import POISON, Bench
from tests.bulk_http import service_over
from tests.service import CARD_64, serving

ROOT = Path(__file__).parent.parent
WITHIN_S = 60  # for what takes a second on a quiet machine


@pytest.fixture(autouse=True)
def small_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """`model=fake` with a small input."""

    class Small(FakeModel):
        def __init__(self, *times: float) -> None:
            super().__init__(*times)
            self.card = CARD_64

    monkeypatch.setattr(registry, "FakeModel", Small)


class Site:
    """A service at `url`; `work()` does what is queued, as its bulk replica would."""

    def __init__(self, url: str, bench: Bench) -> None:
        self.url, self.bench = url, bench

    def run(self, *arguments: str) -> int:
        return main([*arguments, "--server", self.url])

    def work(self) -> threading.Thread:
        thread = threading.Thread(target=self._work, daemon=True)
        thread.start()
        return thread

    def _work(self) -> None:
        deadline = time.monotonic() + WITHIN_S
        while not self.bench.queue.depth().ready and time.monotonic() < deadline:
            time.sleep(0.02)
        self.bench.run(WITHIN_S)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    bench = Bench(tmp_path)
    with serving(service_over(tmp_path)) as url:
        yield Site(url, bench)
    bench.close()


def submit(*more: str) -> list[str]:
    return ["submit", "in/", "--recipe", "transparent-web", "--output", "out/", *more]


# ---- through a service ----


def test_submit_makes_a_job_and_says_how_to_follow_it(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert site.run(*submit("--option", "encode-quality=70")) == 0
    said = capsys.readouterr()
    job = next(site.bench.jobs.ids())
    assert said.out == f"job {job} queued\n"
    assert f"mattehorn jobs {job} --server {site.url} --wait" in said.err
    assert site.bench.jobs.spec(job).recipe.options["encode_quality"] == 70


def test_waiting_ends_with_the_summary_and_code_0(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.bench.add_photos(5)
    worker = site.work()
    assert site.run(*submit("--wait")) == 0
    worker.join(WITHIN_S)
    said = capsys.readouterr()
    assert "succeeded: 5 photos, 5 done, 0 skipped, 0 failed, " in said.out
    assert "5/5" in said.err
    assert len(site.bench.outputs()) == 5


def test_a_failed_photo_is_named_and_the_code_is_1(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.bench.add_photos(2)
    site.bench.home.put("in/\x1b[31m.jpg", POISON["text.jpg"], content_type="image/jpeg")
    site.work()
    assert site.run(*submit("--wait", "--json")) == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["total"], document["success"], document["skipped"]) == (3, 2, 0)
    assert document["failed"][0]["error"].startswith("unsupported_image: ")
    assert document["seconds_per_image"] > 0
    assert site.run("jobs", document["id"]) == 1
    said = capsys.readouterr().out
    assert "2 done, 0 skipped, 1 failed" in said
    assert "\x1b" not in said


def test_keys_come_from_a_file_or_from_stdin(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = site.bench.add_photos(3)
    text = f"\ufeff{keys[0]}\r\n\n {keys[2]} \n"
    (tmp_path / "keys.txt").write_text(text, "utf-8", newline="")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    for name in (str(tmp_path / "keys.txt"), "-"):
        assert site.run("submit", "--keys-file", name, "--recipe", "transparent-web") == 0
        spec = site.bench.jobs.spec(next(site.bench.jobs.ids()))
        assert (spec.kind, spec.total) == ("keys", 2)


def test_a_manifest_and_a_recipe_of_ones_own(site: Site, tmp_path: Path) -> None:
    site.bench.home.put("list.jsonl", b'"in/a.jpg"\n', content_type="text/plain")
    recipe = {"name": "mine", "version": 3, "options": {"format": "png"}}
    (tmp_path / "mine.json").write_text(json.dumps(recipe))
    assert site.run("submit", "--manifest", "list.jsonl", "--recipe", str(tmp_path / "mine.json")) == 0
    spec = site.bench.jobs.spec(next(site.bench.jobs.ids()))
    assert (spec.kind, spec.recipe.id) == ("manifest", "mine@3")


def test_jobs_are_listed_the_latest_first_and_cancelled(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert site.run(*submit()) == 0
    capsys.readouterr()
    latest, earlier = site.bench.jobs.ids()
    assert site.run("jobs", earlier, "--cancel") == 0
    assert "cancelled" in capsys.readouterr().out
    assert site.run("jobs") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [latest, earlier]
    assert ["queued" in lines[0], "cancelled" in lines[1]] == [True, True]
    assert site.run("jobs", "--limit", "1", "--json") == 0
    assert [job["id"] for job in json.loads(capsys.readouterr().out)["jobs"]] == [latest]
    assert site.run("jobs", earlier, "--wait") == 1


def test_ctrl_c_leaves_the_job_running_and_says_how_to_go_on(
    site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    follow = client.Client.follow

    def interrupted(self: client.Client, job: str, **_: Any) -> Iterator[dict[str, Any]]:
        yield next(follow(self, job))
        raise KeyboardInterrupt

    monkeypatch.setattr(client.Client, "follow", interrupted)
    assert site.run(*submit("--wait")) == 130
    job = next(site.bench.jobs.ids())
    said = capsys.readouterr()
    assert f"mattehorn jobs {job} --server {site.url} --cancel" in said.err
    assert said.out == ""
    assert site.bench.jobs.progress(job).state == "queued"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["submit", "--recipe", "transparent-web"], "Name the photos once"),
        (["submit", "in/", "--manifest", "m.csv", "--recipe", "transparent-web"], "Name the photos once"),
        (submit("--option", "format"), "KEY=VALUE"),
        (submit("--option", "formt=png"), "formt"),
        (submit("--workers", "2"), "--local"),
        (["submit", "in/", "--recipe", "nothing"], "transparent-web"),
        (["submit", "in/", "--recipe", "transparent-web", "--output", "in/out/"], "overlap"),
        (["submit", "in/", "--recipe", "list.json"], "no JSON"),
        (["submit", "in/", "--recipe", "text.json"], "no object"),
        (["submit", "--keys-file", "latin", "--recipe", "transparent-web"], "UTF-8"),
        (["jobs", "--cancel"], "ID"),
    ],
)
def test_a_wrong_wish_is_a_usage_error(
    site: Site,
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("list.json").write_text("{")
    Path("text.json").write_text('"text"')
    Path("latin").write_bytes("ä.jpg".encode("latin-1"))
    assert site.run(*arguments) == 2
    assert said in capsys.readouterr().err
    assert list(site.bench.jobs.ids()) == []


def test_without_a_service_it_says_what_to_start(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*submit(), "--server", "http://127.0.0.1:9"]) == 1
    assert "mattehorn serve" in capsys.readouterr().err
    assert main(["submit", "--keys-file", "gone.txt", "--recipe", "transparent-web"]) == 1
    assert "gone.txt" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["jobs", "--limit", "many"], "'many' is not a whole number of 1 or more"),
        (["jobs", "--limit", "0"], "'0' is not a whole number"),
        (["dead-letters", "--limit", "-1"], "'-1' is not a whole number"),
        (
            ["watch", "in", "out", "--recipe", "transparent-web", "--settle", "soon"],
            "'soon' is not a number of seconds",
        ),
        (["watch", "in", "out", "--recipe", "transparent-web", "--every", "0"], "more than 0 and at most 3600"),
    ],
)
def test_a_number_that_is_none_says_what_came_and_what_is_allowed(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_a_job_without_photos_says_that_none_was_found(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    worker = site.work()
    assert site.run(*submit("--wait")) == 0
    worker.join(WITHIN_S)
    said = capsys.readouterr()
    assert "0 photos" in said.out
    assert "No photo was found" in said.err


def test_a_running_job_is_shown_with_the_time_that_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    document = {"id": "j", "state": "running", "total": 100, "done": 40, "success": 39, "skipped": 0, "failed": []}
    document |= {"seconds_per_image": 0.5, "eta_s": 90.2, "created_at": "2026-11-20T08:00:00.000Z"}
    assert cli_jobs.summarise(document, False) == 1  # one failed
    assert "1 failed, 0.5 s each, about 01:30 left." in capsys.readouterr().out
    cli_jobs._list([document, document | {"eta_s": None}], False)
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith("40 of 100, about 01:30 left")
    assert second.endswith("40 of 100")


def test_a_service_that_is_away_is_waited_for_and_named(
    site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    follow = client.Client.follow

    def away_first(self: client.Client, job: str, on_wait: Any) -> Iterator[dict[str, Any]]:
        on_wait(client.Unreachable("No service answers at http://host:1."))
        yield from follow(self, job)

    monkeypatch.setattr(client.Client, "follow", away_first)
    worker = site.work()
    assert site.run(*submit("--wait")) == 0
    worker.join(WITHIN_S)
    assert "No service answers at http://host:1. Waiting for it; Ctrl-C leaves" in capsys.readouterr().err


def test_the_defaults_in_help_are_those_of_the_library() -> None:
    assert cli_jobs._SERVER == client.DEFAULT_SERVER
    assert (cli_watch._EVERY_S, cli_watch._SETTLE_S) == (watch.EVERY_S, watch.SETTLE_S)


# ---- in this process ----


def local(folder: Path, *more: str) -> list[str]:
    return submit("--local", "--set", f"store.url=file://{folder}/results", "--set", "model=fake", *more)


def rows(bench: Bench, job: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in manifest_lines(bench.jobs, job)]


def test_a_job_is_done_in_this_process_and_leaves_the_same_state(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = bench.add_photos(6)
    bench.home.put("in/text.jpg", POISON["text.jpg"], content_type="image/jpeg")
    assert main(local(tmp_path, "--json")) == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["state"], document["success"], len(document["failed"])) == ("succeeded", 6, 1)
    assert bench.jobs.progress(document["id"]).document() == document
    assert [row["source"] for row in rows(bench, document["id"])] == [*keys, "in/text.jpg"]
    assert len(list(bench.home.list("out/errors/"))) == 1
    assert bench.queue.depth().ready == 0


def test_the_same_call_goes_on_with_a_job_that_did_not_end(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = bench.add_photos(4)
    begun = bench.jobs.submit({"input": {"prefix": "in/"}, "output": "out/", "recipe": "transparent-web"})
    other = bench.jobs.submit({"input": {"prefix": "in/"}, "output": "else/", "recipe": "transparent-web"})
    assert main(local(tmp_path)) == 0
    said = capsys.readouterr()
    assert f"job {begun.id} goes on in this process" in said.err
    assert "4 done, 0 skipped" in said.out
    assert bench.jobs.progress(other.id).tally.done == 0
    # it has ended: the next call is a new job, which finds everything done
    assert main(local(tmp_path)) == 0
    assert "0 done, 4 skipped" in capsys.readouterr().out
    assert len(list(bench.jobs.ids())) == 3
    assert len(bench.outputs()) == len(keys)


def test_the_same_keys_go_on_and_other_keys_do_not(bench: Bench, tmp_path: Path) -> None:
    keys = bench.add_photos(3)
    begun = bench.jobs.submit({"input": {"keys": keys[:2]}, "recipe": "transparent-web"})
    flags = local(tmp_path)[5:]
    for names, jobs in ((keys[1:], 2), (keys[:2], 2)):
        (tmp_path / "keys.txt").write_text("\n".join(names))
        assert (
            main(["submit", "--keys-file", str(tmp_path / "keys.txt"), *flags[1:], "--recipe", "transparent-web"]) == 0
        )
        assert len(list(bench.jobs.ids())) == jobs
    assert bench.jobs.progress(begun.id).state == "succeeded"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_job_that_was_interrupted_or_killed_goes_on_at_the_second_call(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    bench.add_photos(24)
    slow = local(tmp_path, "--workers", "1", "--set", "fake.image_ms=300")
    command = [sys.executable, "-c", "import sys; from mattehorn.cli.main import main; sys.exit(main())", *slow]
    with subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}
    ) as child:
        deadline = time.monotonic() + WITHIN_S
        while len(bench.outputs()) < 3:
            assert time.monotonic() < deadline
            assert child.poll() is None, child.stderr and child.stderr.read().decode()
            time.sleep(0.05)
        child.send_signal(number)
        said = child.communicate(timeout=WITHIN_S)[1].decode()
    begun = bench.outputs()
    assert len(begun) < 24
    if number is not signal.SIGKILL:
        assert child.returncode == 130
        assert "The same command goes on." in said
    assert main(local(tmp_path, "--json")) == 0
    said_now = capsys.readouterr()
    document = json.loads(said_now.out)
    assert "goes on" in said_now.err
    assert [document["id"]] == list(bench.jobs.ids())
    assert (document["state"], document["done"]) == ("succeeded", 24)
    assert set(begun) < set(bench.outputs())
    assert len({row["source"] for row in rows(bench, document["id"])}) == len(rows(bench, document["id"])) == 24


def test_what_a_service_would_do_is_refused_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for more, said in (
        (["--webhook-url", "https://example.org/"], "service"),
        (["--server", "http://other:1"], "service"),
        (["--set", "colour=red"], "colour: there is no such setting"),
        (["--set", "store"], "KEY=VALUE"),
        (["--option", "model=another"], "another"),
        (["--set", "model=none-such"], "none-such"),
    ):
        assert main(local(tmp_path, *more)) == 2, more
        assert said in capsys.readouterr().err
    assert not list((tmp_path / "results").glob("jobs/*"))
