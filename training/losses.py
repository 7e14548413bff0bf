"""The losses of one batch, each named as in the recipe, and the pixel weights that say how far a label is trusted.

Shapes: alpha and target float32 [N, 1, S, S] in 0..1, trimap logits [N, 3, S, S], kinds int64 [N] (sampler.KINDS).
Composition is Xu et al.'s |aF + (1-a)B - I| (Deep Image Matting, CVPR 2017): with I made of F and B it equals
|a - a*| |F - B|. Jensen-Shannon between views is AugMix's (Hendrycks et al., ICLR 2020), on alpha as a probability.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from training.degrade import REFERENCE_SIDE
from training.recipe import Loss
from training.sampler import KINDS, TWO_BACKDROPS, TWO_VIEWS
from training.sources import UNSURE

PYRAMID_LEVELS = 5  # models.md section 7; a sixth would be a single pixel at 32
LOG_FLOOR = 1e-4  # keeps the logarithm and its gradient finite
FOREGROUND_FLOOR, BACKGROUND_CEILING = 0.95, 0.05  # a trimap's sure pixels


@dataclass(frozen=True)
class Batch:
    """Samples side by side, couples next to each other.

    images uint8 [N, S, S, 3], labels uint8 [N, S, S, 2] (alpha, contrast), kinds and couples int64 [N]; see Sample.
    """

    images: Tensor
    labels: Tensor
    kinds: Tensor
    couples: Tensor

    def to(self, device: torch.device) -> Batch:
        """The same batch there; itself where it is there already."""
        return Batch(
            *(part.to(device, non_blocking=True) for part in (self.images, self.labels, self.kinds, self.couples))
        )


NAMES = (
    "cross_entropy", "l1", "overlap", "laplacian", "gradient", "trimap", "composition", "closure", "pair", "divergence",
)  # fmt: skip


def alone(weights: Tensor) -> Tensor:
    """The weights as they are: those of a batch that no other process holds a part of."""
    return weights


def matting_loss(
    alpha: Tensor, trimap: Tensor, batch: Batch, loss: Loss, across: Callable[[Tensor], Tensor] = alone
) -> tuple[Tensor, Tensor]:
    """The weighted sum to minimise, and its weighted parts [10] in the order of `NAMES` for the log.

    `across` gives a tensor's mean over the processes that hold equal parts of one batch: weighted means are then
    taken over all of it, and the mean of the processes' losses is the whole batch's loss.
    """
    target, contrast = batch.labels[..., 0][:, None].float() / 255, batch.labels[..., 1][:, None].float() / 255
    trust, edges = pixel_trust(target, batch.kinds, loss)
    soft = ((target > UNSURE[0]) & (target < UNSURE[1])).float()
    shared = batch.couples[1::2]
    two_backdrops, two_views = shared == TWO_BACKDROPS, shared == TWO_VIEWS
    trusted, backdrops, views = across(
        torch.stack([weights.float().sum() for weights in (trust, two_backdrops, two_views)])
    )
    parts = torch.stack(
        (
            loss.cross_entropy * _mean(_cross_entropy(alpha, target), trust, trusted),
            loss.l1 * _mean((alpha - target).abs() * (1 + (loss.unknown - 1) * soft * edges), trust, trusted),
            loss.overlap * _overlap(alpha, target, trust),
            loss.laplacian * _laplacian((alpha - target) * trust),
            loss.gradient * _gradient((alpha - target) * edges),
            loss.trimap
            * _mean(F.cross_entropy(trimap, trimap_target(target), reduction="none")[:, None], trust, trusted),
            loss.composition * _mean((alpha - target).abs() * contrast, trust, trusted),
            loss.closure * _closure(alpha, trimap),
            loss.pair * _of_couples(_difference, alpha, two_backdrops, backdrops),
            loss.divergence * _of_couples(_jensen_shannon, alpha, two_views, views),
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


def _mean(values: Tensor, weights: Tensor, total: Tensor) -> Tensor:
    return (values * weights).sum() / total.clamp(min=1.0)


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


def _closure(alpha: Tensor, trimap: Tensor) -> Tensor:
    """Probability that the two heads contradict each other: alpha low where the trimap says F, or high where B."""
    background, _, foreground = trimap.softmax(dim=1).split(1, dim=1)  # type: ignore[no-untyped-call]
    contradiction: Tensor = foreground * (1 - alpha) + background * alpha
    return contradiction.mean()


def _of_couples(distance: Callable[[Tensor, Tensor], Tensor], alpha: Tensor, wanted: Tensor, total: Tensor) -> Tensor:
    """Mean distance between the two alphas of the wanted couples [N // 2] of `total` a process; 0 without any here."""
    if not bool(wanted.any()):
        return alpha.new_zeros(())
    first, second = alpha[0::2][: len(wanted)], alpha[1::2]
    return distance(first[wanted], second[wanted]).mean() * (wanted.sum() / total)


def _difference(first: Tensor, second: Tensor) -> Tensor:
    return (first - second).abs()


def _jensen_shannon(first: Tensor, second: Tensor) -> Tensor:
    """Jensen-Shannon divergence of two Bernoulli variables, in nats a pixel."""
    middle = (first + second) / 2
    return _entropy(middle) - (_entropy(first) + _entropy(second)) / 2


def _entropy(alpha: Tensor) -> Tensor:
    bounded = alpha.clamp(LOG_FLOOR, 1 - LOG_FLOOR)
    return -(bounded * bounded.log() + (1 - bounded) * (1 - bounded).log())


def _dilate(x: Tensor, radius: int) -> Tensor:
    """Maximum over a square of 2*radius+1 px: on the CPU by OpenCV, where pooling it took a sixth of a step."""
    if x.device.type != "cpu":
        return F.max_pool2d(x, 2 * radius + 1, stride=1, padding=radius)
    kernel = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    return torch.from_numpy(np.stack([cv2.dilate(plane, kernel) for plane in x[:, 0].numpy()]))[:, None]
