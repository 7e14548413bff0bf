"""What one worker of a cluster does: the loop of `training/train.py` on samples that Ray Data draws on other CPUs.

Each worker streams a data set of its own sample numbers, in order, since Ray's `streaming_split` promises none; a
sample is a function of its number, so N workers together see what one would. Packs are read memory-mapped: the work
directory must be one path on all machines. Sent to the workers by `training/cluster.py`.
"""

from __future__ import annotations

import functools
import json
import logging
import math
import os
import pickle
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import ray.data
import ray.train
import ray.train.torch
import torch
from numpy.typing import NDArray

from training.dataset import PackedSet
from training.losses import Batch
from training.peers import rank, require_agreement
from training.recipe import Recipe, Stage
from training.sampler import Sampler
from training.train import PREFETCHED, Setup, State, numbers_by_stage, run

DRAWN_AT_ONCE = 32  # samples a Ray task: a third of a second's work against some 10 ms to start it; 42 MB at 512 px


@dataclass(frozen=True)
class Job:
    """What each worker is told. `parcel` is `wrap`'s; `drawers`: the Ray tasks that draw for one worker at a time."""

    parcel: bytes
    work_dir: Path
    bf16: bool
    gpu: bool
    drawers: int
    threads: int


def wrap(recipe: Recipe, sets: Sequence[PackedSet]) -> bytes:
    """The recipe and its packs without their pixels, whose files are named instead."""
    files = [str(packed.pixels.filename) for packed in sets if isinstance(packed.pixels, np.memmap)]
    bare = [replace(packed, pixels=np.zeros((0, 4), np.uint8)) for packed in sets]
    return pickle.dumps((recipe, list(zip(bare, files, strict=True))))


def unwrap(parcel: bytes) -> tuple[Recipe, list[PackedSet]]:
    """The recipe and its packs, their pixels mapped from the files; raises FileNotFoundError without them."""
    recipe, packs = pickle.loads(parcel)  # made by the driver of this very run
    return recipe, [replace(bare, pixels=np.memmap(file, np.uint8, "r").reshape(-1, 4)) for bare, file in packs]


def work(job: Job) -> None:
    """Trains as one of the workers, from the last checkpoint on; RuntimeError where a wanted GPU is not there."""
    for chatty in ("", "ray.data"):  # at INFO, Ray Train repeats each row of our log and Ray Data tells its plans
        logging.getLogger(chatty).setLevel(logging.WARNING)
    torch.set_num_threads(job.threads)
    cv2.setNumThreads(1)
    device = ray.train.torch.get_device()
    if job.gpu and device.type != "cuda":
        raise RuntimeError(f"this worker on {socket.gethostname()} got {device}: install a torch built for CUDA there")
    if device.type == "cuda":
        torch.cuda.set_device(device)  # nccl would take the first for all of a machine's workers
    recipe, sets = unwrap(job.parcel)
    setup = Setup(job.bf16, device, lockstep=True)
    state = run(recipe, sets, job.work_dir, functools.partial(streamed, job, recipe, setup), setup, hear=report)
    _note(job, "end", state.samples, weights=require_agreement(state.network))


def report(state: State, row: dict[str, Any]) -> None:
    """Hands a row of the log to Ray Train once the workers' weights are known to be equal."""
    require_agreement(state.network)
    ray.train.report(row)


def streamed(job: Job, recipe: Recipe, setup: Setup, seen: int) -> Iterator[tuple[Stage, Batch]]:
    """This worker's batches after `seen` samples, drawn by Ray Data; raises RuntimeError if they come out of order."""
    _note(job, "start", seen)
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    for stage, numbers in numbers_by_stage(recipe, setup, seen):
        share = setup.share(stage)
        samples = ray.data.from_items(numbers, override_num_blocks=math.ceil(len(numbers) / DRAWN_AT_ONCE)).map_batches(
            draw,
            batch_size=None,
            fn_args=(job.parcel, stage),
            num_cpus=1,
            compute=ray.data.TaskPoolStrategy(size=job.drawers),
        )
        for place, rows in enumerate(
            samples.iter_torch_batches(prefetch_batches=PREFETCHED, batch_size=share, device="cpu")
        ):
            wanted = numbers[place * share : (place + 1) * share]
            if rows["number"].tolist() != wanted:
                raise RuntimeError(f"samples {rows['number'].tolist()} came where {wanted} were due")
            yield stage, Batch(rows["image"], rows["label"], rows["kind"], rows["couple"])


def draw(items: dict[str, NDArray[np.int64]], parcel: bytes, stage: Stage) -> dict[str, NDArray[Any]]:
    """Samples by number, as columns: image uint8 [N, S, S, 3], label uint8 [N, S, S, 2], kind, couple, number int64."""
    cv2.setNumThreads(1)  # a task's process starts with cv2's own pool, which fights the trainer's
    samples = [_sampler(parcel).draw(int(number), stage) for number in items["item"]]
    return {
        "number": items["item"],
        "image": np.stack([sample.image for sample in samples]),
        "label": np.stack([sample.label for sample in samples]),
        "kind": np.array([sample.kind for sample in samples], np.int64),
        "couple": np.array([sample.couple for sample in samples], np.int64),
    }


@functools.lru_cache(maxsize=1)
def _sampler(parcel: bytes) -> Sampler:
    """The sampler of this process, kept between tasks: its indices take longer to read than a sample to draw."""
    recipe, sets = unwrap(parcel)
    return Sampler(sets, recipe)


def _note(job: Job, event: str, samples: int, **more: str) -> None:
    """A line of WORK/workers.jsonl: who trains where from which sample on; a restart shows as a second start."""
    row = {"event": event, "rank": rank(), "samples": samples, "host": socket.gethostname(), "pid": os.getpid()} | more
    with (job.work_dir / "workers.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
