"""Trains the packaged network by one recipe, start to end: the loop, and its start on this machine's CPU.

`python -m training.train training/recipes/slim.toml --data-dir DATA/train --work-dir WORK` after
`python -m training.teacher`. Stop it at any time; the same command resumes at the last checkpoint. WORK receives
`packed/`, `checkpoint.pt` and `log.jsonl` (one line a validation). `training/cluster.py` runs the same loop, `run`, on
the workers of a Ray cluster.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.multiprocessing.spawn import spawn
from torch.utils.data import DataLoader, Dataset

from mattehorn.models.networks import Network
from training.dataset import PackedSet, pack_sets
from training.evaluate import Alpha, Pixels, normalise, predictor, score, summary
from training.losses import NAMES, Batch, alone, matting_loss
from training.networks import build, parameter_groups, train_mode
from training.peers import average, averaged, peers, rank, share_norms
from training.progress import Progress, append_row, evaluation_row, pixels, rewind_log
from training.recipe import Recipe, RecipeError, Stage, load_recipe
from training.sampler import Sample, Sampler

AVERAGE_START = 80  # batches: the running average's memory may not be longer than the run so far
PREFETCHED = 4  # batches: hides a slow photo, costs a few MB
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Setup:
    """Where and in which arithmetic a process trains, and what it shares with its peers.

    In lockstep they share each step: the recipe's batch is dealt to them, and gradients, loss weights and batch-norm
    statistics are those of the whole batch, so that their number changes nothing but rounding. Otherwise each takes
    whole batches, and their weights are averaged every `synchronise_every` steps (local SGD): slow links do not hurt.
    """

    bf16: bool
    device: torch.device = CPU
    lockstep: bool = False

    def share(self, stage: Stage) -> int:
        """Samples of one process's part of a step."""
        return stage.batch // peers() if self.lockstep else stage.batch


# Samples seen so far -> the batches of this process after them, with their stages.
Feed = Callable[[int], Iterator[tuple[Stage, Batch]]]


@dataclass
class State:
    """What a checkpoint holds: the network, its running average, the optimiser, and how many samples were seen."""

    network: Network
    average: Network
    optimiser: torch.optim.AdamW
    samples: int = 0
    loss_sum: Tensor = field(default_factory=lambda: torch.zeros(len(NAMES)))
    loss_steps: int = 0

    def add_losses(self, parts: Tensor) -> None:
        """Counts a step's parts of the loss towards the next row of the log."""
        self.loss_sum = self.loss_sum.to(parts.device) + parts
        self.loss_steps += 1

    def take_losses(self) -> dict[str, float]:
        """Mean parts since the last call, by name."""
        means = (self.loss_sum / max(self.loss_steps, 1)).tolist()
        self.loss_sum, self.loss_steps = torch.zeros_like(self.loss_sum), 0
        return dict(zip(NAMES, means, strict=True))

    def save(self, path: Path) -> None:
        """Writes beside the file, then renames: a stop half-way leaves the old checkpoint whole."""
        document = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "samples": self.samples,
            "loss_sum": self.loss_sum,
            "loss_steps": self.loss_steps,
        }
        torch.save(document, path.with_suffix(".part"))
        os.replace(path.with_suffix(".part"), path)

    def load(self, path: Path) -> None:
        document = torch.load(path, map_location="cpu", weights_only=True)
        self.network.load_state_dict(document["network"])
        self.average.load_state_dict(document["average"])
        self.optimiser.load_state_dict(document["optimiser"])
        self.samples = document["samples"]
        self.loss_sum, self.loss_steps = document["loss_sum"], document["loss_steps"]


# Told to every process at each evaluation: where the run stands, and the row of the log (scores in process 0 only).
Hear = Callable[[State, dict[str, Any]], None]


class SampleNumbers(Dataset[Sample]):
    """Samples by number under one stage, for a DataLoader."""

    def __init__(self, sampler: Sampler, numbers: Sequence[int], stage: Stage) -> None:
        self.sampler, self.numbers, self.stage = sampler, numbers, stage

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> Sample:
        cv2.setNumThreads(1)  # a worker process starts with cv2's own pool, which fights torch's
        return self.sampler.draw(self.numbers[index], self.stage)


