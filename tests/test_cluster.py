"""Many workers train as one: the same gradient, the same curve, also after a death; a broken exchange is noticed."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from torch import distributed, nn
from torch.multiprocessing.spawn import ProcessRaisedException, spawn

import training.train
from training.cluster import ClusterError, require_gpus, require_shares
from training.dataset import pack_sets
from training.losses import _dilate
from training.made_up_photos import write_sets
from training.peers import SharedBatchNorm, peers, rank, require_agreement
from training.recipe import Recipe, Stage, load_recipe
from training.sampler import Sampler
from training.train import Setup, batches, collate, numbers_by_stage, run, start, step, train

ROOT = Path(__file__).parents[1]
NOISE = 0.005  # of a loss: rounding made 0.001; unshared gradients, samples or batch statistics 0.03 and more
WITHIN_S = 240  # a busy two-core machine; a run takes 15 to 40 s, most of it Ray's
LOCKSTEP = Setup(bf16=False, lockstep=True)


def tiny() -> Recipe:
    """The smoke recipe of two short stages, at a learning rate that does not blow up rounding."""
    recipe = load_recipe(ROOT / "training" / "recipes" / "smoke.toml")
    first, _, last, _ = recipe.stages
    return replace(
        recipe,
        stages=(replace(first, batch=8, samples=96), replace(last, batch=4, samples=32)),
        optimiser=replace(recipe.optimiser, rate=1e-3),
        run=replace(recipe.run, evaluate_every=32, checkpoint_every=32, validation_photos=2),
    )


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_sets(folder, folder / "work", 16)
    return folder


@pytest.fixture
def work_dir(data_dir: Path, tmp_path: Path) -> Path:
    shutil.copytree(data_dir / "work", tmp_path / "work")
    return tmp_path / "work"


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As each worker has: the order of a sum, and so its rounding, depends on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def undisturbed(data_dir: Path, tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> dict[int, float]:
    """The curve of one process without Ray."""
    work_dir = tmp_path_factory.mktemp("alone")
    shutil.copytree(data_dir / "work", work_dir, dirs_exist_ok=True)
    train(tiny(), data_dir, work_dir, workers=0, bf16=False)
    return curve(work_dir)


def curve(work_dir: Path) -> dict[int, float]:
    """Samples seen -> loss; a row that a resumed run wrote again counts as it was written last."""
    rows = [json.loads(line) for line in (work_dir / "log.jsonl").read_text().splitlines()]
    return {row["samples"]: sum(row["losses"].values()) for row in rows if "losses" in row}


# Processes that meet without Ray: what they share, and what happens where they do not.


def together(count: int, folder: Path, body: Callable[..., None], *arguments: Any) -> None:
    """Runs `body(*arguments)` in `count` processes that meet by a file."""
    meeting = folder / f"meeting-{count}"
    meeting.unlink(missing_ok=True)
    spawn(_met, (count, meeting, body, arguments), nprocs=count)  # type: ignore[no-untyped-call]


def _met(place: int, count: int, meeting: Path, body: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=place, world_size=count)
    body(*arguments)
    distributed.destroy_process_group()


def _one_step(data_dir: Path, work_dir: Path) -> None:
    """Saves the gradient of a float64 network after one step."""
    recipe = tiny()
    sampler = Sampler(pack_sets(recipe, data_dir, work_dir), recipe)
    stage, numbers = next(numbers_by_stage(replace(recipe, stages=recipe.stages[1:]), LOCKSTEP, 0))
    state = start(recipe, LOCKSTEP)
    state.network.double()
    training.train.normalise = lambda images, recipe: images.permute(0, 3, 1, 2).double() / 255 - 0.5
    step(state, collate([sampler.draw(number, stage) for number in numbers[: LOCKSTEP.share(stage)]]), recipe, LOCKSTEP)
    gradients = [weight.grad.flatten() for weight in state.network.parameters() if weight.grad is not None]
    if rank() == 0:
        torch.save(torch.cat(gradients), work_dir / f"gradient-{peers()}.pt")


def test_two_workers_have_the_gradient_of_one(data_dir: Path, work_dir: Path) -> None:
    for count in (1, 2):
        together(count, work_dir, _one_step, data_dir, work_dir)
    one, two = (torch.load(work_dir / f"gradient-{count}.pt") for count in (1, 2))
    assert one.norm() > 0
    assert (one - two).norm() < 1e-6 * one.norm()  # not 0: pixel weights are summed in float32


def _normalise_half(whole: torch.Tensor) -> None:
    plain, shared = nn.BatchNorm2d(3), SharedBatchNorm(3)
    wanted = plain(whole)[2 * rank() : 2 * rank() + 2]
    torch.testing.assert_close(shared(whole[2 * rank() : 2 * rank() + 2]), wanted)
    torch.testing.assert_close(shared.state_dict(), plain.state_dict())
    torch.testing.assert_close(shared.eval()(whole), plain.eval()(whole))


def test_batch_norm_of_two_halves_is_that_of_the_whole(tmp_path: Path) -> None:
    whole = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0)) * 3 + 7
    together(2, tmp_path, _normalise_half, whole)


def _curve_with(broken: str, data_dir: Path, work_dir: Path) -> None:
    if broken == "gradients":
        training.train.average = lambda tensors: None
    if broken == "samples":
        training.train.own_numbers = lambda first, last, batch: list(range(first, last, peers()))
    if broken == "statistics":
        training.train.share_norms = lambda network: None
    recipe = tiny()
    sets = pack_sets(recipe, data_dir, work_dir)
    feed = functools.partial(batches, Sampler(sets, recipe), recipe, 0, LOCKSTEP)
    state = run(recipe, sets, work_dir, feed, LOCKSTEP)
    if broken == "nothing":
        require_agreement(state.network)


@pytest.mark.slow
@pytest.mark.parametrize("broken", ["nothing", "gradients", "samples", "statistics"])
def test_the_curve_leaves_its_tolerance_once_an_exchange_is_broken(
    broken: str, data_dir: Path, work_dir: Path, undisturbed: dict[int, float]
) -> None:
    together(2, work_dir, _curve_with, broken, data_dir, work_dir)
    assert (curve(work_dir) == pytest.approx(undisturbed, rel=NOISE)) == (broken == "nothing")


def _disagree() -> None:
    network = nn.Linear(2, 2)
    nn.init.constant_(network.weight, 1.0 + rank())
    require_agreement(network)


def test_workers_whose_weights_differ_are_stopped(tmp_path: Path) -> None:
    with pytest.raises(ProcessRaisedException, match="the workers' weights differ"):
        together(2, tmp_path, _disagree)


def test_dilation_by_pooling_is_that_of_opencv() -> None:
    picture = torch.randn(2, 1, 20, 17, generator=torch.Generator().manual_seed(0))
    for radius in (1, 3):
        pooled = nn.functional.max_pool2d(picture, 2 * radius + 1, stride=1, padding=radius)
        assert torch.equal(_dilate(picture, radius), pooled)


# What is refused before Ray starts.


def test_a_batch_that_cannot_be_shared_in_couples_is_refused() -> None:
    recipe = replace(tiny(), stages=(Stage(side=64, batch=8, samples=8), Stage(side=64, batch=4, samples=8)))
    require_shares(recipe, 2)
    with pytest.raises(ClusterError, match=r"stage 2 has a batch of 4.*4 workers.*multiple of 8"):
        require_shares(recipe, 4)


def test_missing_gpus_are_refused() -> None:
    require_gpus(1, 1, "torch")
    with pytest.raises(ClusterError, match="torch sees 0 GPUs, 2 are needed"):
        require_gpus(2, 0, "torch")


# Under Ray, as a user starts it.


@dataclass(frozen=True)
class Case:
    """A recipe file, its data, and a work directory for each run."""

    data_dir: Path
    recipe: Path
    folder: Path

    def work(self, name: str) -> Path:
        if not (self.folder / name).is_dir():
            shutil.copytree(self.data_dir / "work", self.folder / name)
        return self.folder / name

    def begin(self, name: str, workers: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "training.cluster", str(self.recipe), "--data-dir", str(self.data_dir)]
        command += ["--work-dir", str(self.work(name)), "--workers", str(workers), "--fp32"]
        with (self.folder / f"{name}.txt").open("ab") as sink:
            return subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT, cwd=ROOT, env=self._environment())

    def finish(self, name: str, workers: int) -> Path:
        process = self.begin(name, workers)
        try:
            assert process.wait(WITHIN_S) == 0, (self.folder / f"{name}.txt").read_text()[-4000:]
        finally:
            end(process)
        return self.work(name)

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "TMPDIR": str(self.folder)}  # what a killed driver leaves goes with the folder


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a driver and, should it not do so itself, each process it started."""
    if process.poll() is not None:
        return
    family = psutil.Process(process.pid).children(recursive=True)
    process.terminate()
    _, alive = psutil.wait_procs([psutil.Process(process.pid), *family], timeout=30)
    for one in alive:
        one.kill()


