"""`python -m loadtests.gpu`: the network alone, its mattes beside the CPU's, and the whole service, on one GPU.

Steps may be named: `network`, `agreement`, `service`; default all. The service has the GPU image's configuration
(infra/docker/gpu-patch.yaml) with a given number of compose replicas, to show where the bottleneck sits. Tables are
printed, and with --json every row is written as soon as it is known. Exit code 0; 1 when an answer was neither a
picture nor a 429 with Retry-After; 2 for what cannot run. Nothing is asserted: the figures go to docs/performance.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx
import torch
import yaml

from loadtests import report
from loadtests.card import CardUsage, ask, has_card
from loadtests.driving import Load, Watched, drive
from loadtests.network import Difference, Pace, differences, differences_table, paces, paces_table, torch_model
from loadtests.service import Service, ServiceError, started
from loadtests.usage import Usage
from mattehorn.errors import MattehornError

STEPS = ("network", "agreement", "service")
FORMS = {"png": (), "jpg": ("format=jpg", "background_color=white")}  # a cutout, and what a shop shows
_ROOT = Path(__file__).parent.parent
_RENDER = _ROOT / "infra" / "k8s" / "render.py"
_PATCH = _ROOT / "infra" / "docker" / "gpu-patch.yaml"
_BATCHES = {"cuda": (1, 2, 4, 8, 16, 32, 64, 128), "cpu": (1, 2, 4)}
_INGRESS = 4  # each admits 40 pictures, so that 128 clients wait for the pools and not for a refusal
_METRICS_EVERY_MS = "1000"  # of Ray's own 10 s: a rented machine waits for /metrics after every step


@dataclass(frozen=True)
class Plan:
    """What to do. `compose`: a service is started for each number of replicas, and driven with each of `forms`."""

    steps: tuple[str, ...]
    device: str
    models: tuple[str, ...]
    batches: tuple[int, ...]
    compose: tuple[int, ...]
    forms: tuple[str, ...]
    clients: tuple[int, ...]
    seconds: float
    json_file: Path | None


@dataclass
class Figures:
    """All rows so far."""

    machine: dict[str, Any]
    network: list[Pace] = field(default_factory=list)
    agreement: list[Difference] = field(default_factory=list)
    service: list[dict[str, Any]] = field(default_factory=list)


def main(arguments: Sequence[str] | None = None) -> int:
    plan = parse(arguments)
    refused = why_not(plan)
    if refused:
        print(f"loadtests.gpu: {refused}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a service is stopped then, too
    figures = Figures(machine())
    print(json.dumps(figures.machine), flush=True)
    faults: list[str] = []
    try:
        if "network" in plan.steps:
            _network(plan, figures)
        if "agreement" in plan.steps:
            _agreement(plan, figures)
        if "service" in plan.steps:
            faults = _services(plan, figures)
    except (MattehornError, ServiceError, ValueError) as error:
        print(f"loadtests.gpu: {error}", file=sys.stderr)
        return 2
    for fault in faults:
        print(f"loadtests.gpu: {fault}", file=sys.stderr)
    return 1 if faults else 0


def parse(arguments: Sequence[str] | None) -> Plan:
    """The command line; ends the process with code 2 when it is wrong."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.gpu", description="Times network and service on a GPU.")
    parser.add_argument("steps", nargs="*", metavar="STEP", help=f"of {', '.join(STEPS)}; default all")
    parser.add_argument("--device", choices=tuple(_BATCHES), default="cuda", help="cpu tries this out without a GPU")
    parser.add_argument("--models", type=_names, default=("mattehorn-base", "mattehorn-slim"), metavar="NAME,NAME,..")
    parser.add_argument("--batches", type=_counts, metavar="N,N,..", help="default 1 to 128, on a CPU 1 to 4")
    parser.add_argument("--compose", type=_counts, default=(1, 4, 12), metavar="N,N,..", help="default 1,4,12")
    parser.add_argument("--forms", type=_names, default=tuple(FORMS), metavar="NAME,..", help="png, jpg; default both")
    parser.add_argument("--clients", type=_counts, default=(1, 8, 32, 128), metavar="N,N,..", help="default 1,8,32,128")
    parser.add_argument("--seconds", type=float, default=6.0, help="length of each step of load, default 6")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    options = parser.parse_args(arguments)
    for what, given, allowed in (("step", options.steps, STEPS), ("form", options.forms, tuple(FORMS))):
        if wrong := [name for name in given if name not in allowed]:
            parser.error(f"{what} {wrong[0]} is unknown; allowed are {', '.join(allowed)}.")
    if not 1 <= options.seconds <= 600:
        parser.error(f"--seconds is {options.seconds:g}; allowed are 1 to 600.")
    return Plan(
        steps=tuple(options.steps) or STEPS,
        device=options.device,
        models=options.models,
        batches=options.batches or _BATCHES[options.device],
        compose=options.compose,
        forms=options.forms,
        clients=options.clients,
        seconds=options.seconds,
        json_file=options.json,
    )


