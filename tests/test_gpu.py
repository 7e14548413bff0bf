"""On a machine with a CUDA device: the embedded model gives the CPU's mattes, and says where it ran."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mattehorn.models.registry import load_model
from mattehorn.resize import fit

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device, or a torch built without CUDA"),
]

PHOTOS = Path(__file__).parent / "photos"
BF16_ERROR = 0.02  # mean difference of alpha that half precision may cost


def test_the_gpu_gives_the_mattes_of_the_cpu() -> None:
    photos = [cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path in sorted(PHOTOS.glob("*.jpg"))]
    batch = np.stack([fit(np.asarray(photo, np.uint8), 512, "pad").pixels for photo in photos])
    on_gpu, on_cpu = load_model("mattehorn-slim", device="cuda"), load_model("mattehorn-slim")
    assert (on_gpu.device, on_cpu.device) == ("cuda", "cpu")
    assert np.abs(on_gpu.predict(batch) - on_cpu.predict(batch)).mean() < BF16_ERROR
