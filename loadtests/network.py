"""The network alone on one device: its time by batch and precision, and how far its mattes are from the CPU's.

No service and no HTTP. Called by `python -m loadtests.gpu`; runs on the CPU, too, to be tried out there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from statistics import median

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from loadtests import photos
from loadtests.report import table
from mattehorn.image.decode import decode
from mattehorn.models.base import ModelCard, seen_by
from mattehorn.models.registry import load_model
from mattehorn.models.torch_model import TorchModel
from mattehorn.resize import Fitted, fit
from mattehorn.settings import Limits

DTYPES = (torch.float32, torch.bfloat16)
_WARM_UPS = 3  # kernels are chosen and memory is taken in the first
_LEAST_RUNS, _LEAST_S, _MOST_RUNS = 5, 0.3, 200  # of each median: long enough for clocks to rise, short enough to rent
_VISIBLE = 8  # of 255; a step of alpha that an eye may see on a plain background

Work = Callable[[], object]


@dataclass(frozen=True)
class Pace:
    """Medians for one batch. `forward_ms`: the network on pixels that the device holds. `pool_ms`: what the matting
    pool does with a batch, copies both ways and 8-bit alpha included. `peak_mb`: the device's memory; None on a CPU."""

    model: str
    dtype: str
    batch: int
    forward_ms: float
    pool_ms: float
    peak_mb: float | None

    @property
    def images_s(self) -> float:
        return 1000 * self.batch / self.forward_ms

    @property
    def pool_images_s(self) -> float:
        return 1000 * self.batch / self.pool_ms


@dataclass(frozen=True)
class Difference:
    """Of one photo's matte from the CPU's in float32, in levels of 255; `visible` is the share of pixels off by more
    than 8."""

    model: str
    device: str
    dtype: str
    photo: str
    mean: float
    most: float
    visible: float


def torch_model(name: str, device: str, threads: int) -> TorchModel:
    """Raises ModelError without that device, ValueError for a model that is no torch network."""
    model = load_model(name, device=device, threads=threads)
    if not isinstance(model, TorchModel):
        raise ValueError(f"{name} is no torch network; time mattehorn-base or mattehorn-slim.")
    return model


def paces(model: TorchModel, batches: Sequence[int]) -> Iterator[Pace]:
    """For each batch and precision, on the free photos; the model's own precision is left as it was."""
    fitted = [one.pixels for one in _fitted(model.card).values()]
    chosen = model.dtype
    try:
        for count in batches:
            images = np.stack(list(islice(cycle(fitted), count)))
            for dtype in DTYPES:
                model.dtype = dtype
                yield _pace(model, images)
    finally:
        model.dtype = chosen


def _pace(model: TorchModel, images: NDArray[np.uint8]) -> Pace:
    cuda = model.device.startswith("cuda")
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    held = model.upload(images)
    forward = median_ms(lambda: model.forward(held, model.dtype), cuda=cuda)
    pool = median_ms(lambda: seen_by(model, images), cuda=False)  # its answer is on the CPU: the clock may be read
    peak_mb = torch.cuda.max_memory_allocated() / 1e6 if cuda else None
    return Pace(model.card.id, _name(model.dtype), len(images), forward, pool, peak_mb)


def median_ms(work: Work, *, cuda: bool) -> float:
    """Of one call, after warm-ups. With `cuda` between two events of the device, else by the clock."""
    for _ in range(_WARM_UPS):
        work()
    timed = _by_events if cuda else _by_clock
    took: list[float] = []
    began = time.perf_counter()
    while len(took) < _LEAST_RUNS or (time.perf_counter() - began < _LEAST_S and len(took) < _MOST_RUNS):
        took.append(timed(work))
    return median(took)


def _by_clock(work: Work) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def _by_events(work: Work) -> float:
    began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    began.record()
    work()
    ended.record()
    ended.synchronize()
    return float(began.elapsed_time(ended))


def differences(model: TorchModel, reference: TorchModel) -> Iterator[Difference]:
    """For each precision and free photo. `reference` is the same card on the CPU, another object than `model`."""
    chosen, reference.dtype = (model.dtype, reference.dtype), torch.float32
    try:
        for name, fitted in _fitted(model.card).items():
            expected = _content(reference, fitted)
            for dtype in DTYPES:
                model.dtype = dtype
                yield _difference(model, name, np.abs(_content(model, fitted) - expected) * 255)
    finally:
        model.dtype, reference.dtype = chosen


def _difference(model: TorchModel, photo: str, off: NDArray[np.float32]) -> Difference:
    return Difference(
        model=model.card.id,
        device=model.device,
        dtype=_name(model.dtype),
        photo=photo,
        mean=float(off.mean()),
        most=float(off.max()),
        visible=float((off > _VISIBLE).mean()),
    )


def _content(model: TorchModel, fitted: Fitted) -> NDArray[np.float32]:
    """The matte of the photo, without its padding."""
    return model.predict(fitted.pixels[None])[0, : fitted.content_height, : fitted.content_width]


def _fitted(card: ModelCard) -> dict[str, Fitted]:
    cv2.setNumThreads(1)  # as in a replica
    return {photo.name: fit(decode(photo.data, Limits()).rgb, card.input_size, card.fit) for photo in photos.small()}


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def paces_table(rows: Sequence[Pace]) -> str:
    head = ("model", "precision", "batch", "network ms", "images/s", "pool ms", "pool images/s", "GPU MB")
    return table(head, [_pace_cells(row) for row in rows])


def _pace_cells(row: Pace) -> tuple[str, ...]:
    return (
        *(row.model, row.dtype, str(row.batch)),
        *(f"{row.forward_ms:,.2f}", f"{row.images_s:,.0f}", f"{row.pool_ms:,.2f}", f"{row.pool_images_s:,.0f}"),
        "-" if row.peak_mb is None else f"{row.peak_mb:,.0f}",
    )


def differences_table(rows: Sequence[Difference]) -> str:
    head = ("model", "device", "precision", "photo", "mean, of 255", "most", "pixels off by more than 8")
    return table(head, [_difference_cells(row) for row in rows])


def _difference_cells(row: Difference) -> tuple[str, ...]:
    return (
        *(row.model, row.device, row.dtype, row.photo),
        *(f"{row.mean:.3f}", f"{row.most:.1f}", f"{100 * row.visible:.2f} %"),
    )
