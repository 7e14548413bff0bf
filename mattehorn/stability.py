"""Whether a network says the same of a photo and of its mirror image, as the check of stability asks.

The subject is the same in both, so whatever differs is not known for sure. What it is not: no score (quality.py has
its bounds). Called by whoever runs the network; arrays are at the network's size.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mattehorn.resize import Fitted, crop_alpha


def mirrored(fitted: Fitted) -> NDArray[np.uint8]:
    """The network's input for the photo's mirror image, uint8 [h, w, 3]: padding stays right and below."""
    rows, cols = fitted.pixels.shape[:2]
    content = fitted.pixels[: fitted.content_height, : fitted.content_width]
    right, below = cols - fitted.content_width, rows - fitted.content_height
    turned = np.ascontiguousarray(content[:, ::-1])
    return np.asarray(cv2.copyMakeBorder(turned, 0, below, 0, right, cv2.BORDER_REPLICATE), np.uint8)


def disagreement(fitted: Fitted, alpha: NDArray[Any], mirrored_alpha: NDArray[Any]) -> float:
    """Mean difference of the two alphas over the photo, 0..1. Raises as crop_alpha does."""
    one, other = crop_alpha(alpha, fitted), crop_alpha(mirrored_alpha, fitted)[:, ::-1]
    return float(np.abs(one - other).mean())