def collate(samples: Sequence[Sample]) -> Batch:
    """Samples side by side."""
    return Batch(
        images=torch.from_numpy(np.stack([sample.image for sample in samples])),
        labels=torch.from_numpy(np.stack([sample.label for sample in samples])),
        kinds=torch.tensor([sample.kind for sample in samples]),
        couples=torch.tensor([sample.couple for sample in samples]),
    )


def start(recipe: Recipe, setup: Setup) -> State:
    """Fresh network, its running average and the optimiser, of the recipe's seed."""
    network, average = build(recipe).to(setup.device), build(recipe).to(setup.device)
    train_mode(network, recipe.encoder)
    if setup.lockstep and peers() > 1:
        share_norms(network)
    optimiser = torch.optim.AdamW(parameter_groups(network, recipe), lr=recipe.optimiser.rate)
    return State(network, average.eval(), optimiser)


def progress(samples: int, stages: Sequence[Stage]) -> float:
    """Share 0..1 of the run's pixels that lie in its first samples: a sample at 512 px is worth seven at 192 px."""
    return pixels(samples, stages) / pixels(sum(stage.samples for stage in stages), stages)


def learning_rate(samples: int, recipe: Recipe) -> float:
    """Linear warm-up in samples, then cosines in pixels to `floor`: one to the last sample, or to each `restart`."""
    optimiser = recipe.optimiser
    warm = min(samples / max(optimiser.warmup, 1), 1.0)
    top, first, stages = _descent(samples, recipe.stages)
    cosine = 0.5 * (1 + math.cos(math.pi * progress(samples - first, stages)))
    return optimiser.rate * warm * (optimiser.floor + (top - optimiser.floor) * cosine)


def _descent(samples: int, stages: Sequence[Stage]) -> tuple[float, int, list[Stage]]:
    """The cosine that a sample lies on: the share of the rate at its top, its first sample, its stages."""
    top, first, own, end = 1.0, 0, list[Stage](), 0
    for stage in stages:
        if stage.restart is not None and own:
            if samples < end:
                break
            top, first, own = stage.restart, end, []
        own.append(stage)
        end += stage.samples
    return top, first, own


def step(state: State, batch: Batch, recipe: Recipe, setup: Setup) -> Tensor:
    """One optimiser step of this process; gives back the parts of the loss, in lockstep those of all its peers."""
    for group in state.optimiser.param_groups:
        group["lr"] = group["share"] * learning_rate(state.samples, recipe)
    batch = batch.to(setup.device)
    with torch.autocast(setup.device.type, torch.bfloat16, enabled=setup.bf16):
        alpha, trimap = state.network(normalise(batch.images, recipe))
    across = averaged if setup.lockstep else alone
    total, parts = matting_loss(alpha, trimap, batch, recipe.loss, across)
    state.optimiser.zero_grad(set_to_none=True)
    total.backward()  # type: ignore[no-untyped-call]
    if setup.lockstep:
        average([parts, *(weight.grad for weight in state.network.parameters() if weight.grad is not None)])
    nn.utils.clip_grad_norm_(state.network.parameters(), recipe.optimiser.clip)
    state.optimiser.step()
    state.samples += len(batch.images) * peers()
    return parts


@torch.no_grad()
def synchronise(state: State, decay: float, setup: Setup) -> None:
    """Makes the processes' networks and moments their mean unless they are in lockstep; moves the running average."""
    if not setup.lockstep:
        floats = [tensor for tensor in state.network.state_dict().values() if tensor.is_floating_point()]
        for own in state.optimiser.state.values():
            floats += [own["exp_avg"], own["exp_avg_sq"]]
        average(floats)
    torch._foreach_lerp_(list(state.average.parameters()), list(state.network.parameters()), 1 - decay)
    for own, other in zip(state.average.buffers(), state.network.buffers(), strict=True):
        own.copy_(other)  # batch-norm statistics are averages already


