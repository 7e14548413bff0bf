"""`python -m loadtests.outward`: the cost of continuing the subject's colour outward, and of a whole zip answer.

In this process, one thread for OpenCV, at 12, 25 and 48 MP; `--beside FILE` times another `foreground.py`, such as that
of an older commit, in turns with ours. CPU time, for a neighbour on the machine has no part in it. The matte is made:
the soft ellipse of loadtests/stages.py, and the same with faint specks all over, the worst there is, for then every
part of the photo has an edge. Not a test of anything; the figures go to docs/performance.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from types import ModuleType
from unittest.mock import patch

import cv2
import numpy as np
from numpy.typing import NDArray

from loadtests import photos
from loadtests.report import table
from loadtests.stages import made_alpha, peak_memory
from mattehorn import foreground as ours
from mattehorn import rendition
from mattehorn.models.fake import CARD
from mattehorn.options import Options
from mattehorn.pipeline import finish, prepare
from mattehorn.settings import Limits

_SIZES = ("12 MP", "25 MP", "48 MP")
_RUNS = 5  # odd, so that the median is one of them
_OPTIONS = Options(alpha_threshold=0, erode_px=0, feather_px=0)  # remove.bg's
_RENDITION = rendition.Rendition(most_pixels=50_000_000, form="zip", subject_level=10)  # its size=50MP, format=zip
_SPECK_PX, _SPECK_LEVEL, _SPECK_SHARE = 60, 25, 0.8  # apart; their alpha; of the noise that is below them

Uint8 = NDArray[np.uint8]
Work = Callable[[], object]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtests.outward", description="The subject's colour outward.")
    parser.add_argument("--runs", type=int, default=_RUNS, help=f"of each; the median counts; default {_RUNS}")
    parser.add_argument("--beside", type=Path, metavar="FILE", help="another foreground.py, timed in turns with ours")
    options = parser.parse_args(arguments)
    if options.runs < 1:
        parser.error(f"--runs is {options.runs}; allowed is 1 or more.")
    cv2.setNumThreads(1)
    modules = {"ours": ours} | ({"beside": _module(options.beside)} if options.beside else {})
    rows = []
    for size in _SIZES:
        print(f"{size}: {options.runs} runs of each", file=sys.stderr, flush=True)
        rows += rows_of(size, modules, options.runs)
    print(table(["photo", "matte", *(f"{name} {what}" for name in modules for what in ("ms", "peak MB"))], rows))
    return 0


def rows_of(size: str, modules: dict[str, ModuleType], runs: int) -> list[list[str]]:
    """Rows of one size: the continuation by each module on both mattes, then the whole answer with each."""
    photo = photos.made(size)
    prepared = prepare(photo.data, _OPTIONS, CARD, Limits(), rendition=_RENDITION)
    assert prepared.fitted is not None  # the photos have no transparency of their own
    network, colour = made_alpha(prepared.fitted), prepared.photo.rgb
    content = network[: prepared.fitted.content_height, : prepared.fitted.content_width]
    soft = np.asarray(cv2.resize(content, (photo.width, photo.height), interpolation=cv2.INTER_LINEAR), np.uint8)
    rows = []
    for name, alpha in (("soft ellipse", soft), ("with specks", specked(soft))):
        works: dict[str, Work] = {
            label: lambda module=module, alpha=alpha: module.extend_colour(colour, alpha, rendition.BLEED_PX)
            for label, module in modules.items()
        }
        rows.append([size, f"{name}, colour outward", *_cells(works, runs)])
    del soft, alpha, works

    def answer(module: ModuleType) -> object:
        with patch.object(rendition, "extend_colour", module.extend_colour):
            fresh = prepare(photo.data, _OPTIONS, CARD, Limits(), rendition=_RENDITION)
            return finish(fresh, network)

    works = {label: lambda module=module: answer(module) for label, module in modules.items()}
    rows.append([size, "soft ellipse, whole zip answer", *_cells(works, runs)])
    return rows


def specked(alpha: Uint8) -> Uint8:
    """The matte with faint specks all over, some tens of pixels apart; the same at every call."""
    height, width = alpha.shape
    shape = (max(2, height // _SPECK_PX), max(2, width // _SPECK_PX))
    noise = np.random.default_rng(0).random(shape, dtype=np.float32)
    large = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.maximum(alpha, np.where(large > _SPECK_SHARE, np.uint8(_SPECK_LEVEL), np.uint8(0)))


def _cells(works: dict[str, Work], runs: int) -> list[str]:
    """Median CPU ms and peak of memory above what was resident, of each work; the works take turns."""
    spent: dict[str, list[float]] = {name: [] for name in works}
    peaks = {name: peak_memory(work) for name, work in works.items()}  # which warms them up as well
    for _ in range(runs):
        for name, work in works.items():
            began = time.process_time()
            work()
            spent[name].append((time.process_time() - began) * 1000)
    return [
        cell for name in works for cell in (f"{median(spent[name]):,.0f}", f"{peaks[name][1] - peaks[name][0]:,.0f}")
    ]


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("beside", path)
    assert spec is not None  # every path that ends in .py has one, with a loader
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    sys.exit(main())
