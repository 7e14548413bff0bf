"""How a callee's troubles look to Ray Serve: which errors mean that it died and which that it is full."""

from __future__ import annotations

import ray.exceptions
from ray.serve.exceptions import BackPressureError, ReplicaUnavailableError

from deployments.calls import Failures

FAILURES = Failures(died=(ray.exceptions.RayActorError, ReplicaUnavailableError), full=(BackPressureError,))