def batches(sampler: Sampler, recipe: Recipe, workers: int, setup: Setup, seen: int) -> Iterator[tuple[Stage, Batch]]:
    """This process's batches after `seen` samples, drawn by `workers` processes of its own."""
    for stage, numbers in numbers_by_stage(recipe, setup, seen):
        loader = DataLoader(
            SampleNumbers(sampler, numbers, stage),
            setup.share(stage),
            collate_fn=collate,
            num_workers=workers,
            multiprocessing_context="fork" if workers else None,  # spawn would copy the packs into each worker
            prefetch_factor=PREFETCHED if workers else None,
        )
        for batch in loader:
            yield stage, batch


def numbers_by_stage(recipe: Recipe, setup: Setup, seen: int) -> Iterator[tuple[Stage, list[int]]]:
    """This process's sample numbers after `seen`, stage by stage; what fills no batch at a stage's end is dropped."""
    first = 0
    for stage in recipe.stages:
        mine = own_numbers(max(seen, first), first + stage.samples, setup.share(stage))
        if mine:
            yield stage, mine
        first += stage.samples


def own_numbers(first: int, last: int, batch: int) -> list[int]:
    """This process's sample numbers in first..last: whole batches, dealt to the processes in turn, couples together."""
    blocks = range(first + rank() * batch, last - peers() * batch + rank() * batch + 1, peers() * batch)
    return [number for start in blocks for number in range(start, start + batch)]


def validation_photos(sets: list[PackedSet], limit: int) -> dict[str, list[tuple[Pixels, Alpha]]]:
    """Validation photos and labels by set, a fixed draw of at most `limit` in all, shared by the sets' sizes."""
    total = max(sum(len(packed.validation) for packed in sets), 1)
    chosen = {}
    for packed in sets:
        count = min(len(packed.validation), math.ceil(limit * len(packed.validation) / total))
        places = np.random.default_rng(0).permutation(len(packed.validation))[:count]
        pixels = [packed.rgba(packed.validation[place]) for place in places]
        if pixels:
            chosen[packed.name] = [(np.ascontiguousarray(p[..., :3]), _unit(p[..., 3])) for p in pixels]
    return chosen


def validate(
    state: State, photos: dict[str, list[tuple[Pixels, Alpha]]], recipe: Recipe, side: int, bf16: bool
) -> dict[str, Any]:
    """Scores of the running average over all validation photos, and IoU by set."""
    if not photos:
        return {}
    predict = predictor(state.average, recipe, side, bf16)
    rows = {name: score(predict, pairs) for name, pairs in photos.items()}
    by_set = {name: summary(own)["iou"] for name, own in rows.items()}
    return dict(summary([row for own in rows.values() for row in own])) | {"side": side, "iou_by_set": by_set}


def train(
    recipe: Recipe, data_dir: Path, work_dir: Path, workers: int, bf16: bool, stop_at: int | None = None
) -> State:
    """Runs or resumes the recipe on this machine's CPU, samples drawn by `workers` processes (0: by this one)."""
    sets = pack_sets(recipe, data_dir, work_dir)
    if rank() == 0:
        print(json.dumps({packed.name: [len(packed.train), len(packed.validation)] for packed in sets}), flush=True)
    setup = Setup(bf16)
    feed = functools.partial(batches, Sampler(sets, recipe), recipe, workers, setup)
    return run(recipe, sets, work_dir, feed, setup, stop_at)


