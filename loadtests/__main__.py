"""`python -m loadtests`: starts the service, drives it by locust step by step, prints a table, stops it.

Exit code 0 when every answer was a picture or a 429 with Retry-After, 1 when not, 2 for what cannot run.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from loadtests import photos, report
from loadtests.card import CardUsage, has_card
from loadtests.driving import Load, Watched, drive
from loadtests.service import Service, ServiceError, started, wait_until_ready
from loadtests.usage import Usage

_OVERLOAD_CLIENTS = 128  # two ingress replicas admit 40 each
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Plan:
    """What to do. `url` None: start the service, with `settings` (KEY=VALUE)."""

    url: str | None
    settings: tuple[str, ...]
    clients: tuple[int, ...]
    seconds: float
    photos: str
    json_file: Path | None


def main(arguments: Sequence[str] | None = None) -> int:
    plan = parse(arguments)
    if importlib.util.find_spec("locust") is None:
        print(
            "loadtests: locust is not installed. `make load` installs it, or: pip install -e '.[load]'", file=sys.stderr
        )
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the service is stopped then, too
    try:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mattehorn-load-")))
            service = _service(plan, folder, stack)
            usage = stack.enter_context(Usage(service.pid)) if service.pid else None
            card = stack.enter_context(CardUsage()) if has_card() else None
            load = Load(plan.clients, plan.seconds, plan.photos)
            steps = drive(load, service.url, Watched(usage, card), folder, _say)
    except ServiceError as error:
        print(f"loadtests: {error}", file=sys.stderr)
        return 2
    return _print(plan, steps)


def parse(arguments: Sequence[str] | None) -> Plan:
    """The command line; ends the process with code 2 when it is wrong."""
    parser = argparse.ArgumentParser(prog="python -m loadtests", description="Drives the service and prints a table.")
    parser.add_argument("--url", help="a running service on this machine; default: one is started and stopped")
    parser.add_argument(
        "--model", help="model of the service that is started: mattehorn-base (default), mattehorn-slim or fake"
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="setting of that service")
    parser.add_argument("--clients", type=_counts, default=(1, 8, 32), metavar="N,N,..", help="default 1,8,32")
    parser.add_argument("--seconds", type=_seconds, default=10.0, help="length of each step, default 10")
    parser.add_argument("--photos", choices=sorted(photos.SETS), default="small", help="small: up to 0.3 MP (default)")
    parser.add_argument("--overload", action="store_true", help=f"one more step with {_OVERLOAD_CLIENTS} clients")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    options = parser.parse_args(arguments)
    if options.url and (options.model or options.set):
        parser.error("--model and --set are for the service that is started here; --url names one that runs already.")
    if options.url and urlsplit(options.url).hostname not in _LOOPBACK:
        parser.error(
            f"--url is {options.url}; only a service on this machine is loaded, for example http://127.0.0.1:8000. "
            "Forward a port to reach another."
        )
    settings = ([f"model={options.model}"] if options.model else []) + options.set
    clients = options.clients + ((_OVERLOAD_CLIENTS,) if options.overload else ())
    url = options.url.rstrip("/") if options.url else None
    return Plan(url, tuple(settings), clients, options.seconds, options.photos, options.json)


def _counts(text: str) -> tuple[int, ...]:
    """Numbers of clients, 1 to 1000 each, from `1,8,32`."""
    parts = text.split(",")
    if not all(part.strip().isdigit() and 1 <= int(part) <= 1000 for part in parts):
        raise argparse.ArgumentTypeError(f"{text} was given; allowed are numbers from 1 to 1000, as in 1,8,32")
    return tuple(int(part) for part in parts)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 1 <= value <= 600:
        raise argparse.ArgumentTypeError(f"{text} was given; allowed are 1 to 600")
    return value


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _service(plan: Plan, folder: Path, stack: ExitStack) -> Service:
    if plan.url is None:
        return stack.enter_context(started(folder, plan.settings, _say))
    wait_until_ready(plan.url, within_s=10)
    return Service(plan.url)


def _print(plan: Plan, steps: Sequence[report.Step]) -> int:
    print(f"\n{report.steps_table(steps)}\n\nServer-Timing, medians:\n\n{report.stages_table(steps)}")
    for sentence in report.refusals(steps):
        print(f"\n{sentence}")
    if plan.json_file:
        plan.json_file.write_text(json.dumps([dataclasses.asdict(step) for step in steps], indent=1) + "\n")
    faults = [f"{report.clients_text(step.clients)}: {', '.join(step.faults)}" for step in steps if step.faults]
    for fault in faults:
        print(f"loadtests: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
