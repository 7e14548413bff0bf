"""On a machine with a CUDA device: the embedded model gives the CPU's mattes, and training its losses."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mattehorn.models.registry import load_model
from mattehorn.resize import fit
from training.losses import Batch, _dilate
from training.recipe import load_recipe
from training.train import Setup, start, step, validate

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device, or a torch built without CUDA"),
]

PHOTOS = Path(__file__).parent / "photos"
SMOKE = Path(__file__).parents[1] / "training" / "recipes" / "smoke.toml"
BF16_ERROR = 0.02  # mean difference of alpha that half precision may cost


def test_the_gpu_gives_the_mattes_of_the_cpu() -> None:
    photos = [cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path in sorted(PHOTOS.glob("*.jpg"))]
    batch = np.stack([fit(np.asarray(photo, np.uint8), 512, "pad").pixels for photo in photos])
    on_gpu, on_cpu = load_model("mattehorn-base", device="cuda"), load_model("mattehorn-base")
    assert (on_gpu.device, on_cpu.device) == ("cuda", "cpu")
    assert np.abs(on_gpu.predict(batch) - on_cpu.predict(batch)).mean() < BF16_ERROR


def test_a_training_step_on_the_gpu_has_the_losses_of_the_cpu_and_its_checkpoint_opens_there(tmp_path: Path) -> None:
    recipe = load_recipe(SMOKE)
    random = torch.Generator().manual_seed(0)
    images, labels = (
        torch.randint(0, 256, (8, 64, 64, channels), dtype=torch.uint8, generator=random) for channels in (3, 2)
    )
    batch = Batch(images, labels, torch.arange(8) % 3, torch.arange(8) // 2 % 3)
    parts = {}
    for device in ("cpu", "cuda"):
        setup = Setup(bf16=False, device=torch.device(device), lockstep=True)
        state = start(recipe, setup)
        parts[device] = torch.stack([step(state, batch, recipe, setup).cpu() for _ in range(3)])
    assert next(state.network.parameters()).device.type == "cuda"
    torch.testing.assert_close(parts["cuda"], parts["cpu"], rtol=0.02, atol=1e-3)  # sums in another order, TF32
    photo = np.zeros((40, 60, 3), np.uint8)
    assert 0 <= validate(state, {"s": [(photo, np.zeros((40, 60), np.float32))]}, recipe, 64, bf16=True)["mae"] <= 1
    state.save(tmp_path / "checkpoint.pt")
    on_cpu = start(recipe, Setup(bf16=False))
    on_cpu.load(tmp_path / "checkpoint.pt")
    assert on_cpu.samples == state.samples == 24
    step(on_cpu, batch, recipe, Setup(bf16=False))


def test_dilation_on_the_gpu_is_that_of_the_cpu() -> None:
    picture = torch.randn(2, 1, 20, 17)
    assert torch.equal(_dilate(picture.cuda(), 3).cpu(), _dilate(picture, 3))
