"""Trains a recipe on N workers under Ray Train, data through Ray Data: on a Ray of its own here, or on a cluster.

`python -m training.cluster RECIPE --data-dir DATA/train --work-dir WORK --workers 2`. A step's batch is the recipe's,
dealt to the workers, so that their number changes nothing but rounding. WORK receives what `training.train` writes
there, and either command resumes the other's checkpoint; `workers.jsonl` says which processes trained. A worker that
dies is replaced and all resume from the last checkpoint; the same command resumes after the driver's death.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import cv2
import torch

from training.dataset import pack_sets
from training.recipe import Recipe, RecipeError, load_recipe
from training.sources import DataError

if TYPE_CHECKING:
    from training.worker import Job

Address = Literal["local", "auto"]
OBJECT_STORE = (
    200 * 2**20
)  # bytes: samples on their way, at 512 px some 150; the rest of the memory is the page cache's
RESTARTS = 3  # of all workers after the death of one: more often, something is wrong that a restart does not mend
LOCAL_ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",  # Ray's own ports: without it, who reaches them runs code
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a process without a GPU keeps CUDA_VISIBLE_DEVICES as it is
    "GLOO_SOCKET_IFNAME": "lo",  # else gloo asks the host's name for an address, which may lead outside
}


class ClusterError(RuntimeError):
    """The workers cannot be had as asked for, or do not fit the recipe."""


def main() -> int:
    """The exit code: 0 at the recipe's end, 2 for what can be mended before training."""
    arguments = _parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # ends its Ray, as Ctrl-C does
    set_environment(arguments.address)
    from training.worker import Job, wrap  # imports Ray, which reads the environment as it is imported

    try:
        recipe = load_recipe(arguments.recipe)
        require_shares(recipe, arguments.workers)
        if arguments.gpu and arguments.address == "local":
            require_gpus(arguments.workers, torch.cuda.device_count(), f"torch {torch.__version__}")
        arguments.work_dir.mkdir(parents=True, exist_ok=True)
        cv2.setNumThreads(1)
        job = Job(
            parcel=wrap(recipe, pack_sets(recipe, arguments.data_dir, arguments.work_dir.resolve())),
            work_dir=arguments.work_dir.resolve(),
            bf16=not arguments.fp32,
            gpu=arguments.gpu,
            drawers=arguments.drawers,
            threads=arguments.threads,
        )
        with connected(arguments.address, arguments.workers, arguments.drawers):
            fit(job, arguments.workers)
    except (ClusterError, DataError, RecipeError) as error:
        print(f"training.cluster: {error}", file=sys.stderr)
        return 2
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--data-dir", type=Path, required=True, help="folder of the sets that the recipe names")
    parser.add_argument(
        "--work-dir", type=Path, required=True, help="one path on all machines: packs, checkpoints, log"
    )
    parser.add_argument("--workers", type=int, required=True, help="processes that train, one a GPU with --gpu")
    parser.add_argument("--drawers", type=int, default=1, help="tasks that draw samples for a worker at a time")
    parser.add_argument("--threads", type=int, default=1, help="of torch in each worker")
    parser.add_argument("--gpu", action="store_true", help="a GPU for each worker, and nccl between them")
    parser.add_argument("--fp32", action="store_true", help="for a processor without bf16 arithmetic")
    parser.add_argument("--address", choices=("local", "auto"), default="local", help="auto: the cluster that is there")
    return parser.parse_args()


def set_environment(address: Address) -> None:
    """What Ray reads when it is imported; a cluster has its own."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")  # it prints each line of the log twice
    if address == "local":
        for name, value in LOCAL_ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def require_shares(recipe: Recipe, workers: int) -> None:
    """Raises ClusterError unless every stage's batch can be dealt to the workers in whole couples."""
    if workers < 1:
        raise ClusterError(f"--workers {workers}: at least 1 is needed")
    for number, stage in enumerate(recipe.stages, start=1):
        if stage.batch % (2 * workers) and workers > 1:
            raise ClusterError(
                f"stage {number} has a batch of {stage.batch}, which {workers} workers cannot share in couples; "
                f"make it a multiple of {2 * workers} in the recipe, or take fewer workers"
            )


def require_gpus(wanted: int, found: int, who: str) -> None:
    """Raises ClusterError unless there are as many."""
    if found < wanted:
        raise ClusterError(f"--gpu: {who} sees {found} GPUs, {wanted} are needed; leave --gpu out to train on CPUs")


@contextmanager
def connected(address: Address, workers: int, drawers: int) -> Iterator[None]:
    """A Ray of this process alone, ended with it, or the cluster that RAY_ADDRESS or this machine's Ray names."""
    import ray

    if address == "auto":
        ray.init("auto")
        try:
            yield
        finally:
            ray.shutdown()
        return
    own = tempfile.mkdtemp(prefix="mattehorn-")  # short: Ray's sockets lie below, and a socket's path has 107 bytes
    try:
        ray.init(
            "local",
            num_cpus=workers * (1 + drawers),  # what is asked for; Ray counts them, the kernel shares the real ones
            object_store_memory=OBJECT_STORE,
            include_dashboard=False,
            logging_config=ray.LoggingConfig(log_level="ERROR"),
            _node_ip_address="127.0.0.1",
            _temp_dir=own,
        )
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(own, ignore_errors=True)


def fit(job: Job, workers: int) -> None:
    """Trains to the recipe's end on the Ray that is connected; raises ray.train.TrainingFailedError."""
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    from training.worker import work

    if job.gpu:
        require_gpus(workers, int(ray.cluster_resources().get("GPU", 0)), "Ray")
    TorchTrainer(
        work,
        train_loop_config=job,
        torch_config=TorchConfig(backend="nccl" if job.gpu else "gloo"),
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=job.gpu),
        run_config=RunConfig(
            name=time.strftime("%Y%m%dT%H%M%S"),  # a new one each time: else Ray goes on with an old run's own notes
            storage_path=str(job.work_dir / "ray"),
            failure_config=FailureConfig(max_failures=RESTARTS),
        ),
    ).fit()


if __name__ == "__main__":
    sys.exit(main())
