"""The photo that the published clients send, and what has to come back of it."""

from __future__ import annotations

import numpy as np

from tests.service import decoded, encoded, photo

WIDTH, HEIGHT = 160, 120
PICTURE = encoded(photo(WIDTH, HEIGHT), "JPEG", quality=95)


def check_cutout(data: bytes) -> None:
    """A picture with transparency and the photo's size: opaque in the middle, nothing in the corner."""
    pixels = decoded(data)
    assert pixels.shape == (HEIGHT, WIDTH, 4)
    assert pixels[HEIGHT // 2, WIDTH // 2, 3] == 255
    assert not np.any(pixels[2, 2])
