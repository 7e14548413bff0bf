"""Steps of load against a running service: locust in a process of its own, and what the step cost on this machine.

Called by `python -m loadtests` and `python -m loadtests.gpu`; neither starts nor ends the service.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from loadtests import photos, report
from loadtests.card import CardUsage
from loadtests.service import ServiceError, batches, batches_after
from loadtests.usage import Usage

_ROOT = Path(__file__).parent.parent
_DRAIN_S = 100  # the service answers within 95 s whatever happens; locust waits so long for the last answers
_LOCUST_START_S = 60  # its import, on a busy machine
_SAY_EVERY_S = 5.0

Say = Callable[[str], None]


@dataclass(frozen=True)
class Load:
    """A step for each number of `clients`, `seconds` long; `form` are fields of every post, NAME=VALUE."""

    clients: tuple[int, ...]
    seconds: float
    photos: str
    form: tuple[str, ...] = ()


@dataclass(frozen=True)
class Watched:
    """What is looked at meanwhile: the service's processes, unless it runs elsewhere; the card, where there is one."""

    usage: Usage | None = None
    card: CardUsage | None = None


def drive(load: Load, url: str, watched: Watched, folder: Path, say: Say) -> list[report.Step]:
    """A row for each number of clients; `folder` takes answers and logs. Raises ServiceError."""
    say(f"warming up with {load.photos} photos")
    counted = _warm_up(load, url)
    steps = []
    for clients in load.clients:
        answers = _locust(load, url, clients, folder, say)
        replicas = watched.usage.replicas() if watched.usage else None
        good = sum(answer.status == report.OK for answer in answers)
        say(f"{report.clients_text(clients)}: {len(answers)} answers; waiting for /metrics to count them")
        seen = batches_after(url, counted[0] + good)
        pictures, passes = seen[0] - counted[0], seen[1] - counted[1]
        began, ended = report.window(answers)
        costs = report.Costs(
            mean_batch=pictures / passes if passes > 0 else None,
            cpu_s=watched.usage.cpu_s(began, ended) if watched.usage else None,
            peak_mb=watched.usage.peak_mb(began, ended) if watched.usage else None,
            replicas=replicas,
            card_busy=watched.card.busy(began, ended) if watched.card else None,
            card_mb=watched.card.peak_mb(began, ended) if watched.card else None,
        )
        steps.append(report.summarise(clients, answers, costs))
        counted = seen
    return steps


def _warm_up(load: Load, url: str) -> tuple[float, float]:
    """Posts each photo once; the batches counted so far."""
    before = batches(url)[0]
    sent = photos.SETS[load.photos]()
    fields = dict(pair.partition("=")[::2] for pair in ("allow_empty=true", *load.form))
    with httpx.Client(timeout=_DRAIN_S, trust_env=False) as http:
        for photo in sent:
            answer = http.post(f"{url}/v1/mattes", files={"file": photo.data}, data=fields)
            if answer.status_code != report.OK:
                raise ServiceError(f"{photo.name} was answered {answer.status_code}: {answer.text[:300]}")
    return batches_after(url, before + len(sent))


def _locust(load: Load, url: str, clients: int, folder: Path, say: Say) -> list[report.Answer]:
    """The answers to `clients`, in a process of its own: gevent changes the one it runs in."""
    file, log = folder / f"answers-{clients}.jsonl", folder / f"locust-{clients}.log"
    file.write_text("")
    command = [sys.executable, "-m", "locust", "-f", str(Path(__file__).with_name("locustfile.py")), "--headless"]
    command += ["-H", url, "-u", str(clients), "-r", str(clients), "-t", f"{load.seconds:g}s", "-s", str(_DRAIN_S)]
    command += ["--photos", load.photos, "--answers", str(file), "--only-summary", "--exit-code-on-error", "0"]
    for pair in load.form:
        command += ["--form", pair]
    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT, cwd=_ROOT)
    try:
        _watch(process, clients, file, load.seconds + _DRAIN_S + _LOCUST_START_S, say)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    if process.returncode != 0:
        raise ServiceError(f"locust ended with {process.returncode}:\n{log.read_text('utf-8', 'replace')[-3000:]}")
    return report.parse_answers(file.read_text("utf-8").splitlines())


def _watch(process: subprocess.Popen[bytes], clients: int, answers: Path, within_s: float, say: Say) -> None:
    """Waits for locust and says how far it is. Raises ServiceError when it takes longer than it may."""
    began = said = time.monotonic()
    while process.poll() is None:
        now = time.monotonic()
        if now - began > within_s:
            raise ServiceError(f"locust with {report.clients_text(clients)} did not end within {within_s:g} s")
        if now - said >= _SAY_EVERY_S:
            said = now
            say(f"{report.clients_text(clients)}: {answers.read_bytes().count(10)} answers after {now - began:.0f} s")
        time.sleep(0.1)
