"""Trains the packaged network by one recipe, start to end, on a CPU.

`python -m training.train training/recipes/slim.toml --data-dir DATA/train --work-dir WORK` after
`python -m training.teacher`. Stop it at any time; the same command resumes at the last checkpoint. WORK receives
`packed/`, `checkpoint.pt` and `log.jsonl` (one line a validation).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.multiprocessing.spawn import spawn
from torch.utils.data import DataLoader, Dataset

from mattehorn.models.unet import SlimHalfUNet
from training.augment import Sampler
from training.dataset import PackedSet, pack_sets
from training.evaluate import Alpha, Pixels, normalise, predictor, score, summary
from training.losses import matting_loss
from training.recipe import Recipe, Stage, load_recipe

Batch = tuple[Tensor, Tensor, Tensor]  # images uint8 [N, S, S, 3], labels uint8 [N, S, S], kinds int64 [N]
AVERAGE_START = 80  # batches: the running average's memory may not be longer than the run so far
PREFETCHED = 4  # batches: hides a slow photo, costs a few MB


@dataclass
class State:
    """What a checkpoint holds: the network, its running average, the optimiser, and how many samples were seen."""

    network: SlimHalfUNet
    average: SlimHalfUNet
    optimiser: torch.optim.AdamW
    samples: int = 0

    def save(self, path: Path) -> None:
        """Writes beside the file, then renames: a stop half-way leaves the old checkpoint whole."""
        document = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "samples": self.samples,
        }
        torch.save(document, path.with_suffix(".part"))
        os.replace(path.with_suffix(".part"), path)

    def load(self, path: Path) -> None:
        document = torch.load(path, weights_only=True)
        self.network.load_state_dict(document["network"])
        self.average.load_state_dict(document["average"])
        self.optimiser.load_state_dict(document["optimiser"])
        self.samples = document["samples"]


class SampleNumbers(Dataset[tuple[Tensor, Tensor, int]]):
    """Samples by number at one side, for a DataLoader."""

    def __init__(self, sampler: Sampler, numbers: range, side: int, fit: float) -> None:
        self.sampler, self.numbers, self.side, self.fit = sampler, numbers, side, fit

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, int]:
        cv2.setNumThreads(1)  # a worker process starts with cv2's own pool, which fights torch's
        image, label, kind = self.sampler.draw(self.numbers[index], self.side, self.fit)
        return torch.from_numpy(np.ascontiguousarray(image)), torch.from_numpy(label.copy()), kind


def start(recipe: Recipe) -> State:
    """Fresh networks and optimiser of the recipe's seed; norms and biases are not decayed."""
    torch.manual_seed(recipe.seed)
    network = SlimHalfUNet(recipe.width).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = SlimHalfUNet(recipe.width).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average.load_state_dict(network.state_dict())
    kernels = [weight for weight in network.parameters() if weight.ndim > 1]
    others = [weight for weight in network.parameters() if weight.ndim <= 1]
    groups = [
        {"params": kernels, "weight_decay": recipe.optimiser.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return State(network.train(), average.eval(), torch.optim.AdamW(groups, lr=recipe.optimiser.rate))


def progress(samples: int, stages: Sequence[Stage]) -> float:
    """Share 0..1 of the run's pixels that lie in its first samples: a sample at 512 px is worth seven at 192 px."""
    total = done = 0
    for stage in stages:
        total += stage.samples * stage.side**2
        done += min(max(samples, 0), stage.samples) * stage.side**2
        samples -= stage.samples
    return done / total


def learning_rate(samples: int, recipe: Recipe) -> float:
    """Linear warm-up in samples, then a cosine in pixels to `floor` of the rate at the last one."""
    optimiser = recipe.optimiser
    warm = min(samples / max(optimiser.warmup, 1), 1.0)
    cosine = 0.5 * (1 + math.cos(math.pi * progress(samples, recipe.stages)))
    return optimiser.rate * warm * (optimiser.floor + (1 - optimiser.floor) * cosine)


def step(state: State, batch: Batch, recipe: Recipe, bf16: bool) -> Tensor:
    """One optimiser step of this process; gives back the parts of the loss."""
    images, labels, kinds = batch
    for group in state.optimiser.param_groups:
        group["lr"] = learning_rate(state.samples, recipe)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        alpha, trimap = state.network(normalise(images, recipe))
    total, parts = matting_loss(alpha, trimap, labels[:, None].float() / 255, kinds, recipe.loss)
    state.optimiser.zero_grad(set_to_none=True)
    total.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(state.network.parameters(), recipe.optimiser.clip)
    state.optimiser.step()
    state.samples += len(images) * peers()
    return parts


@torch.no_grad()
def synchronise(state: State, decay: float) -> None:
    """Makes the processes' networks and moments their mean (local SGD), then moves the running average towards it."""
    if peers() > 1:
        floats = [tensor for tensor in state.network.state_dict().values() if tensor.is_floating_point()]
        for own in state.optimiser.state.values():
            floats += [own["exp_avg"], own["exp_avg_sq"]]
        mean = torch.cat([tensor.flatten() for tensor in floats])
        distributed.all_reduce(mean)
        parts = torch.split(mean / peers(), [tensor.numel() for tensor in floats])
        for tensor, part in zip(floats, parts, strict=True):
            tensor.copy_(part.view(tensor.shape))
    torch._foreach_lerp_(list(state.average.parameters()), list(state.network.parameters()), 1 - decay)
    for own, other in zip(state.average.buffers(), state.network.buffers(), strict=True):
        own.copy_(other)  # batch-norm statistics are averages already


def batches(sampler: Sampler, recipe: Recipe, seen: int, workers: int) -> Iterator[tuple[Stage, Batch]]:
    """This process's batches after `seen` samples, stage by stage; what fills no batch at a stage's end is dropped."""
    first = 0
    for stage in recipe.stages:
        last = first + stage.samples
        fit = recipe.augment.fit if stage.fit is None else stage.fit
        mine = range(max(seen, first) + rank(), last - peers() + 1 + rank(), peers())
        if len(mine) >= stage.batch:
            loader = DataLoader(
                SampleNumbers(sampler, mine, stage.side, fit),
                stage.batch,
                num_workers=workers,
                multiprocessing_context="fork" if workers else None,  # spawn would copy the packs into each worker
                drop_last=True,
                prefetch_factor=PREFETCHED if workers else None,
            )
            for batch in loader:
                yield stage, (batch[0], batch[1], batch[2])
        first = last


def peers() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """This process's place among its peers; 0 validates, logs and saves."""
    return distributed.get_rank() if distributed.is_initialized() else 0


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
    """Runs or resumes the recipe until its last sample (or `stop_at`), checkpointing and logging into `work_dir`."""
    sets = pack_sets(recipe, data_dir, work_dir)
    sampler = Sampler(sets, [recipe.sets[packed.name].weight for packed in sets], recipe.augment, recipe.seed)
    photos = validation_photos(sets, recipe.run.validation_photos)
    if rank() == 0:
        print(json.dumps({packed.name: [len(packed.train), len(packed.validation)] for packed in sets}), flush=True)
    state, checkpoint = start(recipe), work_dir / "checkpoint.pt"
    if checkpoint.is_file():
        state.load(checkpoint)
    losses: list[Tensor] = []
    began, first, synchronised = time.monotonic(), state.samples, state.samples
    for steps, (stage, batch) in enumerate(batches(sampler, recipe, state.samples, workers), start=1):
        losses.append(step(state, batch, recipe, bf16))
        if steps % recipe.run.synchronise_every:
            continue
        synchronise(state, min(recipe.optimiser.ema, steps_average(state.samples, stage)))
        before, synchronised = synchronised, state.samples
        if rank() == 0 and _passed(before, state.samples, recipe.run.evaluate_every):
            row = _progress_row(state, stage, losses, time.monotonic() - began, state.samples - first)
            _log(work_dir / "log.jsonl", row | validate(state, photos, recipe, stage.side, bf16))
            losses.clear()
        if rank() == 0 and _passed(before, state.samples, recipe.run.checkpoint_every):
            state.save(checkpoint)
        if state.samples == stop_at:
            return state
    synchronise(state, recipe.optimiser.ema)
    if rank() == 0:
        scores = validate(state, photos, recipe, recipe.input_size, bf16)
        _log(work_dir / "log.jsonl", {"samples": state.samples} | scores)
        state.save(checkpoint)
    return state


def steps_average(samples: int, stage: Stage) -> float:
    """The decay of a plain mean so far, while it is shorter than the running average's memory."""
    return samples / (samples + AVERAGE_START * stage.batch)


def _progress_row(state: State, stage: Stage, losses: list[Tensor], seconds: float, seen: int) -> dict[str, Any]:
    return {
        "samples": state.samples,
        "stage": stage.side,
        "seconds": round(seconds),
        "per_second": round(seen / seconds, 1),
        "losses": [round(float(part), 4) for part in torch.stack(losses).mean(dim=0)],
    }


def _unit(label: Pixels) -> Alpha:
    return np.asarray(label / np.float32(255), np.float32)


def _passed(before: int, now: int, every: int) -> bool:
    return before // every != now // every


def _log(path: Path, row: dict[str, Any]) -> None:
    line = json.dumps(row)
    print(line, flush=True)
    with path.open("a", encoding="utf-8") as log:
        log.write(line + "\n")


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
