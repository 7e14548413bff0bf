"""`mattehorn watch IN_DIR OUT_DIR`: photos put into a folder come out of another one, until Ctrl-C.

Added to the command line by main.py, which turns errors into exit codes. The work is in mattehorn/bulk/watch.py.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from mattehorn.cli import jobs as cli_jobs
from mattehorn.cli import recipes as cli_recipes
from mattehorn.errors import OptionError

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from mattehorn.bulk.plan import Outcome
    from mattehorn.bulk.watch import FolderWatch
    from mattehorn.recipe.recipe import Recipe

_EVERY_S, _SETTLE_S = 2.0, 5.0  # bulk/watch.py's; importing that would cost --help half a second


def add_commands(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    watch = commands.add_parser(
        "watch",
        help="a folder, for ever",
        description="Works on every photo that is put into IN_DIR; results, and errors/, go to OUT_DIR. A restart does "
        "not repeat what is done.",
    )
    watch.add_argument("source", metavar="IN_DIR", type=Path)
    watch.add_argument("target", metavar="OUT_DIR", type=Path)
    cli_jobs.add_recipe_flags(watch)
    watch.add_argument("--once", action="store_true", help="do what lies there and end")
    watch.add_argument(
        "--every", type=_seconds, default=_EVERY_S, metavar="S", help="seconds between looks (default: 2)"
    )
    watch.add_argument(
        "--settle",
        type=_seconds,
        default=_SETTLE_S,
        metavar="S",
        help="a photo unchanged for so long is whole (default: 5)",
    )
    cli_jobs.add_local_flags(watch)
    watch.set_defaults(command=_watch)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 3600:
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is not a number of seconds, more than 0 and at most 3600")
    return value


def _watch(parsed: argparse.Namespace) -> int:
    from mattehorn.bulk.embedded import AHEAD, OwnModel, consumer_limits, own_queue, usual_workers
    from mattehorn.bulk.watch import FolderWatch
    from mattehorn.recipe.result_keys import service_digest

    if not parsed.source.is_dir():
        raise OptionError(f"{parsed.source} is not a folder.", field="IN_DIR")
    settings = cli_jobs.local_settings(parsed)
    recipe = _recipe(parsed, settings.recipes_dir)
    workers = parsed.workers or usual_workers()
    counts: Counter[str] = Counter()
    with own_queue() as queue:
        model = OwnModel(settings, workers)
        watch = FolderWatch(
            parsed.source,
            parsed.target,
            recipe,
            queue,
            model,
            model=service_digest(settings.model, settings.strong_model, settings.model_dir),
            in_flight=workers + AHEAD,
            limits=consumer_limits(workers + AHEAD),
            settle_s=parsed.settle,
            on_outcome=lambda outcome: _tell(outcome, counts),
            on_given_up=lambda key, reason: _given_up(key, reason, counts),
        )
        try:
            asyncio.run(_run(watch, parsed))
        finally:
            model.close()
    failed = counts["error"] + counts["given up"]
    waits = f" {watch.waiting} still being written." if watch.waiting else ""
    print(f"{counts['done']} photos done, {failed} failed.{waits}", file=sys.stderr)
    return 1 if parsed.once and failed else 0


async def _run(watch: FolderWatch, parsed: argparse.Namespace) -> None:
    def stop() -> None:
        cli_jobs.release_signals()
        watch.stop()

    cli_jobs.catch_signals(stop)
    if parsed.once:
        await watch.run_once()
        return
    print(f"watching {parsed.source}; Ctrl-C ends it", file=sys.stderr)
    await watch.run(parsed.every)


def _recipe(parsed: argparse.Namespace, folder: str | None) -> Recipe:
    return cli_recipes.chosen(parsed.recipe, folder).with_options(cli_jobs.option_values(parsed.option))


def _tell(outcome: Outcome, counts: Counter[str]) -> None:
    """One line for each photo that was worked on."""
    counts[outcome.status] += 1
    key = json.dumps(outcome.ref.key, ensure_ascii=False)  # a name of others must not steer a terminal
    if outcome.status == "done":
        print(f"done {key} -> {json.dumps(outcome.output, ensure_ascii=False)}", flush=True)
    elif outcome.status == "error":
        print(f"failed {key}: {outcome.code}: {outcome.reason}", flush=True)


def _given_up(key: str, reason: str, counts: Counter[str]) -> None:
    counts["given up"] += 1
    print(f"given up {json.dumps(key, ensure_ascii=False)}: {reason} The next start tries it again.", flush=True)
