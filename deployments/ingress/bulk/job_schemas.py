"""The OpenAPI descriptions of the bulk endpoints: bodies with examples, documents, errors."""

from __future__ import annotations

from typing import Any

from deployments.ingress.errors import schema as error_schema
from mattehorn.bulk.job_spec import KEYS_MOST

_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}
_STATES = ["queued", "listing", "running", "succeeded", "failed", "cancelled"]
_ID = "0hrp2c7vs4m8k1xq9tbn5wzyad"

_STATUSES = {
    400: "a body that cannot be read, or a notification of no known form",
    401: "no token and no signature, or a wrong one",
    403: "not switched on here",
    404: "no job has this id",
    409: "the job has not ended",
    413: "too many bytes",
    415: "a Content-Type that is not read here",
    422: "a value that is not allowed; `field` names it",
    429: "too many at once, or the month is spent; see Retry-After",
    503: "the store or the queue is away; see Retry-After",
}


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    content = {"application/json": {"schema": error_schema()}}
    return {status: {"description": _STATUSES[status], "content": content} for status in statuses}


def _answer(status: int, description: str, schema: dict[str, Any], example: Any) -> dict[int | str, dict[str, Any]]:
    return {
        status: {"description": description, "content": {"application/json": {"schema": schema, "example": example}}}
    }


_COUNTS: dict[str, Any] = {
    "id": _TEXT,
    "state": {"type": "string", "enum": _STATES},
    "total": {**_COUNT, "description": "photos listed so far; final once the state is running"},
    "done": _COUNT,
    "success": _COUNT,
    "skipped": {**_COUNT, "description": "their result was there already"},
    "review": {**_COUNT, "description": "of success and skipped: results that the recipe's gate sends to review/"},
    "seconds_per_image": {"type": ["number", "null"]},
    "eta_s": {"type": ["number", "null"], "description": "from the measured rate; null before there is one"},
    "created_at": _TEXT,
    "finished_at": {"type": ["string", "null"]},
}
_FAILURE = {"type": "object", "properties": {"file": _TEXT, "error": _TEXT}}
JOB: dict[str, Any] = {
    "type": "object",
    "properties": {
        **_COUNTS,
        "failed": {"type": "array", "items": _FAILURE, "description": "the first 1000; the manifest has all"},
    },
}
_JOB_EXAMPLE: dict[str, Any] = {
    "id": _ID,
    "state": "succeeded",
    "total": 1200,
    "done": 1200,
    "success": 1190,
    "skipped": 9,
    "review": 0,
    "failed": [{"file": "s3://shop/photos/7.jpg", "error": "corrupt_image: The picture ends too early."}],
    "seconds_per_image": 0.412,
    "eta_s": 0.0,
    "created_at": "2026-11-20T08:00:00.000Z",
    "finished_at": "2026-11-20T08:04:13.512Z",  # FastAPI leaves nulls out of examples
}
_NEW_EXAMPLE = {"id": _ID, "state": "queued", "url": f"/v1/jobs/{_ID}"}
_LINK = {"type": "object", "properties": {"id": _TEXT, "state": JOB["properties"]["state"], "url": _TEXT}}
_LIST = {
    "type": "object",
    "properties": {
        "jobs": {"type": "array", "items": {"type": "object", "properties": _COUNTS}},
        "next_cursor": {"type": ["string", "null"]},
    },
}
_SHORT = {name: value for name, value in _JOB_EXAMPLE.items() if name != "failed"}

_PLACE = "s3://bucket/prefix/, or a key or folder of the results store"
_OPTIONS = {"type": "object", "description": "options of POST /v1/mattes, over the recipe's own"}
_WEBHOOK = {"type": ["string", "null"], "description": "https; told of the end by one signed POST"}
_OUTPUT = {"type": "string", "description": f"{_PLACE}; without it bulk/ID/ in the results store"}
_RECIPE = {"description": "name, name@version, or a whole recipe", "oneOf": [_TEXT, {"type": "object"}]}
_INPUT = {
    "type": "object",
    "description": "exactly one of the three",
    "properties": {
        "keys": {"type": "array", "items": _TEXT, "minItems": 1, "maxItems": KEYS_MOST, "description": _PLACE},
        "prefix": _TEXT,
        "manifest": {"type": "string", "description": "CSV or JSON lines, also gzipped; S3 Inventory's manifest.json"},
    },
}
_JSON_FORM = {
    "type": "object",
    "required": ["input", "recipe"],
    "properties": {
        "input": _INPUT,
        "output": _OUTPUT,
        "recipe": _RECIPE,
        "options": _OPTIONS,
        "webhook_url": _WEBHOOK,
    },
}
_UPLOAD_FORM = {
    "type": "object",
    "required": ["files", "recipe"],
    "properties": {
        "files": {"type": "array", "items": {"type": "string", "format": "binary"}},
        "recipe": {"type": "string", "default": "transparent-web"},
        "options": {"type": "string", "description": "a JSON object of options", "default": "", "example": ""},
        "output": {**_OUTPUT, "default": "", "example": ""},
        "webhook_url": {"type": "string", "default": "", "example": ""},
    },
}
_EXAMPLES: dict[str, Any] = {
    "prefix": {
        "value": {
            "input": {"prefix": "s3://shop/photos/"},
            "output": "s3://shop-cutouts/2026/",
            "recipe": "marketplace-white@1",
            "options": {"feather_px": 1},
        }
    },
    "keys": {"value": {"input": {"keys": ["s3://shop/photos/1.jpg"]}, "recipe": "transparent-web"}},
    "manifest": {"value": {"input": {"manifest": "s3://shop/list.csv"}, "recipe": "transparent-web@1"}},
}