def run(
    recipe: Recipe,
    sets: list[PackedSet],
    work_dir: Path,
    feed: Feed,
    setup: Setup,
    stop_at: int | None = None,
    hear: Hear | None = None,
) -> State:
    """The loop, until the recipe's last sample (or `stop_at`), checkpointing and logging into `work_dir`."""
    require_whole_batches(recipe, setup)
    photos = validation_photos(sets, recipe.run.validation_photos)
    state, checkpoint, log = start(recipe, setup), work_dir / "checkpoint.pt", work_dir / "log.jsonl"
    if checkpoint.is_file():
        state.load(checkpoint)
    if state.samples >= recipe.samples:
        return state
    if rank() == 0:
        rewind_log(log, state.samples)
    telling = Progress(recipe.stages, state.samples) if rank() == 0 else None
    began, first, synchronised = time.monotonic(), state.samples, state.samples
    for steps, (stage, batch) in enumerate(feed(state.samples), start=1):
        parts = step(state, batch, recipe, setup)
        state.add_losses(parts)
        if telling:
            telling.tick(state.samples, parts.sum())
        if steps % recipe.run.synchronise_every:
            continue
        synchronise(state, min(recipe.optimiser.ema, steps_average(state.samples, stage)), setup)
        before, synchronised = synchronised, state.samples
        if _passed(before, state.samples, recipe.run.evaluate_every):
            seconds, seen = time.monotonic() - began, state.samples - first
            row = evaluation_row(state.samples, stage, state.take_losses(), seconds, seen)
            if rank() == 0:
                row |= validate(state, photos, recipe, stage.side, setup.bf16)
                append_row(log, row)
            if hear:
                hear(state, row)
        if rank() == 0 and _passed(before, state.samples, recipe.run.checkpoint_every):
            state.save(checkpoint)
        if state.samples == stop_at:
            return state
    synchronise(state, recipe.optimiser.ema, setup)
    row = {"samples": state.samples}
    if rank() == 0:
        row |= validate(state, photos, recipe, recipe.input_size, setup.bf16)
        append_row(log, row)
        state.save(checkpoint)
    if telling:
        telling.close()
    if hear:
        hear(state, row)
    return state


def require_whole_batches(recipe: Recipe, setup: Setup) -> None:
    """Refuses a stage whose samples the processes cannot share in whole batches: a resumed run would draw others."""
    for number, stage in enumerate(recipe.stages, start=1):
        together = setup.share(stage) * peers()
        if stage.samples % together:
            raise RecipeError(
                f"stage {number} has {stage.samples} samples; {peers()} processes take {together} a step: "
                f"make it {round(stage.samples / together) * together}"
            )


def steps_average(samples: int, stage: Stage) -> float:
    """The decay of a plain mean so far, while it is shorter than the running average's memory."""
    return samples / (samples + AVERAGE_START * stage.batch)


def _unit(label: Pixels) -> Alpha:
    return np.asarray(label / np.float32(255), np.float32)


def _passed(before: int, now: int, every: int) -> bool:
    return before // every != now // every


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--data-dir", type=Path, required=True, help="folder of the sets that the recipe names")
    parser.add_argument("--work-dir", type=Path, required=True, help="outside the repository: packs, checkpoints, log")
    parser.add_argument("--threads", type=int, default=1, help="of torch in each process")
    parser.add_argument("--workers", type=int, default=1, help="processes that prepare samples")
    parser.add_argument("--fp32", action="store_true", help="for a CPU without bf16 arithmetic")
    parser.add_argument("--processes", type=int, default=1, help="that train together; each takes `batch` samples")
    arguments = parser.parse_args()
    arguments.work_dir.mkdir(parents=True, exist_ok=True)
    pack_sets(load_recipe(arguments.recipe), arguments.data_dir, arguments.work_dir)
    meeting = arguments.work_dir / "meeting"
    meeting.unlink(missing_ok=True)
    spawn(run_process, (arguments, meeting), nprocs=arguments.processes)  # type: ignore[no-untyped-call]


def run_process(place: int, arguments: argparse.Namespace, meeting: Path) -> None:
    """One of the processes that train together; they meet by a file and exchange weights over the loopback."""
    torch.set_num_threads(arguments.threads)
    cv2.setNumThreads(1)
    if arguments.processes > 1:
        where = f"file://{meeting.resolve()}"
        distributed.init_process_group("gloo", init_method=where, rank=place, world_size=arguments.processes)
    recipe = load_recipe(arguments.recipe)
    train(recipe, arguments.data_dir, arguments.work_dir, arguments.workers, bf16=not arguments.fp32)


if __name__ == "__main__":
    main()
