"""The small matting network, a half-resolution U-Net with gated skips, and the blocks that the other networks share.

Pure torch and nothing of the project: the library loads the packaged weights into it, `training/` trains it.
Decoding photos, normalising them and restoring alpha to full size happen elsewhere.
"""

from __future__ import annotations

import copy
import itertools
from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

STAGE_WIDTHS = (1, 2, 4, 6)  # in units of `width`: 32-64-128-192, the residual stages at 1/4, 1/8, 1/16, 1/32
DECODER_WIDTHS = (4, 2, 1.25, 1)  # in units of `width`: 128-64-40-32, the decoder at 1/16, 1/8, 1/4, 1/2
CONTEXT_WIDTH = 3  # in units of `width`: 96 channels of scene context at 1/32
MIN_GATE_WIDTH = 8  # a narrower gate cannot tell subject from backdrop on the 32-channel skip
TRIMAP_CLASSES = 3  # background, unknown, foreground

N = TypeVar("N", bound=nn.Module)


class ConvBlock(nn.Module):
    """Convolution without bias, batch norm, ReLU: [N, in, H, W] -> [N, out, H/stride, W/stride]."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))


class BasicBlock(nn.Module):
    """Residual block of two 3x3 convolutions (He et al., CVPR 2016): [N, in, H, W] -> [N, out, H/stride, W/stride]."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class Context(nn.Module):
    """Scene context at 1/32: a 1x1 ConvBlock scaled per channel by what the whole picture holds."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.reduce = ConvBlock(inputs, outputs, kernel=1)
        self.scale = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        reduced = cast(Tensor, self.reduce(x))
        return reduced * torch.sigmoid(self.scale(x.mean(dim=(2, 3), keepdim=True)))


class SkipGate(nn.Module):
    """Attention gate (Oktay et al., 2018): `x * sigmoid(psi(relu(Wx x + Wg g)))`, x and g of one size."""

    def __init__(self, skip: int, gating: int) -> None:
        super().__init__()
        middle = max(skip // 2, MIN_GATE_WIDTH)
        self.skip = nn.Conv2d(skip, middle, 1, bias=False)
        self.gating = nn.Conv2d(gating, middle, 1)
        self.psi = nn.Conv2d(middle, 1, 1)

    def forward(self, x: Tensor, g: Tensor) -> Tensor:
        return x * torch.sigmoid(self.psi(F.relu(self.skip(x) + self.gating(g))))


class DecoderStep(nn.Module):
    """Upsample to the skip's size, join the (gated) skip, one ConvBlock."""

    def __init__(self, inputs: int, skip: int, outputs: int, gated: bool) -> None:
        super().__init__()
        self.gate = SkipGate(skip, inputs) if gated else None
        self.merge = ConvBlock(inputs + skip, outputs)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = _resize(x, skip)
        if self.gate is not None:
            skip = self.gate(skip, x)
        return cast(Tensor, self.merge(torch.cat((x, skip), dim=1)))


class SlimHalfUNet(nn.Module):
    """`slim_half_w32` at width 32: decodes to half the input's size, then upsamples the two heads.

    `forward` takes normalised RGB float [N, 3, H, W] of any size and gives back alpha [N, 1, H, W] in 0..1 and
    trimap logits [N, 3, H, W] (background, unknown, foreground).
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        stages = [width * times for times in STAGE_WIDTHS]
        decoder = [int(width * times) for times in DECODER_WIDTHS]
        skips = [stages[2], stages[1], stages[0], width]
        self.stem = ConvBlock(3, width, stride=2)
        self.stages = nn.ModuleList(
            nn.Sequential(BasicBlock(inputs, outputs, stride=2), BasicBlock(outputs, outputs))
            for inputs, outputs in zip([width, *stages], stages, strict=False)
        )
        self.context = Context(stages[3], width * CONTEXT_WIDTH)
        self.decoder = nn.ModuleList(
            DecoderStep(inputs, skip, outputs, gated=level < 3)  # the 1/2 skip is edges only: nothing to gate
            for level, (inputs, skip, outputs) in enumerate(
                zip([width * CONTEXT_WIDTH, *decoder], skips, decoder, strict=False)
            )
        )
        self.alpha_head = nn.Conv2d(decoder[-1], 1, 1)
        self.trimap_head = nn.Conv2d(decoder[-1], TRIMAP_CLASSES, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(x)
        alpha = torch.sigmoid(_resize(self.alpha_head(features).float(), x))
        return alpha, _resize(self.trimap_head(features).float(), x)

    def alpha(self, x: Tensor) -> Tensor:
        """Alpha alone [N, 1, H, W] in 0..1: what a service needs, without the cost of the trimap head."""
        return torch.sigmoid(_resize(self.alpha_head(self.features(x)).float(), x))

    def features(self, x: Tensor) -> Tensor:
        """Decoder features [N, width, ceil(H/2), ceil(W/2)], which both heads read."""
        skips = [self.stem(x)]
        for stage in self.stages:
            skips.append(stage(skips[-1]))
        y = self.context(skips.pop())
        for step in self.decoder:
            y = step(y, skips.pop())
        return cast(Tensor, y)


def fuse(network: N) -> N:
    """A copy in eval mode with every batch norm folded into its convolution: same answers, fewer passes.

    A block declares each norm right after the convolution whose output it takes; that order is how a pair is known.
    """
    fused = copy.deepcopy(network).eval()
    for block in list(fused.modules()):
        children = list(block.named_children())
        for (conv_name, conv), (norm_name, norm) in itertools.pairwise(children):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(block, conv_name, fuse_conv_bn_eval(conv, norm))
                setattr(block, norm_name, nn.Identity())
    return fused


def _resize(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)
