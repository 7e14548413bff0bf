"""What the GPU's load test can be held to without a GPU: arithmetic, command line, configuration, a fake nvidia-smi."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray

from loadtests import card, gpu
from loadtests.gpu import main, parse, write_config
from loadtests.network import (
    Difference,
    Pace,
    differences,
    differences_table,
    median_ms,
    paces,
    paces_table,
    torch_model,
)
from loadtests.report import Answer, Costs, steps_table, summarise
from mattehorn.models.torch_model import TorchModel
from mattehorn.models.zoo import find_card


class Constant(TorchModel):
    """A network of one alpha for every pixel, in bfloat16 another one; it counts what it is asked."""

    def __init__(self, in_float32: float, in_bfloat16: float) -> None:
        self.card, self.device, self.dtype = find_card("mattehorn-slim", None), "cpu", torch.bfloat16
        self._device, self._head = torch.device("cpu"), None
        self._alpha = {torch.float32: in_float32, torch.bfloat16: in_bfloat16}
        self.batches: set[int] = set()

    def forward(self, batch: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor | None]:
        self.batches.add(len(batch))
        return torch.full((len(batch), 1, *batch.shape[2:]), self._alpha[dtype]), None


def test_every_batch_is_timed_in_both_precisions_and_the_models_own_stays() -> None:
    model = Constant(0.5, 0.5)
    rows = list(paces(model, (1, 2)))
    assert [(row.batch, row.dtype) for row in rows] == [
        (1, "float32"),
        (1, "bfloat16"),
        (2, "float32"),
        (2, "bfloat16"),
    ]
    assert {(row.model, row.peak_mb) for row in rows} == {(model.card.id, None)}
    assert all(row.pool_ms > 0 and row.forward_ms > 0 for row in rows)
    assert model.batches == {1, 2}
    assert model.dtype == torch.bfloat16


def test_differences_are_in_levels_of_255_from_the_reference_in_float32() -> None:
    model, reference = Constant(0.5 + 2 / 255, 0.5 - 10 / 255), Constant(0.5, 0.9)
    rows = list(differences(model, reference))
    assert [row.photo for row in rows[::2]] == ["cat", "coffee", "rocket"]
    for half, row in enumerate(rows):
        assert row.mean == pytest.approx((2, 10)[half % 2], abs=1e-4)
        assert row.most == pytest.approx(row.mean, abs=1e-4)
        assert row.visible == half % 2  # 10 levels can be seen, 2 cannot
    assert (model.dtype, reference.dtype) == (torch.bfloat16, torch.bfloat16)


def test_a_median_takes_its_warm_ups_and_at_least_five_runs() -> None:
    calls: list[NDArray[np.float64]] = []
    assert median_ms(lambda: (time.sleep(0.1), calls.append(np.zeros(1))), cuda=False) >= 100
    assert len(calls) == 3 + 5


def test_tables_show_a_pace_and_a_difference() -> None:
    pace = Pace("m@1", "bfloat16", 16, 8.0, 10.0, None)
    assert paces_table([pace]).splitlines()[2].split("|")[4:9] == [
        "       8.00 ",
        "    2,000 ",
        "   10.00 ",
        "         1,600 ",
        "      - ",
    ]
    row = Difference("m@1", "cuda", "bfloat16", "cat", 0.3881, 36.04, 0.0066)
    assert differences_table([row]).splitlines()[2].endswith("0.388 | 36.0 |                    0.66 % |")


def test_a_model_without_a_network_is_refused() -> None:
    with pytest.raises(ValueError, match="fake is no torch network"):
        torch_model("fake", "cpu", 1)


def smi(folder: Path, answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An `nvidia-smi` that says `answer` to everything, alone on PATH."""
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\necho '{answer}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(card, "_EVERY_S", 0.01)


def watched_card() -> card.CardUsage:
    with card.CardUsage() as usage:
        time.sleep(0.3)
    return usage


def test_the_card_is_sampled_while_it_is_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smi(tmp_path, "37, 1000", monkeypatch)
    assert card.has_card()
    began = time.time()
    usage = watched_card()
    assert usage.busy(began, time.time()) == 37
    assert usage.peak_mb(began, time.time()) == pytest.approx(1048.576)  # nvidia-smi counts in MiB
    assert usage.busy(began - 10, began - 5) is None


def test_a_card_that_does_not_tell_gives_no_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smi(tmp_path, "[N/A], 1000", monkeypatch)
    usage = watched_card()
    assert (usage.busy(0, time.time()), usage.peak_mb(0, time.time())) == (None, None)


def test_without_a_driver_there_is_no_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not card.has_card()
    assert card.ask("name") == []


def test_a_step_beside_a_card_has_its_columns() -> None:
    answers = [Answer(100.0, 10.0, 200, image=True)]
    lines = steps_table(
        [summarise(1, answers, Costs(card_busy=12.4, card_mb=2048.0)), summarise(8, answers, Costs())]
    ).splitlines()
    assert lines[0].endswith("| GPU busy % | GPU MB |")
    assert lines[2].endswith("|         12 |  2,048 |")
    assert lines[3].endswith("|          - |      - |")


def test_the_configuration_is_the_gpu_images_with_that_many_compose_replicas(tmp_path: Path) -> None:
    config = yaml.safe_load(write_config(tmp_path, compose=12, device="cuda").read_text("utf-8"))["applications"][0]
    pools = {entry["name"]: entry for entry in config["deployments"]}
    assert config["args"]["max_batch"] == 16
    assert pools["Matting"]["ray_actor_options"]["num_gpus"] == 1
    assert pools["Compose"]["autoscaling_config"]["min_replicas"] == 12
    assert pools["Compose"]["autoscaling_config"]["max_replicas"] == 12


def test_on_a_cpu_the_configuration_asks_for_no_gpu(tmp_path: Path) -> None:
    config = yaml.safe_load(write_config(tmp_path, compose=3, device="cpu").read_text("utf-8"))["applications"][0]
    pools = {entry["name"]: entry for entry in config["deployments"]}
    assert "num_gpus" not in pools["Matting"]["ray_actor_options"]
    assert pools["Compose"]["autoscaling_config"]["max_replicas"] == 3


def test_the_command_line_has_defaults_for_each_device() -> None:
    plan = parse([])
    assert (plan.steps, plan.device, plan.compose) == (gpu.STEPS, "cuda", (1, 4, 12))
    assert plan.batches[-1] == 128
    small = parse(["network", "--device", "cpu", "--forms", "jpg", "--clients", "1,8"])
    assert (small.steps, small.batches, small.forms, small.clients) == (("network",), (1, 2, 4), ("jpg",), (1, 8))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["speed"], "step speed is unknown; allowed are network, agreement, service"),
        (["--forms", "tiff"], "form tiff is unknown; allowed are png, jpg"),
        (["--batches", "0"], "numbers from 1 to 1000"),
        (["--seconds", "nan"], "1 to 600"),
    ],
    ids=["step", "form", "batches", "seconds"],
)
def test_a_wrong_command_line_ends_with_what_is_allowed(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(arguments)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_without_a_cuda_device_the_message_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main([]) == 2
    assert "sees no CUDA device" in capsys.readouterr().err
