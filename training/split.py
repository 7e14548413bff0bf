"""Which photos belong together and which side of the split they are on, by name and by likeness alone.

Called by `training/dataset.py`. No group is ever on both sides, and a group's side never changes between runs.
"""

from __future__ import annotations

import hashlib
import re

import cv2
import numpy as np
from numpy.typing import NDArray


def group_name(set_name: str, stem: str) -> str:
    """The name photos of one scene share: cats by the name before `.rf.`, Faces and Faces_easy by their number."""
    scene = re.sub(r"^Faces(_easy)?__", "Faces__", stem.split(".rf.")[0])
    return f"{set_name}/{scene}"


def is_validation(group: str, modulus: int) -> bool:
    """Whether a group validates: a fixed draw by its name, so that every run has the same split."""
    return int(hashlib.sha1(group.encode()).hexdigest()[:8], 16) % modulus == 0


def merge_alike(groups: list[str], hashes: list[int], distance: int) -> list[str]:
    """Groups after joining pictures whose difference hashes are nearer than `distance` bits."""
    merged = list(groups)
    for i, own in enumerate(hashes):
        for j in range(i):
            if (own ^ hashes[j]).bit_count() < distance and merged[i] != merged[j]:
                old, new = merged[i], merged[j]
                merged = [new if group == old else group for group in merged]
    return merged


def difference_hash(image: NDArray[np.uint8]) -> int:
    """64 bits, each whether a pixel of the 9x8 grey thumbnail is brighter than its right neighbour."""
    grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (9, 8), interpolation=cv2.INTER_AREA)
    return int.from_bytes(np.packbits(grey[:, 1:] < grey[:, :-1]).tobytes(), "big")
