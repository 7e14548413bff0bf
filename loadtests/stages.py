"""`python -m loadtests.stages`: time of each stage of one photo in this process, without service or network.

One thread for OpenCV and one for torch, as in a replica. Wall time beside CPU time: where they differ, another process
had the core. The network runs, but what follows gets a made matte (a soft ellipse) unless `--matte network` is given:
estimation and encoding cost several times as much on a half-transparent matte, and the figures should not change with
the weights. Not a test of anything; the figures go to docs/performance.md.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from loadtests import photos
from loadtests.report import table
from mattehorn import alpha as matte
from mattehorn.composite import Colour, lay_over
from mattehorn.foreground import estimate_foreground, zero_hidden
from mattehorn.image.decode import decode
from mattehorn.image.encode import encode_alpha, encode_cutout, encode_opaque
from mattehorn.models.base import Model
from mattehorn.models.registry import load_model
from mattehorn.models.torch_model import TorchModel
from mattehorn.models.zoo import DEFAULT
from mattehorn.options import Options
from mattehorn.pipeline import finish, prepare
from mattehorn.quality import assess
from mattehorn.resize import Fitted, fit, restore_alpha
from mattehorn.settings import Limits

_RUNS = 7  # odd, so that the median is one of them; more only wait for the neighbours
_ERODE_PX, _FEATHER_PX = 1.5, 2.0  # an edge that a shop asks for; both are off by default
_AXES = (0.3, 0.4)  # half height and half width of the made subject, in parts of the photo: 38 % of its area
_SOFT_EDGE = 0.06  # of the subject's radius goes from 0 to 1: about 9 network pixels, hair and motion blur included
_RESET_PEAK = "5"  # proc(5), clear_refs: sets VmHWM to what is resident now

Work = Callable[[], object]
Uint8 = NDArray[np.uint8]


@dataclass(frozen=True)
class Stage:
    """Medians of one stage, and the size of what it wrote (bytes; 0 when it does not encode)."""

    name: str
    wall_ms: float
    cpu_ms: float
    written: int = 0


@dataclass(frozen=True)
class Timing:
    """All stages of one photo; `opaque` and `mixed` are shares of its pixels with alpha 255 and 1 to 254, which the
    foreground's and the encoders' times depend on; `loaded_mb` is the process before the whole path, `peak_mb` its
    highest on it."""

    size: str
    width: int
    height: int
    bytes: int
    opaque: float
    mixed: float
    loaded_mb: float
    peak_mb: float
    stages: tuple[Stage, ...]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtests.stages", description="Time of each stage of one photo.")
    parser.add_argument("--model", default=DEFAULT, help=f"default {DEFAULT}")
    parser.add_argument("--matte", choices=("made", "network"), default="made", help="what follows the network")
    parser.add_argument("--runs", type=int, default=_RUNS, help=f"of each stage; the median counts; default {_RUNS}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    options = parser.parse_args(arguments)
    if options.runs < 1:
        parser.error(f"--runs is {options.runs}; allowed is 1 or more.")
    cv2.setNumThreads(1)
    model = load_model(options.model, threads=1)
    print(f"{model.card.id}, {model.card.input_size} px, {_precisions(model, options.runs)}\n")
    timings = []
    for size in photos.SIZES:
        print(f"{size}: {options.runs} runs of each stage", file=sys.stderr, flush=True)
        timings.append(time_photo(model, size, options.runs, made=options.matte == "made"))
    print(stages_table(timings))
    for timing in timings:
        print(f"\n{_sentence(timing)}")
    if options.json:
        options.json.write_text(json.dumps([asdict(timing) for timing in timings], indent=1) + "\n")
    return 0


def time_photo(model: Model, size: str, runs: int, *, made: bool) -> Timing:
    """Every stage of the photo of that size, each on the real output of the one before it."""
    photo = photos.made(size)
    loaded_mb, peak_mb = peak_memory(lambda: _whole_path(model, photo, made))
    opaque, mixed = _shares(_whole_path(model, photo, made, Options(output="alpha")))
    stages = tuple(_timed(name, work, runs) for name, work in _stages(model, photo, made))
    return Timing(size, photo.width, photo.height, len(photo.data), opaque, mixed, loaded_mb, peak_mb, stages)


def _whole_path(model: Model, photo: photos.Photo, made: bool, options: Options | None = None) -> bytes:
    """The answer, by the two halves of the pipeline."""
    prepared = prepare(photo.data, options or Options(), model.card, Limits())
    assert prepared.fitted is not None  # the photos have no transparency of their own
    return finish(prepared, _network_alpha(model, prepared.fitted, made)).data


def _network_alpha(model: Model, fitted: Fitted, made: bool) -> Uint8:
    """The network's answer to `fitted`, or the made one of its shape; the network runs for both."""
    answer = matte.to_uint8(model.predict(fitted.pixels[None])[0])
    return made_alpha(fitted) if made else answer


def made_alpha(fitted: Fitted) -> Uint8:
    """A soft-edged ellipse in the middle of the picture, uint8 0..255 of the network's shape, 0 in its padding."""
    height, width = fitted.content_height, fitted.content_width
    rows, cols = np.ogrid[:height, :width]
    radius = np.hypot((rows / height - 0.5) / _AXES[0], (cols / width - 0.5) / _AXES[1])
    alpha = np.zeros(fitted.pixels.shape[:2], np.uint8)
    alpha[:height, :width] = np.clip((1 - radius) / _SOFT_EDGE + 0.5, 0, 1) * 255
    return alpha


