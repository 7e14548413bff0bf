"""`POST /v1/events/s3`: notifications of object stores, checked and put into the queue. Nothing more happens here.

What is queued is the notification itself, as a queue that a store feeds directly would hold it: one message, whatever
number of objects it names. The bulk worker's routes say what becomes of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from deployments.ingress.bodies import read_within
from deployments.ingress.bulk import job_schemas
from deployments.ingress.bulk.bulk_access import BulkAccess
from deployments.ingress.bulk.event_gate import EventGate
from mattehorn import telemetry
from mattehorn.errors import BodyTooLarge, EventError
from mattehorn.events import ParsedEvent, parse_event
from mattehorn.events.json_body import MAX_BODY_BYTES, decode_object, decode_text
from mattehorn.queue.interface import BODY_BYTES, QueueMessageError

ATTRIBUTES = ("id", "source", "type", "subject", "time")  # of a CloudEvent, as far as they are read


def router(gate: EventGate, bulk: BulkAccess) -> APIRouter:
    router = APIRouter(tags=["bulk"])

    @router.post(
        "/v1/events/s3", status_code=202, openapi_extra=job_schemas.EVENT_REQUEST, responses=job_schemas.EVENT_ANSWERS
    )
    async def take_event(request: Request) -> JSONResponse:
        """A store's notification: 202 once it is durable in the queue, or asks for no work."""
        bulk.require_enabled()
        gate.require_configured()
        body = await read_within(request, MAX_BODY_BYTES, "A notification")
        headers = {name.lower(): value for name, value in request.headers.items()}
        await gate.admit(body, headers, request.query_params.get("token"))
        event = parse_event(body, headers)
        unrouted = await bulk.unrouted(event.objects)
        if event.objects:
            await _enqueue(bulk, message_body(body, headers, event))
        else:
            telemetry.add(telemetry.BULK_ITEMS, len(event.ignored), outcome="ignored")
        return JSONResponse({"accepted": len(event.objects), "unrouted": unrouted, "ignored": list(event.ignored)}, 202)

    return router


def message_body(body: bytes, headers: Mapping[str, str], event: ParsedEvent) -> str:
    """The notification as a queue's message: a CloudEvent whose attributes came as headers has them inside."""
    try:
        if parse_event(body) == event:
            return decode_text(body)
    except EventError:
        pass  # it cannot be read without its headers
    attributes = {name: headers[f"ce-{name}"] for name in ATTRIBUTES if f"ce-{name}" in headers}
    wrapped: dict[str, Any] = {"specversion": "1.0", **attributes, "data": decode_object(body)}
    return json.dumps(wrapped, ensure_ascii=False, separators=(",", ":"))


async def _enqueue(bulk: BulkAccess, message: str) -> None:
    try:
        await bulk.enqueue(message)
    except QueueMessageError as error:
        if len(message.encode()) > BODY_BYTES:
            raise BodyTooLarge(f"With its headers the notification has more than {BODY_BYTES} bytes.") from None
        raise EventError(f"The queue cannot hold this notification: {error.message}") from None
