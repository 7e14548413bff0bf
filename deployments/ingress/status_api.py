"""What the service says of itself: its models, its health, whether it is ready, its metrics."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from deployments.ingress import answer_schemas, schemas
from deployments.ingress.jobs import Service


def router(service: Service) -> APIRouter:
    router = APIRouter(tags=["service"])

    @router.get("/v1/models", responses=answer_schemas.MODELS)
    async def list_models() -> dict[str, Any]:
        """The models of this service, their licences and the sets they were trained on."""
        return {"models": schemas.model_entries(service.settings, await service.readiness())}

    @router.head("/healthz", include_in_schema=False)  # load balancers ask so; the server leaves the body out
    @router.get("/healthz", responses=answer_schemas.ALIVE)
    async def healthz() -> dict[str, str]:
        """200 while the process lives."""
        return {"status": "ok"}

    @router.head("/readyz", include_in_schema=False)
    @router.get("/readyz", responses=answer_schemas.READINESS)
    async def readyz() -> JSONResponse:
        """200 once a warm-up inference ran on the requested device; scaled to zero: 200 and cold."""
        state = await service.readiness()
        if not state.ready:
            return JSONResponse({"status": "not_ready", "reasons": list(state.reasons)}, 503, {"Retry-After": "2"})
        return JSONResponse(schemas.ready(service.settings, state))

    @router.get("/metrics", responses=answer_schemas.METRICS, response_class=Response)
    async def metrics() -> Response:
        """Prometheus text of the whole service: every node's agent, merged."""
        return Response(await service.metrics(), media_type="text/plain; version=0.0.4")

    return router
