"""What a job weighs: its decoded megapixels, by which memory is given and work forecast. Imports no Ray."""

from __future__ import annotations

from deployments.calls import Job
from mattehorn.image.decode import read_header
from mattehorn.layout.plan import most_pixels
from mattehorn.settings import Limits


def megapixels(job: Job, limits: Limits) -> float:
    """Photo, background and canvas, by the pictures' headers. Raises what read_header does."""
    header = read_header(job.photo, limits)
    weight = header.megapixels
    if job.background is not None:
        weight += read_header(job.background, limits).megapixels
    if (layout := job.layout) is not None:  # a photo of one pixel may ask for a canvas of 50 megapixels
        weight += most_pixels(layout, header.width, header.height, limits) / 1e6
    return weight
