"""What a photo shows (person, product, animal, car, graphic, other), read off the encoder's last map.

One linear layer over the features where the alpha matte is: no second pass, and none over the pixels. Its file,
safetensors beside the weights that it was fitted to, is made by `training/subject.py`. Called by torch_model.py.
"""

from __future__ import annotations

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mattehorn.errors import ModelError
from mattehorn.models.base import SUBJECTS, Subject

_NO_SUBJECT = 1e-6  # added to the matte's area: an empty matte has features of 0, not NaN


def pooled(deepest: Tensor, alpha: Tensor) -> Tensor:
    """Features of the subject [N, C]: the mean of `deepest` [N, C, h, w], weighted with `alpha` [N, 1, H, W].

    H and W are multiples of h and w.
    """
    count, _, height, width = deepest.shape
    # the mean of each cell; torch's pooling of a single channel takes four times as long
    weight = alpha.float().reshape(count, 1, height, alpha.shape[2] // height, width, -1).mean(dim=(3, 5))
    total = (deepest.float() * weight).sum(dim=(2, 3))
    return total / (weight.sum(dim=(2, 3)) + _NO_SUBJECT)


class SubjectHead(nn.Module):
    """Tells subjects from features; whatever no class has a share of at least `least` of is `other`."""

    weight: Tensor
    bias: Tensor
    least: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, least: Tensor) -> None:
        """`weight` [6, C] and `bias` [6], in the order of SUBJECTS; `least`, a probability, has no dimension."""
        super().__init__()
        self.register_buffer("weight", weight.float())
        self.register_buffer("bias", bias.float())
        self.register_buffer("least", least.float())

    def forward(self, features: Tensor) -> Tensor:
        """Probabilities [N, 6] from the features [N, C] of `pooled`."""
        return F.linear(features, self.weight, self.bias).softmax(dim=1)

    def tell(self, deepest: Tensor, alpha: Tensor) -> list[Subject]:
        """The subject of each of N pictures, from their maps [N, C, h, w] and alpha mattes [N, 1, H, W] in 0..1."""
        return self.named(pooled(deepest, alpha))

    def named(self, features: Tensor) -> list[Subject]:
        """The subject that each of the features [N, C] stands for."""
        share, index = self(features).max(dim=1)
        index = torch.where(share < self.least, SUBJECTS.index("other"), index)
        return [SUBJECTS[place] for place in index.tolist()]


def read_head(data: bytes, channels: int) -> SubjectHead:
    """The head of a safetensors file for features of `channels`. Raises ModelError for any other file."""
    shapes = {"weight": (len(SUBJECTS), channels), "bias": (len(SUBJECTS),), "least": ()}
    try:
        tensors = safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise ModelError(
            "The file of the subject head is no safetensors file; make it with training.subject."
        ) from error
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if found != shapes:
        raise ModelError(
            f"The file of the subject head holds {found}, expected {shapes}; make it anew with training.subject."
        )
    return SubjectHead(**tensors)
