"""What tests of jobs share beside the fixtures of conftest.py: the contract's fields."""

from __future__ import annotations

# of `GET /v1/jobs/{id}`
FIELDS = {
    "id",
    "state",
    "total",
    "done",
    "success",
    "skipped",
    "review",
    "failed",
    "seconds_per_image",
    "eta_s",
    "created_at",
    "finished_at",
}