def _counts(text: str) -> tuple[int, ...]:
    """Numbers from 1 to 1000, from `1,8,32`."""
    parts = text.split(",")
    if not all(part.strip().isdigit() and 1 <= int(part) <= 1000 for part in parts):
        raise argparse.ArgumentTypeError(f"{text} was given; allowed are numbers from 1 to 1000, as in 1,8,32")
    return tuple(int(part) for part in parts)


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))


def why_not(plan: Plan) -> str:
    """Why the plan cannot run on this machine, and what to do; empty when it can."""
    if plan.device == "cuda" and not torch.cuda.is_available():
        return (
            f"this torch ({torch.__version__}) sees no CUDA device. Run it where there is a GPU, a driver and a CUDA "
            "build of torch; --device cpu tries the same out here."
        )
    if "service" in plan.steps and importlib.util.find_spec("locust") is None:
        return "locust is not installed. `make load` installs it, or: pip install -e '.[load]'"
    return ""


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    cuda = torch.cuda.is_available()
    return {
        "gpu": torch.cuda.get_device_name() if cuda else None,
        "driver": next(iter(ask("driver_version")), None) if cuda else None,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if cuda else None,
        "tf32_convolutions": torch.backends.cudnn.allow_tf32 if cuda else None,  # then float32 is not all 24 bits
        "torch": torch.__version__,
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)),
    }


def _network(plan: Plan, figures: Figures) -> None:
    for name in plan.models:
        model = torch_model(name, plan.device, threads=1)
        _say(f"{name}: the network alone; at start it chose {model.dtype}")
        for pace in paces(model, plan.batches):
            figures.network.append(pace)
            _write(plan, figures)
    print(f"\n{paces_table(figures.network)}", flush=True)


def _agreement(plan: Plan, figures: Figures) -> None:
    for name in plan.models:
        _say(f"{name}: mattes beside those of the CPU")
        reference = torch_model(name, "cpu", threads=len(os.sched_getaffinity(0)))
        figures.agreement += differences(torch_model(name, plan.device, threads=1), reference)
        _write(plan, figures)
    print(f"\n{differences_table(figures.agreement)}", flush=True)


def _services(plan: Plan, figures: Figures) -> list[str]:
    """A service for each number of compose replicas; the faults of all steps."""
    os.environ.setdefault("RAY_metrics_report_interval_ms", _METRICS_EVERY_MS)  # inherited by the service
    faults = []
    for compose in plan.compose:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mattehorn-gpu-")))
            config = write_config(folder, compose=compose, device=plan.device)
            service = stack.enter_context(started(folder, (), _say, config=config))
            pool = _require_device(service, plan.device)
            print(f"\n{compose} compose replicas: /readyz says {json.dumps(pool)}", flush=True)
            watched = Watched(
                stack.enter_context(Usage(service.pid)) if service.pid else None,
                stack.enter_context(CardUsage()) if has_card() else None,
            )
            for form in plan.forms:
                load = Load(plan.clients, plan.seconds, "small", FORMS[form])
                steps = drive(load, service.url, watched, folder, _say)
                figures.service += [{"compose": compose, "form": form, **asdict(step)} for step in steps]
                _write(plan, figures)
                print(f"\n{form}, {compose} compose replicas:\n\n{report.steps_table(steps)}")
                print(f"\n{report.stages_table(steps)}", flush=True)
                faults += [f"{form}, {compose} compose replicas: {fault}" for step in steps for fault in step.faults]
    return faults


def write_config(folder: Path, *, compose: int, device: str) -> Path:
    """The GPU image's serve_config.yaml with that many compose replicas, in `folder`; on a CPU without its GPU."""
    patch = yaml.safe_load(_PATCH.read_text("utf-8"))
    application = patch["applications"][0]
    if device == "cpu":
        application.update(args={}, deployments=[])
    application["deployments"] += [
        {"name": "Ingress", "num_replicas": _INGRESS},
        {"name": "Compose", "autoscaling_config": {"min_replicas": compose, "max_replicas": compose}},
    ]
    overlay, config = folder / "patch.yaml", folder / "serve_config.yaml"
    overlay.write_text(yaml.safe_dump(patch))
    command = [sys.executable, str(_RENDER), "--patch", str(overlay), "--output", str(config)]
    subprocess.run(command, check=True)
    return config


def _require_device(service: Service, device: str) -> dict[str, Any]:
    """The body of /readyz. Raises ServiceError when the pool does not run on `device`."""
    body: dict[str, Any] = httpx.get(f"{service.url}/readyz", timeout=20, trust_env=False).json()
    if body.get("device") != device:
        raise ServiceError(f"the matting pool runs on {body.get('device')}, not on {device}: {json.dumps(body)}")
    return body


def _write(plan: Plan, figures: Figures) -> None:
    if plan.json_file:
        plan.json_file.write_text(json.dumps(asdict(figures), indent=1) + "\n")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
