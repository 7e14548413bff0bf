"""The one replica that counts for all ingress replicas. It holds no photo and no answer; losing it loses a minute's
counts and the claims of requests in flight."""

from __future__ import annotations

from ray import serve

from deployments.tally.book import Book
from mattehorn import telemetry
from mattehorn.settings import Settings


@serve.deployment(name="Tally")
class Tally(Book):
    """A Book behind a handle."""

    def __init__(self, settings: Settings) -> None:
        telemetry.use_ray()
        super().__init__()
