"""`python -m deployments.bulk.ray_data`, `mattehorn bulk --engine ray-data`: one giant job on a Ray cluster, then done.

The job is the same as a service's: the same objects under `jobs/{id}/`, the same shards, keys and manifest, written by
the same code (mattehorn/bulk/shard.py), so either engine goes on with, or skips, what the other has done. Only who
takes the shards differs: here Ray Data streams them through a pool of actors that grows with the work, restarts those
that die, and ends. Photos are read and results written by our own store inside the actors; pixels never travel.

What it is not: no service, no queue, no webhook. Run by hand, or as a RayJob.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import os
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployments.bulk import parts
from deployments.bulk.shard_actor import ShardActor
from deployments.config import default_config, load_config
from mattehorn.bulk.embedded import make_or_resume, own_queue, require_own_model
from mattehorn.bulk.jobs import Jobs
from mattehorn.bulk.listing import list_input
from mattehorn.bulk.progress import ENDED, Progress
from mattehorn.cli import jobs as cli_jobs
from mattehorn.cli.main import exit_code
from mattehorn.errors import NotFound, OptionError, Unavailable
from mattehorn.recipe.own import read_recipes
from mattehorn.settings import Settings

_NEEDED = ("pyarrow", "pandas")  # ray[data]'s
_LOOK_EVERY_S = 2.0  # a look at the progress costs a few small requests
_WAITING_SHARDS = 2  # of an actor, one in work included: at 1 Ray Data never sees a reason for another actor

Say = Callable[[Progress], None]


@dataclass(frozen=True)
class Pool:
    """At most `workers` actors, each with so many cores and GPUs (fractions share one)."""

    workers: int
    cpus: float = 1.0
    gpus: float = 0.0


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0 done, 1 a photo or the job failed, or not all is done; 2 usage; 130 after Ctrl-C."""
    parsed = _parse(arguments)
    _catch_signals()

    def run() -> int:
        try:
            return _run(parsed)
        except ValueError as error:  # of the settings, of a place
            raise OptionError(str(error)) from error

    return exit_code("mattehorn bulk", run)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="mattehorn bulk", description="One giant job on a Ray cluster.")
    parser.add_argument("--engine", choices=("ray-data",), default="ray-data", help="what hands the work out")
    parser.add_argument("--input", dest="prefix", metavar="s3://BUCKET/PREFIX", help="every object below is a photo")
    cli_jobs.add_job_flags(parser)
    parser.add_argument("--workers", type=cli_jobs.positive, default=1, metavar="N", help="actors at most (default: 1)")
    parser.add_argument("--cpus", type=float, default=1.0, metavar="N", help="cores of one actor (default: 1)")
    parser.add_argument("--gpus", type=float, default=0.0, metavar="N", help="GPUs of one actor (default: 0)")
    parser.add_argument("--config", metavar="FILE", help=f"settings, instead of the packaged {default_config().name}")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting, e.g. store.url=..")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parsed = parser.parse_args(arguments)
    parsed.webhook_url = None
    return parsed


def _run(parsed: argparse.Namespace) -> int:
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise OptionError(f"Ray Data needs {' and '.join(missing)}; install them: pip install 'mattehorn[bulk]'.")
    body = cli_jobs.job_body(parsed)
    config = load_config(Path(parsed.config) if parsed.config else default_config(), parsed.set)
    settings = Settings.model_validate(config["applications"][0]["args"])
    pool = Pool(parsed.workers, parsed.cpus, parsed.gpus)
    bar = cli_jobs.ProgressBar()
    try:
        with _ray():
            progress = run_job(settings, body, pool, lambda progress: bar.show(progress.document()))
        bar.show(progress.document())
    except KeyboardInterrupt:
        bar.close()
        print("\nStopped; the same command goes on.", file=sys.stderr)
        return cli_jobs.INTERRUPTED
    finally:
        bar.close()
    if progress.state not in ENDED:
        print(f"Not all is done: {progress.tally.done} of {progress.total}. The same command goes on.", file=sys.stderr)
        return 1
    return cli_jobs.summarise(progress.document(), parsed.json)


@contextmanager
def _ray() -> Iterator[None]:
    """The cluster of RAY_ADDRESS, as a RayJob sets it; else a Ray of our own on this machine."""
    own = not os.environ.get("RAY_ADDRESS")
    if own:
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # Ray's ports listen everywhere; see deployments/__main__.py
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray  # after the environment is set: it is read at import

    mine = {"address": "local", "include_dashboard": False} if own else {}
    ray.init(**mine, log_to_driver=False, logging_level=logging.WARNING)
    _catch_signals()  # Ray has put its own handler of SIGTERM in place
    try:
        yield
    finally:
        ray.shutdown()


def _catch_signals() -> None:
    """SIGTERM ends the run as Ctrl-C does."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


def run_job(settings: Settings, body: Mapping[str, Any], pool: Pool, say: Say = lambda progress: None) -> Progress:
    """Makes the job of `body`, or goes on with it, and works on it until nothing more can be done now.

    Ray is running. Raises OptionError and its kinds, NotFound for an input that is gone, StoreUnavailable.
    """
    places = parts.make_places(settings)
    with own_queue() as queue:  # nobody receives from it: Ray Data hands the shards out
        jobs = Jobs(places, queue, recipes=read_recipes(settings.recipes_dir))
        require_own_model(body, jobs, settings)
        model = parts.worker_settings(settings).model
        spec, resumed = make_or_resume(jobs, body)
        print(f"job {spec.id} {'goes on' if resumed else 'begins'} on Ray Data", file=sys.stderr)
        state = jobs.state(spec.id)
        try:
            list_input(spec, state, places, queue, lambda: jobs.is_cancelled(spec.id))
        except (OptionError, NotFound) as error:
            jobs.fail(spec.id, error)
            raise
        placed, done = state.shards()
        with _watched(jobs, spec.id, say):
            _stream(sorted(placed - done), (settings, spec, model, "cuda" if pool.gpus else "cpu"), pool)
        return jobs.progress(spec.id)


def _stream(shards: Sequence[int], arguments: tuple[Any, ...], pool: Pool) -> None:
    """Every shard through one of the pool's actors; what is not done is said and left."""
    import ray.data

    if not shards:
        return
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # it warns of the bar that we switch off
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    rows = ray.data.from_items([{"id": shard} for shard in shards], override_num_blocks=len(shards))
    done = rows.map_batches(
        ShardActor,
        fn_constructor_args=arguments,
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(
            min_size=1, max_size=pool.workers, max_tasks_in_flight_per_actor=_WAITING_SHARDS
        ),
        num_cpus=pool.cpus,
        num_gpus=pool.gpus,
    )
    for row in done.iter_rows():
        if row["problem"]:
            print(f"shard {row['id']} is not done: {row['problem']}", file=sys.stderr)


@contextmanager
def _watched(jobs: Jobs, job: str, say: Say) -> Iterator[None]:
    """Tells how far the job is while the block runs: its state is objects, so it need not ask the actors."""
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(_LOOK_EVERY_S):
            with suppress(Unavailable):  # the actors wait for the store, too
                say(jobs.progress(job))

    thread = threading.Thread(target=look, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


if __name__ == "__main__":
    sys.exit(main())
