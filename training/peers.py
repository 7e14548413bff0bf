"""The processes that train together: who they are, what they average, and batch norm over all their samples.

They meet through torch.distributed (gloo on CPUs, nccl on GPUs); alone, everything here leaves its argument as it is.
Called by `training/train.py`; it knows nothing of who started the processes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, distributed, nn


def peers() -> int:
    """How many processes train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """This process's place among its peers; 0 validates, logs and saves."""
    return distributed.get_rank() if distributed.is_initialized() else 0


@torch.no_grad()
def average(tensors: Sequence[Tensor]) -> None:
    """Replaces float tensors by their mean over the processes, in one message."""
    if peers() == 1:
        return
    mean = torch.cat([tensor.flatten() for tensor in tensors])
    distributed.all_reduce(mean)
    parts = torch.split(mean / peers(), [tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.copy_(part.view(tensor.shape))


def averaged(tensor: Tensor) -> Tensor:
    """A tensor's mean over the processes; nothing is differentiated through it."""
    mean = tensor.detach().clone()
    average([mean])
    return mean


def require_agreement(network: nn.Module) -> str:
    """sha256 of the weights; raises RuntimeError where a peer's differ, since their gradients were not shared then."""
    whole = hashlib.sha256()
    for tensor in network.state_dict().values():
        whole.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    digest = whole.hexdigest()
    digests: list[str | None] = [digest] * peers()
    if peers() > 1:
        distributed.all_gather_object(digests, digest)
    if len(set(digests)) > 1:
        raise RuntimeError(f"the workers' weights differ: {digests}; resume from the last checkpoint")
    return digest


class _Mean(torch.autograd.Function):
    """`averaged`, both ways: each process's loss depends on every process's tensor."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return averaged(tensor)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return averaged(gradient)


class SharedBatchNorm(nn.BatchNorm2d):
    """Batch norm by the mean and variance of all processes' samples (equally many each), on CPUs too.

    torch's own SyncBatchNorm needs a GPU. Parameters, buffers and their names are nn.BatchNorm2d's.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Float [N, C, H, W] -> the same shape and type; in eval mode by the running statistics, as ever."""
        if not self.training or peers() == 1:
            return super().forward(x)
        wide = x.to(torch.promote_types(x.dtype, torch.float32))  # bf16 would lose a mean's digits
        own_variance, own_mean = torch.var_mean(wide, dim=(0, 2, 3), correction=0)
        moments = torch.stack((own_mean, own_variance + own_mean.square()))
        mean, square = _Mean.apply(moments)  # type: ignore[no-untyped-call]
        variance = (square - mean.square()).clamp(min=0.0)
        count = peers() * x.numel() // x.shape[1]
        self._remember(mean.detach(), variance.detach() * (count / max(count - 1, 1)))
        scale = self.weight * torch.rsqrt(variance + self.eps)
        shift = self.bias - mean * scale
        normal: Tensor = x * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)
        return normal.to(x.dtype)

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        tracked = self.get_buffer("num_batches_tracked").add_(1)
        share = 1 / float(tracked) if self.momentum is None else self.momentum
        for name, now in (("running_mean", mean), ("running_var", variance)):
            self.get_buffer(name).lerp_(now, share)


def share_norms(network: nn.Module) -> None:
    """Makes every batch norm of a network a SharedBatchNorm with the same parameters and statistics."""
    for block in list(network.modules()):
        for name, norm in list(block.named_children()):
            if type(norm) is nn.BatchNorm2d:
                shared = SharedBatchNorm(norm.num_features, norm.eps, norm.momentum)
                shared.weight, shared.bias = norm.weight, norm.bias
                shared.load_state_dict(norm.state_dict())
                setattr(block, name, shared.to(norm.weight.device).train(norm.training))
