"""One replica of the matting pool: a loaded, warmed network behind the batcher."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import ray
from numpy.typing import NDArray
from ray import serve

from deployments.calls import Full, Lane, Pool, Prediction
from deployments.matting.batcher import DrainBatcher, NoRoom
from deployments.matting.steady import batch_sizes, seen_steadily
from deployments.yielding import yielding_threads
from mattehorn import telemetry
from mattehorn.errors import ModelError
from mattehorn.models.base import Seen
from mattehorn.models.registry import load_model
from mattehorn.settings import Settings

_STUCK_S = 60  # twice the request's deadline: no caller still waits, so the device hangs


@serve.deployment(name="Matting")
class Matting:
    """Gives alpha for network-size pictures. Not ready before a real forward pass on the requested device."""

    def __init__(self, settings: Settings) -> None:
        telemetry.use_ray()
        cv2.setNumThreads(1)
        device = "cuda" if ray.get_gpu_ids() else "cpu"
        self._model = load_model(
            settings.model,
            device=device,
            threads=settings.threads,
            model_dir=settings.model_dir,
            fake_ms=(settings.fake.batch_ms, settings.fake.image_ms),
        )
        self._max_batch = settings.max_batch
        side = self._model.card.input_size
        for count in batch_sizes(device, settings.max_batch):
            self._predict(np.zeros((count, side, side, 3), np.uint8))
        self._batcher = DrainBatcher(
            self._predict,
            ThreadPoolExecutor(1, thread_name_prefix="device"),
            settings.max_batch,
            bulk_batch=1 if device == "cpu" else None,  # a second picture only doubles what others wait for
            bulk_executor=yielding_threads(1, "bulk-device") if device == "cpu" else None,
            on_batch=lambda size: telemetry.observe(telemetry.BATCH_SIZE, size),
            on_depth=lambda depth: telemetry.set_value(telemetry.QUEUE_IMAGES, depth),
        )

    async def predict(self, pixels: NDArray[np.uint8], lane: Lane = "interactive") -> Prediction | Full:
        """Alpha uint8 [H, W] and subject of uint8 RGB [H, W, 3] at network size; Full for bulk that must come again."""
        try:
            done = await self._batcher.submit(pixels, lane)
        except NoRoom:
            return Full()
        alpha, subject = done.answer
        return Prediction(alpha, done.queue_ms, done.infer_ms, done.batch_size, self._model.card.id, subject)

    async def describe(self) -> Pool:
        dtype = str(getattr(self._model, "dtype", "none")).removeprefix("torch.")
        return Pool(self._model.card.id, self._model.device, dtype)

    def check_health(self) -> None:
        if self._batcher.oldest_wait_s() > _STUCK_S:
            raise ModelError("The network has not taken a waiting picture for a minute.")

    def _predict(self, images: NDArray[np.uint8]) -> list[Seen]:
        return seen_steadily(self._model, images, self._max_batch)
