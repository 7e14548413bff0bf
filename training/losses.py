"""The losses of one batch, each named as in the recipe, and the pixel weights that say how far a label is trusted.

Shapes: alpha and target float32 [N, 1, S, S] in 0..1, trimap logits [N, 3, S, S], kinds int64 [N] (augment.KINDS).
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from training.augment import KINDS, REFERENCE_SIDE
from training.dataset import UNSURE
from training.recipe import Loss

PYRAMID_LEVELS = 5  # models.md section 7; a sixth would be a single pixel at 32
LOG_FLOOR = 1e-4  # keeps the logarithm and its gradient finite
FOREGROUND_FLOOR, BACKGROUND_CEILING = 0.95, 0.05  # a trimap's sure pixels


def matting_loss(alpha: Tensor, trimap: Tensor, target: Tensor, kinds: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
    """The weighted sum to minimise, and its parts [6] in the recipe's order for the log."""
    trust, edges = pixel_trust(target, kinds, loss)
    soft = ((target > UNSURE[0]) & (target < UNSURE[1])).float()
    parts = torch.stack(
        (
            loss.cross_entropy * _mean(_cross_entropy(alpha, target), trust),
            loss.l1 * _mean((alpha - target).abs() * (1 + (loss.unknown - 1) * soft * edges), trust),
            loss.overlap * _overlap(alpha, target, trust),
            loss.laplacian * _laplacian((alpha - target) * trust),
            loss.gradient * _gradient((alpha - target) * edges),
            loss.trimap * _mean(F.cross_entropy(trimap, trimap_target(target), reduction="none")[:, None], trust),
        )
    )
    return parts.sum(), parts.detach()


def pixel_trust(target: Tensor, kinds: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
    """Weight of each pixel [N, 1, S, S] for what is where, and for fine edges.

    Hand-made masks say nothing within `mask_band` of their edge. A teacher's doubt counts little, and not at all for
    edges: its blobs must not be learned as hair.
    """
    matte, mask, teacher = ((kinds == KINDS.index(kind)).view(-1, 1, 1, 1) for kind in ("matte", "mask", "teacher"))
    unsure = (target > UNSURE[0]) & (target < UNSURE[1])
    radius = max(round(loss.mask_band * target.shape[-1] / REFERENCE_SIDE), 1)
    band = _dilate(target, radius) + _dilate(-target, radius) > 0.5
    trust = torch.where(teacher & unsure, loss.teacher_doubt, 1.0)
    trust = torch.where(mask & band, 0.0, trust)
    return trust, torch.where(matte | ~(band | unsure), 1.0, 0.0) * torch.ones_like(target)


def trimap_target(target: Tensor) -> Tensor:
    """Classes int64 [N, S, S]: 0 background, 1 unknown, 2 foreground; sure pixels are eroded by one."""
    sure_front = -_dilate(-target, 1) > FOREGROUND_FLOOR
    sure_back = _dilate(target, 1) < BACKGROUND_CEILING
    return (1 + sure_front.long() - sure_back.long())[:, 0]


def _cross_entropy(alpha: Tensor, target: Tensor) -> Tensor:
    bounded = alpha.clamp(LOG_FLOOR, 1 - LOG_FLOOR)
    return -(target * bounded.log() + (1 - target) * (1 - bounded).log())


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum() / weights.sum().clamp(min=1.0)


def _overlap(alpha: Tensor, target: Tensor, trust: Tensor) -> Tensor:
    """1 - soft IoU, mean over pictures; +1 px keeps an empty picture defined."""
    both = (alpha * target * trust).sum(dim=(1, 2, 3)) + 1
    either = ((alpha + target - alpha * target) * trust).sum(dim=(1, 2, 3)) + 1
    return (1 - both / either).mean()


def _laplacian(error: Tensor) -> Tensor:
    """Mean absolute Laplacian pyramid of the error (linear, so the pyramids' difference), box-filtered levels."""
    total = error.new_zeros(())
    for _ in range(PYRAMID_LEVELS):
        coarse = F.avg_pool2d(error, 2, ceil_mode=True)
        fine = F.interpolate(coarse, size=error.shape[2:], mode="bilinear", align_corners=False)
        total = total + (error - fine).abs().mean()
        error = coarse
    return total


def _gradient(error: Tensor) -> Tensor:
    return error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()


def _dilate(x: Tensor, radius: int) -> Tensor:
    """Maximum over a square of 2*radius+1 px, by OpenCV: torch's pooling of one channel took a sixth of a step."""
    kernel = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    return torch.from_numpy(np.stack([cv2.dilate(plane, kernel) for plane in x[:, 0].numpy()]))[:, None]
