"""U2NetP as a teacher: labels unlabelled photos once and keeps the answers as PNG files.

Network: Qin et al., U-2-Net, Pattern Recognition 2020, the 4.7 MB variant, its batch norms folded into the
convolutions. `label_folder` is called by hand (`python -m training.teacher`) before `training.dataset` packs the data.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from training.sources import image_folder, read_image

SIDE = 320  # the side U2NetP was trained at; photos are stretched to it
MEAN = (0.485, 0.456, 0.406)  # ImageNet statistics, as U2NetP was trained with
STD = (0.229, 0.224, 0.225)
# Asked at both, mirrored too, and averaged: Dice .02 to .06 nearer the labels where the plain answer is worst, at 3.3
# times its time (docs/training-log.md). Larger sides than its own made it worse.
SIDES = (SIDE, 256)
BATCH = 8  # about 1 GB of activations


class Convolution(nn.Module):
    """3x3 convolution and ReLU, size kept; named after the weight file's `conv_s1`."""

    def __init__(self, inputs: int, outputs: int, dilation: int = 1) -> None:
        super().__init__()
        self.conv_s1 = nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv_s1(x))


class ResidualU(nn.Module):
    """RSU-L: a small U-Net of `depth` levels plus its own input; without pooling the dilation doubles instead."""

    def __init__(self, depth: int, inputs: int, middle: int, outputs: int, pooled: bool = True) -> None:
        super().__init__()
        self.depth, self.pooled = depth, pooled
        self.rebnconvin = Convolution(inputs, outputs)
        for level in range(1, depth + 1):
            self.add_module(
                f"rebnconv{level}",
                Convolution(outputs if level == 1 else middle, middle, self._dilation(level)),
            )
        for level in range(depth - 1, 0, -1):
            self.add_module(
                f"rebnconv{level}d",
                Convolution(2 * middle, outputs if level == 1 else middle, self._dilation(level)),
            )

    def _dilation(self, level: int) -> int:
        if not self.pooled:
            return int(2 ** (level - 1))
        return 2 if level == self.depth else 1

    def forward(self, x: Tensor) -> Tensor:
        start = cast(Tensor, self.rebnconvin(x))
        levels = [self.get_submodule("rebnconv1")(start)]
        for level in range(2, self.depth + 1):
            shrink = self.pooled and level < self.depth
            inner = _halve(levels[-1]) if shrink else levels[-1]
            levels.append(self.get_submodule(f"rebnconv{level}")(inner))
        y = levels.pop()
        for level in range(self.depth - 1, 0, -1):
            skip = levels.pop()
            y = self.get_submodule(f"rebnconv{level}d")(torch.cat((_resize(y, skip), skip), dim=1))
        return start + cast(Tensor, y)


class U2NetP(nn.Module):
    """Normalised RGB [N, 3, 320, 320] -> subject probability [N, 1, 320, 320]."""

    def __init__(self) -> None:
        super().__init__()
        for stage, depth in enumerate((7, 6, 5, 4, 4, 4), start=1):
            pooled = stage < 5
            self.add_module(f"stage{stage}", ResidualU(depth, 3 if stage == 1 else 64, 16, 64, pooled))
            self.add_module(f"side{stage}", nn.Conv2d(64, 1, 3, padding=1))
            if stage < 6:
                self.add_module(f"stage{stage}d", ResidualU(depth, 128, 16, 64, pooled))
        self.outconv = nn.Conv2d(6, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        levels = [self.get_submodule("stage1")(x)]
        for stage in range(2, 7):
            levels.append(self.get_submodule(f"stage{stage}")(_halve(levels[-1])))
        y = levels.pop()
        sides = [self.get_submodule("side6")(y)]
        for stage in range(5, 0, -1):
            skip = levels.pop()
            y = self.get_submodule(f"stage{stage}d")(torch.cat((_resize(y, skip), skip), dim=1))
            sides.insert(0, self.get_submodule(f"side{stage}")(y))
        sides = [_resize(side, sides[0]) for side in sides]
        return torch.sigmoid(self.outconv(torch.cat(sides, dim=1)).float())


def _halve(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 2, ceil_mode=True)


def _resize(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)


def load_teacher(path: Path) -> U2NetP:
    """The teacher in eval mode from its folded float16 state dict."""
    teacher = U2NetP()
    teacher.load_state_dict(torch.load(path, weights_only=True))
    teacher.float().eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return teacher


def teacher_input(image: NDArray[np.uint8], side: int = SIDE) -> Tensor:
    """RGB uint8 [H, W, 3] stretched to [S, S], divided by the picture's own maximum, normalised: [3, S, S]."""
    small = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32)
    small /= max(float(small.max()), 1.0)
    normal = (small - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return torch.from_numpy(normal.transpose(2, 0, 1).copy())


@torch.inference_mode()
def probabilities(
    teacher: U2NetP,
    images: Sequence[NDArray[np.uint8]],
    bf16: bool = True,
    sides: Sequence[int] = SIDES,
    flip: bool = True,
) -> NDArray[np.uint8]:
    """Subject probability times 255 of each picture, uint8 [N, 320, 320] (no per-picture min-max stretch).

    It is the mean of the answers at each of `sides` px and, with `flip`, of the mirrored picture's at each.
    """
    answers = []
    for side in sides:
        batch = torch.stack([teacher_input(image, side) for image in images])
        for mirrored in (False, True) if flip else (False,):
            shown = (batch.flip(3) if mirrored else batch).contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                answer = teacher(shown)
            answers.append(_at_side(answer.flip(3) if mirrored else answer))
    mean = torch.stack(answers).mean(dim=0)[:, 0]
    return np.asarray((mean * 255 + 0.5).to(torch.uint8).numpy(), np.uint8)


def _at_side(answer: Tensor) -> Tensor:
    if answer.shape[2] == SIDE:
        return answer
    return F.interpolate(answer, (SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True)


def label_folder(teacher: U2NetP, images: Path, out: Path, sides: Sequence[int] = SIDES, flip: bool = True) -> int:
    """Labels every picture of a folder that `out` has no PNG of yet; gives back how many were labelled."""
    out.mkdir(parents=True, exist_ok=True)
    paths = [path for path in sorted(images.iterdir()) if not (out / f"{path.stem}.png").exists()]
    # Shuffled: when labelling is cut short, what is there is a fair sample and not the first classes.
    paths = [paths[i] for i in np.random.default_rng(len(paths)).permutation(len(paths))]
    for start in range(0, len(paths), BATCH):
        # Looked at again here, so that two processes may share one folder.
        chosen = [path for path in paths[start : start + BATCH] if not (out / f"{path.stem}.png").exists()]
        if not chosen:
            continue
        pictures = [read_image(path) for path in chosen]
        for path, label in zip(chosen, probabilities(teacher, pictures, True, sides, flip), strict=True):
            Image.fromarray(label).save(out / f"{path.stem}.png")
    return len(paths)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", help="folders of pictures under the data directory, labelled in order")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True, help="u2netp-bnfolded-fp16.pth")
    parser.add_argument("--work-dir", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sides", type=int, nargs="+", default=SIDES, help="px at which the teacher is asked")
    parser.add_argument("--no-flip", action="store_true", help="ask about the picture as it is only: half the time")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    cv2.setNumThreads(1)
    teacher = load_teacher(arguments.weights)
    for name in arguments.sets:
        images, out = image_folder(arguments.data_dir / name), arguments.work_dir / "teacher" / name
        began = time.monotonic()
        count = label_folder(teacher, images, out, arguments.sides, not arguments.no_flip)
        print(f"{name}: {count} labelled in {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