def _shares(alpha_png: bytes) -> tuple[float, float]:
    """Shares of pixels with alpha 255 and with 1 to 254."""
    alpha = np.asarray(cv2.imdecode(np.frombuffer(alpha_png, np.uint8), cv2.IMREAD_GRAYSCALE))
    return float((alpha == 255).mean()), float(((alpha > 0) & (alpha < 255)).mean())


def _sentence(timing: Timing) -> str:
    return (
        f"{timing.size}: {timing.width}x{timing.height}, {timing.bytes / 1e6:.1f} MB; alpha 1 to 254 in "
        f"{timing.mixed:.0%} of the pixels, 255 in {timing.opaque:.0%}; the whole path takes the process from "
        f"{timing.loaded_mb:,.0f} to {timing.peak_mb:,.0f} MB."
    )


def _stages(model: Model, photo: photos.Photo, made: bool) -> list[tuple[str, Work]]:
    """(name, work) in the order of the main path; each work may be repeated."""
    defaults = Options()
    quality, threshold = defaults.encode_quality, defaults.alpha_threshold
    rgb = decode(photo.data, Limits()).rgb
    fitted = fit(rgb, model.card.input_size, model.card.fit)
    small = _network_alpha(model, fitted, made)
    full = restore_alpha(rgb, fitted, small, defaults.refine)
    alpha = matte.to_uint8(matte.refine_edges(full, threshold, 0, 0))
    colour = estimate_foreground(rgb, full)
    shown = zero_hidden(colour, alpha)
    white = Colour(255, 255, 255)
    composite, _ = lay_over(colour, alpha, rgb, white)
    return [
        ("decode", lambda: decode(photo.data, Limits())),
        ("fit", lambda: fit(rgb, model.card.input_size, model.card.fit)),
        ("infer", lambda: model.predict(fitted.pixels[None])),
        ("restore, guided", lambda: restore_alpha(rgb, fitted, small, "guided")),
        ("restore, matting", lambda: restore_alpha(rgb, fitted, small, "matting")),
        ("foreground", lambda: estimate_foreground(rgb, full)),
        ("edge options, default", lambda: matte.refine_edges(full, threshold, 0, 0)),
        ("edge options, erode and feather", lambda: matte.refine_edges(full, threshold, _ERODE_PX, _FEATHER_PX)),
        ("to 8 bits, quality score", lambda: assess(matte.to_uint8(full), rgb)),
        ("composite over white", lambda: lay_over(colour, alpha, rgb, white)),
        ("encode png cutout", lambda: encode_cutout(zero_hidden(colour, alpha), alpha, "png", quality)),
        ("encode webp cutout", lambda: encode_cutout(shown, alpha, "webp", quality)),
        ("encode jpg composite", lambda: encode_opaque(composite, "jpg", quality)),
        ("encode png alpha", lambda: encode_alpha(alpha, "png", quality)),
        ("whole path, default options", lambda: _whole_path(model, photo, made)),
    ]


def _timed(name: str, work: Work, runs: int) -> Stage:
    """Medians over `runs` after one that is not counted."""
    result = work()
    wall, cpu = [], []
    for _ in range(runs):
        wall_began, cpu_began = time.perf_counter(), time.process_time()
        work()
        wall.append((time.perf_counter() - wall_began) * 1000)
        cpu.append((time.process_time() - cpu_began) * 1000)
    return Stage(name, median(wall), median(cpu), len(result) if isinstance(result, bytes) else 0)


def stages_table(timings: Sequence[Timing]) -> str:
    """One row a stage, wall and CPU milliseconds for each photo, as a Markdown table."""
    head = ["stage", *(f"{timing.size} {what}" for timing in timings for what in ("wall ms", "CPU ms", "MB out"))]
    rows = []
    for same in zip(*(timing.stages for timing in timings), strict=True):
        cells = [cell for stage in same for cell in _cells(stage)]
        rows.append([same[0].name, *cells])
    return table(head, rows)


def _cells(stage: Stage) -> tuple[str, str, str]:
    written = f"{stage.written / 1e6:.2f}" if stage.written else ""
    return f"{stage.wall_ms:,.1f}", f"{stage.cpu_ms:,.1f}", written


def _precisions(model: Model, runs: int) -> str:
    """What the network takes in each precision; the model uses the one it found faster when it was loaded."""
    if not isinstance(model, TorchModel):
        return "no network"
    pixels = np.zeros((1, model.card.input_size, model.card.input_size, 3), np.uint8)
    chosen, found = model.dtype, []
    for dtype in (torch.float32, torch.bfloat16):
        model.dtype = dtype
        stage = _timed(str(dtype).removeprefix("torch."), lambda: model.predict(pixels), runs)
        used = " (used)" if dtype == chosen else ""
        found.append(f"{stage.name}{used} {stage.wall_ms:.0f} ms wall, {stage.cpu_ms:.0f} ms CPU")
    model.dtype = chosen
    return "; ".join(found)


def peak_memory(work: Work) -> tuple[float, float]:
    """(resident before, highest resident during `work`) in MB; Linux only."""
    ctypes.CDLL(None).malloc_trim(0)  # what the C library keeps for later is no cost of the picture
    Path("/proc/self/clear_refs").write_text(_RESET_PEAK)
    before = _status_mb("VmRSS")
    work()
    return before, _status_mb("VmHWM")


def _status_mb(name: str) -> float:
    """An entry of /proc/self/status, which counts in KiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0]) * 1024 / 1e6
    raise KeyError(f"/proc/self/status holds no {name}")


if __name__ == "__main__":
    sys.exit(main())