@pytest.fixture(scope="module")
def case(data_dir: Path) -> Iterator[Case]:
    folder = Path(tempfile.mkdtemp(prefix="mh-", dir="/tmp"))  # short: Ray's sockets lie below
    recipe = folder / "tiny.toml"
    recipe.write_text("\n".join(f"{key} = {toml(value)}" for key, value in asdict(tiny()).items() if value is not None))
    assert load_recipe(recipe) == tiny()
    yield Case(data_dir, recipe, folder)
    shutil.rmtree(folder, ignore_errors=True)


def toml(value: object) -> str:
    """A value of a recipe as TOML on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {toml(v)}" for k, v in value.items() if v is not None) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)


def notes(work_dir: Path, event: str) -> list[dict[str, Any]]:
    path = work_dir / "workers.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    return [row for row in rows if row["event"] == event]


def wait_for(what: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not what():
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def two(case: Case) -> Path:
    """The work directory of a run on two workers that nothing disturbed."""
    return case.finish("two", 2)


@pytest.mark.ray
@pytest.mark.slow
def test_one_worker_trains_as_a_process_without_ray(case: Case, undisturbed: dict[int, float]) -> None:
    assert curve(case.finish("one", 1)) == undisturbed


@pytest.mark.ray
@pytest.mark.slow
def test_two_workers_give_the_curve_of_one_and_hold_equal_weights(two: Path, undisturbed: dict[int, float]) -> None:
    assert list(curve(two)) == [32, 64, 96, 128]
    assert curve(two) == pytest.approx(undisturbed, rel=NOISE)
    ends = notes(two, "end")
    assert {row["rank"] for row in ends} == {0, 1}
    assert len({row["weights"] for row in ends}) == 1


@pytest.mark.ray
@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_the_curve_goes_on(case: Case, two: Path) -> None:
    work_dir = case.work("killed")
    process = case.begin("killed", 2)
    try:
        wait_for((work_dir / "checkpoint.pt").is_file, process)
        (victim,) = (row["pid"] for row in notes(work_dir, "start") if row["rank"] == 1)
        assert victim in {child.pid for child in psutil.Process(process.pid).children(recursive=True)}
        os.kill(victim, signal.SIGKILL)
        assert process.wait(WITHIN_S) == 0
    finally:
        end(process)
    starts = notes(work_dir, "start")
    assert [row["samples"] for row in starts[:2]] == [0, 0]
    assert len(starts) == 4
    assert all(row["samples"] in (32, 64, 96) for row in starts[2:])
    assert curve(work_dir) == curve(two)


@pytest.mark.ray
@pytest.mark.slow
def test_a_run_whose_driver_was_killed_goes_on_without_ray(case: Case, undisturbed: dict[int, float]) -> None:
    work_dir = case.work("moved")
    process = case.begin("moved", 1)
    wait_for((work_dir / "checkpoint.pt").is_file, process)
    family = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(family, timeout=5)
    for one in alive:
        one.kill()  # two agents of Ray may outlive it
    (worker,) = notes(work_dir, "start")
    assert worker["pid"] not in {one.pid for one in alive}
    train(tiny(), case.data_dir, work_dir, workers=0, bf16=False)
    assert curve(work_dir) == undisturbed
