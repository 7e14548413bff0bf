"""`attn-unet-r34`: a ResNet-34 encoder, attention gates on all four skips, a full-size decoder with two heads.

The network of the source articles, eight times the cost of `unet.py`'s; for those who train on their own photos with a
GPU. It comes without weights. Pure torch: the library loads a user's weights into it, `training/` trains it.
Encoder: He et al., Deep residual learning, CVPR 2016. Gates: Oktay et al., Attention U-Net, 2018.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mattehorn.models.unet import TRIMAP_CLASSES, BasicBlock, ConvBlock, DecoderStep

STEM_CHANNELS = 64
ENCODER = ((64, 3), (128, 4), (256, 6), (512, 3))  # channels and blocks at 1/4, 1/8, 1/16, 1/32: ResNet-34
DECODER_CHANNELS = (256, 128, 64, 64)  # at 1/16, 1/8, 1/4, 1/2
HEAD_CHANNELS = 32  # at full size, where every channel is dear


class AttentionUNet(nn.Module):
    """`forward` takes normalised RGB float [N, 3, H, W] of any size and gives back alpha [N, 1, H, W] in 0..1 and
    trimap logits [N, 3, H, W] (background, unknown, foreground)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvBlock(3, STEM_CHANNELS, kernel=7, stride=2)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.stages = nn.ModuleList()
        inputs = STEM_CHANNELS
        for level, (outputs, blocks) in enumerate(ENCODER):
            first = BasicBlock(inputs, outputs, stride=1 if level == 0 else 2)  # the pool has halved for the first
            self.stages.append(nn.Sequential(first, *(BasicBlock(outputs, outputs) for _ in range(blocks - 1))))
            inputs = outputs
        skips = [channels for channels, _ in ENCODER[-2::-1]] + [STEM_CHANNELS]
        self.decoder = nn.ModuleList()
        self.polish = nn.ModuleList()
        for skip, outputs in zip(skips, DECODER_CHANNELS, strict=True):
            self.decoder.append(DecoderStep(inputs, skip, outputs, gated=True))
            self.polish.append(ConvBlock(outputs, outputs))
            inputs = outputs
        self.full = ConvBlock(inputs, HEAD_CHANNELS)
        self.alpha_head = nn.Conv2d(HEAD_CHANNELS, 1, 1)
        self.trimap_head = nn.Conv2d(HEAD_CHANNELS, TRIMAP_CLASSES, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(x)
        return torch.sigmoid(self.alpha_head(features).float()), self.trimap_head(features).float()

    def alpha(self, x: Tensor) -> Tensor:
        """Alpha alone [N, 1, H, W] in 0..1: what a service needs, without the cost of the trimap head."""
        return torch.sigmoid(self.alpha_head(self.features(x)).float())

    def features(self, x: Tensor) -> Tensor:
        """Decoder features [N, 32, H, W], which both heads read."""
        skips = [self.stem(x)]
        y = self.pool(skips[0])
        for stage in self.stages:
            y = stage(y)
            skips.append(y)
        y = skips.pop()
        for step, polish in zip(self.decoder, self.polish, strict=True):
            y = polish(step(y, skips.pop()))
        y = F.interpolate(y, size=x.shape[2:], mode="bilinear", align_corners=False)
        return cast(Tensor, self.full(y))