NEW_REQUEST: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": _JSON_FORM, "examples": _EXAMPLES},
            "multipart/form-data": {"schema": _UPLOAD_FORM},
        },
    }
}
NEW_ANSWERS = _answer(202, "The job is durable and queued; Location names it.", _LINK, _NEW_EXAMPLE) | _errors(
    400, 403, 413, 415, 422, 429, 503
)
LIST_ANSWERS = _answer(200, "Jobs, the latest first.", _LIST, {"jobs": [_SHORT], "next_cursor": _ID}) | _errors(
    422, 503
)
JOB_ANSWERS = _answer(200, "How far the job is.", JOB, _JOB_EXAMPLE) | _errors(404, 503)
CANCEL_ANSWERS = _answer(202, "No further photo is begun.", JOB, _JOB_EXAMPLE | {"state": "cancelled"}) | _errors(
    404, 503
)
STREAM_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Events `progress` until the final state; the data is the body of GET /v1/jobs/{id}.",
        "content": {
            "text/event-stream": {
                "schema": {"type": "object", "properties": dict.fromkeys(("event", "id", "data"), _TEXT)}
            }
        },
    },
    204: {"description": "Asked with `Last-Event-ID: final`: there is nothing more."},
    **_errors(404, 429, 503),
}
MANIFEST_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "One JSON object a line and photo; of a running job what there is.",
        "content": {"application/x-ndjson": {"schema": _TEXT}},
    },
    **_errors(404, 429, 503),
}
ZIP_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "All results, and errors.json.",
        "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
    },
    **_errors(404, 409, 422, 429, 503),
}

_TAKEN = {
    "type": "object",
    "properties": {
        "accepted": {**_COUNT, "description": "objects whose notification is in the queue"},
        "unrouted": {
            **_COUNT,
            "description": "of these, objects of no bucket and prefix in the operator's bulk.routes",
        },
        "ignored": {"type": "array", "items": _TEXT, "description": "names of events that ask for no work"},
    },
}
_EVENT_EXAMPLE = {
    "Records": [
        {
            "eventSource": "aws:s3",
            "eventName": "ObjectCreated:Put",
            "s3": {"bucket": {"name": "shop"}, "object": {"key": "photos/1.jpg", "size": 48213, "eTag": "9bb5"}},
        }
    ]
}
EVENT_REQUEST: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "A notification of AWS S3 (also by EventBridge or SNS), MinIO, RustFS, Ceph, Google Cloud "
        "Storage, Alibaba OSS or Cloudflare R2, also as a CloudEvent; at most 256 KB.",
        "content": {
            "application/json": {"schema": {"type": "object"}, "example": _EVENT_EXAMPLE},
            "application/cloudevents+json": {"schema": {"type": "object"}},
            "text/plain": {"schema": _TEXT},
        },
    },
    "parameters": [
        {
            "name": "Authorization",
            "in": "header",
            "required": False,
            "schema": _TEXT,
            "description": "Bearer TOKEN: the shared one, or a Pub/Sub push's OIDC token",
        },
        {
            "name": "X-Mattehorn-Signature",
            "in": "header",
            "required": False,
            "schema": _TEXT,
            "description": "t=UNIX,v1=HEX: HMAC-SHA256 of `UNIX.body` under the shared secret",
        },
    ],
}
EVENT_ANSWERS = _answer(202, "Durable in the queue.", _TAKEN, {"accepted": 1, "unrouted": 0, "ignored": []}) | _errors(
    400, 401, 403, 413, 429, 503
)
