"""A matting network on an EfficientNet-Lite encoder: finds subjects better than `unet.py`'s, at more time a photo.

Encoder: Tan and Le, EfficientNet, ICML 2019, in its Lite form (no squeeze-and-excitation, ReLU6), which is published
with weights. Decoder and heads are those of `unet.py`. Pure torch: the library loads packaged weights into it,
`training/` starts the encoder from the published ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mattehorn.models.unet import TRIMAP_CLASSES, Context, DecoderStep

STEM_CHANNELS = 32  # the Lite family never scales its stem
NORM_EPSILON = 1e-3  # as published; torch's default would shift every layer of the published weights
CONTEXT_CHANNELS = 128
DECODER_CHANNELS = (112, 64, 40, 32)  # at 1/16, 1/8, 1/4, 1/2


@dataclass(frozen=True)
class BlockRow:
    """A run of equal blocks: depthwise kernel, stride of the first, expansion factor, channels out."""

    repeats: int
    kernel: int
    stride: int
    expand: int
    outputs: int


LITE2 = (
    BlockRow(1, 3, 1, 1, 16),
    BlockRow(3, 3, 2, 6, 24),
    BlockRow(3, 5, 2, 6, 48),
    BlockRow(4, 3, 2, 6, 88),
    BlockRow(4, 5, 1, 6, 120),
    BlockRow(5, 5, 2, 6, 208),
    BlockRow(1, 3, 1, 6, 352),
)


class SameConvNorm(nn.Module):
    """Convolution without bias and batch norm, padded as TensorFlow's SAME: the odd pixel at the right and bottom."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.before = (kernel - stride) // 2 if stride > 1 else kernel // 2
        self.after = kernel - stride - self.before if stride > 1 else 0
        padding = kernel // 2 if stride == 1 else 0
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=NORM_EPSILON)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        if self.stride > 1:
            x = F.pad(x, (self.before, self.after, self.before, self.after))
        return cast(Tensor, self.norm(self.conv(x)))


class InvertedResidual(nn.Module):
    """Expand 1x1, depthwise, project 1x1, with a shortcut where sizes allow: [N, in, H, W] -> [N, out, H/s, W/s]."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expand: int) -> None:
        super().__init__()
        middle = inputs * expand
        self.expand = SameConvNorm(inputs, middle, 1) if expand > 1 else None
        self.depthwise = SameConvNorm(middle, middle, kernel, stride, groups=middle)
        self.project = SameConvNorm(middle, outputs, 1)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self.expand(x)) if self.expand is not None else x
        y = cast(Tensor, self.project(F.relu6(self.depthwise(y))))
        return x + y if self.residual else y


class LiteEncoder(nn.Module):
    """EfficientNet-Lite without its classifier: normalised RGB [N, 3, H, W] -> maps at 1/2, 1/4, 1/8, 1/16, 1/32."""

    def __init__(self, rows: tuple[BlockRow, ...] = LITE2) -> None:
        super().__init__()
        self.stem = SameConvNorm(3, STEM_CHANNELS, 3, 2)
        self.rows = nn.ModuleList()
        inputs = STEM_CHANNELS
        for row in rows:
            blocks = []
            for place in range(row.repeats):
                blocks.append(
                    InvertedResidual(inputs, row.outputs, row.kernel, row.stride if place == 0 else 1, row.expand)
                )
                inputs = row.outputs
            self.rows.append(nn.Sequential(*blocks))
        self.strides = [row.stride for row in rows]
        self.channels = _channels_at_each_scale(rows)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = F.relu6(self.stem(x))
        maps: list[Tensor] = []
        for row, stride in zip(self.rows, self.strides, strict=True):
            if stride == 2:
                maps.append(x)
            x = row(x)
        return [*maps, x]


def _channels_at_each_scale(rows: tuple[BlockRow, ...]) -> list[int]:
    channels = [before.outputs for before, row in pairwise(rows) if row.stride == 2]
    return [*channels, rows[-1].outputs]


class EfficientUNet(nn.Module):
    """`lite2_unet`: decodes to half the input's size, then upsamples the two heads.

    `forward` takes normalised RGB float [N, 3, H, W], sides multiples of 32, and gives back alpha [N, 1, H, W] in
    0..1 and trimap logits [N, 3, H, W] (background, unknown, foreground).
    """

    def __init__(self, rows: tuple[BlockRow, ...] = LITE2) -> None:
        super().__init__()
        self.encoder = LiteEncoder(rows)
        *skips, deepest = self.encoder.channels
        self.context = Context(deepest, CONTEXT_CHANNELS)
        self.decoder = nn.ModuleList(
            DecoderStep(inputs, skip, outputs, gated=level < 3)  # the 1/2 skip is edges only: nothing to gate
            for level, (inputs, skip, outputs) in enumerate(
                zip((CONTEXT_CHANNELS, *DECODER_CHANNELS), reversed(skips), DECODER_CHANNELS, strict=False)
            )
        )
        self.alpha_head = nn.Conv2d(DECODER_CHANNELS[-1], 1, 1)
        self.trimap_head = nn.Conv2d(DECODER_CHANNELS[-1], TRIMAP_CLASSES, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(x)
        return torch.sigmoid(_resize(self.alpha_head(features), x)), _resize(self.trimap_head(features), x)

    def alpha(self, x: Tensor) -> Tensor:
        """Alpha alone [N, 1, H, W] in 0..1: what a service needs, without the cost of the trimap head."""
        return self.alpha_and_deepest(x)[0]

    def alpha_and_deepest(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Alpha [N, 1, H, W], and the encoder's last map [N, 352, H/32, W/32], which knows what the picture shows."""
        maps = self.encoder(x)
        return torch.sigmoid(_resize(self.alpha_head(self._decoded(maps)), x)), maps[-1]

    def features(self, x: Tensor) -> Tensor:
        """Decoder features [N, 32, H/2, W/2], which both heads read."""
        return self._decoded(self.encoder(x))

    def _decoded(self, maps: list[Tensor]) -> Tensor:
        *skips, deepest = maps
        y = self.context(deepest)
        for step in self.decoder:
            y = step(y, skips.pop())
        return cast(Tensor, y)


def _resize(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x.float(), size=like.shape[2:], mode="bilinear", align_corners=False)
