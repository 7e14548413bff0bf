"""On a GPU, batches of a few sizes only, each tried at start. Pure: no Ray, no torch.

A GPU chooses its kernels anew for every size of batch: the first batch of each took two seconds, which a service paid
in the middle of its first load (docs/performance.md). A few pictures more in a batch cost it next to nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mattehorn.models.base import Model, Seen, seen_by


def batch_sizes(device: str, max_batch: int) -> list[int]:
    """The sizes to try at start: on a GPU all that `seen_steadily` makes, powers of two and `max_batch`."""
    if device == "cpu":
        return sorted({1, max_batch})
    return [*(2**power for power in range((max_batch - 1).bit_length())), max_batch]


def seen_steadily(model: Model, images: NDArray[np.uint8], max_batch: int) -> list[Seen]:
    """`seen_by` of at most `max_batch` pictures; on a GPU the last one is repeated up to the next size."""
    count = len(images)
    if model.device != "cpu":
        size = next(size for size in batch_sizes(model.device, max_batch) if size >= count)
        images = np.concatenate([images, np.repeat(images[-1:], size - count, axis=0)])
    return list(seen_by(model, images))[:count]
