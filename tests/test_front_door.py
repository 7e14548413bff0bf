"""Who comes in: keys and scopes, what is open, the shape of each refusal, other sites' pages; nothing secret told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from deployments.ingress import errors
from deployments.ingress.errors import MissingKey, shape_of
from deployments.ingress.front_door import FrontDoor, keys_of, need_of
from deployments.ingress.tenancy import TENANT
from mattehorn.access.keys import revoke_key
from mattehorn.access.keys_file import edit_keys
from mattehorn.access.tenant import ANONYMOUS
from mattehorn.errors import MattehornError
from mattehorn.settings import Settings
from tests.api_client import JSON, PHOTO, Client, error_of
from tests.doors import Door, bearing, new_key
from tests.service import InProcessService

OPEN = ("/", "/docs", "/openapi.json", "/healthz", "/readyz", "/static/app.js", "/static/swagger/swagger-ui.css")
FILE = {"file": ("p.png", PHOTO)}
ORIGIN = {"Origin": "https://shop.example"}


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with Door(tmp_path_factory.mktemp("door")) as door:
        yield door


@pytest.fixture(scope="module")
def shop(door: Door) -> dict[str, str]:
    """A key for photos alone."""
    return door.key("shop", "matte")


def test_without_a_keys_file_everybody_is_the_same_and_may_do_everything(client: Client) -> None:
    assert client.post("/v1/mattes", files=FILE).status_code == 200
    assert client.post("/v1/mattes", files=FILE, headers=bearing("whatever")).status_code == 200
    assert client.get("/metrics").status_code == 200
    assert client.get("/v1/usage").json()["tenants"][0]["tenant"] == "anonymous"


@pytest.mark.parametrize("scheme", ["X-API-Key", "bearer", "Bearer"])
def test_a_key_comes_in_either_header(door: Door, shop: dict[str, str], scheme: str) -> None:
    key = shop["X-API-Key"]
    header = {scheme: key} if scheme == "X-API-Key" else {"Authorization": f"{scheme} {key}"}
    assert door.post("/v1/mattes", files=FILE, headers=header).status_code == 200
    assert door.post("/v1/mattes", files=FILE, headers={"X-API-Key": "", **header}).status_code == 200


@pytest.mark.parametrize(
    "headers", [{}, {"X-API-Key": " "}, {"Authorization": "Basic abc"}, {"Authorization": "Bearer"}]
)
def test_no_key_is_401_and_says_how_to_send_one(door: Door, headers: dict[str, str]) -> None:
    answer = door.post("/v1/mattes", files=FILE, headers=headers)
    assert "X-API-Key" in error_of(answer, 401, "missing_key")["message"]
    assert answer.headers["www-authenticate"] == "Bearer"


def test_an_unknown_key_is_401_and_is_not_told_back(door: Door) -> None:
    guess = "mh_00000000_" + "0" * 64
    answer = door.post("/v1/mattes", files=FILE, headers=bearing(guess))
    assert guess not in answer.text
    error_of(answer, 401, "invalid_key")


def test_a_key_in_the_query_or_a_form_opens_nothing(door: Door, shop: dict[str, str]) -> None:
    key = shop["X-API-Key"]
    for path in (f"/v1/mattes?api_key={key}", f"/v1/mattes?X-API-Key={key}", f"/v1/mattes?key={key}&token={key}"):
        error_of(door.post(path, content=PHOTO, headers={"content-type": "image/png"}), 401, "missing_key")
    error_of(door.post("/v1/mattes", files=FILE, data={"api_key": key, "X-API-Key": key}), 401, "missing_key")


@pytest.mark.parametrize("path", OPEN)
def test_pages_and_probes_are_open(door: Door, path: str) -> None:
    assert door.get(path).status_code == 200


def lacks_key(response: httpx.Response) -> bool:
    """Whether a request was turned away for its lack of a key; remove.bg's contract knows no 401."""
    return response.status_code == 401 or (response.status_code == 403 and "Missing API Key" in response.text)


def test_every_route_that_is_not_open_on_purpose_needs_a_key(door: Door) -> None:
    paths = door.app.openapi()["paths"]
    assert len(paths) > 15
    opened = {
        path
        for path, methods in paths.items()
        for method in methods
        if not lacks_key(door.request(method, path.replace("{", "").replace("}", "")))
    }
    assert opened == {"/healthz", "/readyz", "/v1/events/s3"}
    assert error_of(door.post("/v1/events/s3"), 403, "forbidden")["message"].startswith("No notifications are taken")


@pytest.mark.parametrize("path", ["/nothing", "//v1/mattes", "/v1/mattes/", "/static", "/healthz/", "/V1/mattes"])
def test_what_is_not_there_is_not_told_without_a_key(door: Door, path: str) -> None:
    assert door.get(path).status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "need"),
    [
        ("POST", "/v1/mattes", "matte"),
        ("GET", "/v1/results/x/image", "matte"),
        ("POST", "/api/remove", "matte"),
        ("POST", "/v1.0/removebg", "matte"),
        ("GET", "/v1/jobs", "jobs"),
        ("POST", "/v1/jobs/x/cancel", "jobs"),
        ("GET", "/v1/jobsx", "matte"),
        ("GET", "/metrics", "admin"),
        ("POST", "/v1/models/x/fetch", "admin"),
        ("GET", "/v1/models", "a key"),
        ("GET", "/v1/usage", "a key"),
        ("POST", "/v1/events/s3", "nothing"),
        ("GET", "/static/../v1/mattes", "nothing"),  # a mount of files, which leads to no route
    ],
)
def test_a_path_needs_its_scope(method: str, path: str, need: str) -> None:
    assert need_of(method, path, metrics_open=False) == need


def test_a_key_without_the_scope_is_403_which_names_it(door: Door, shop: dict[str, str]) -> None:
    jobs = door.key("shop", "jobs")
    assert " jobs" in error_of(door.get("/v1/jobs", headers=shop), 403, "forbidden")["message"]
    assert " matte" in error_of(door.post("/v1/mattes", files=FILE, headers=jobs), 403, "forbidden")["message"]
    assert " admin" in error_of(door.get("/metrics", headers=jobs), 403, "forbidden")["message"]
    assert door.get("/v1/jobs", headers=jobs).status_code == 200
    assert door.get("/metrics", headers=door.key("ops", "admin")).status_code == 200
    for path in ("/v1/models", "/v1/recipes", "/v1/usage"):
        assert door.get(path, headers=jobs).status_code == 200


def test_metrics_may_be_opened(tmp_path: Path) -> None:
    with Door(tmp_path, metrics_open=True) as door:
        assert door.get("/metrics").status_code == 200
        assert door.get("/v1/usage").status_code == 401


def test_an_empty_keys_file_lets_nobody_in(tmp_path: Path) -> None:
    with Door(tmp_path) as door:
        error_of(door.post("/v1/mattes", files=FILE), 401, "missing_key")
        error_of(door.post("/v1/mattes", files=FILE, headers=bearing("x")), 401, "invalid_key")


def test_a_revoked_key_is_refused_and_a_new_one_works_without_a_restart(tmp_path: Path) -> None:
    with Door(tmp_path) as door:
        old = door.key("shop")
        assert door.get("/v1/models", headers=old).status_code == 200
        new = door.key("shop")
        edit_keys(door.keys, lambda document: revoke_key(document, old["X-API-Key"].split("_")[1]))
        door.look_again()
        assert door.get("/v1/models", headers=new).status_code == 200
        error_of(door.get("/v1/models", headers=old), 401, "invalid_key")


def test_a_refusal_comes_before_a_byte_of_the_body_is_read_and_no_handler_runs(tmp_path: Path) -> None:
    (tmp_path / "keys.json").touch()
    reached: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        reached.append(scope["path"])

    async def receive() -> Message:
        raise AssertionError("the body was read")

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    door = FrontDoor(app, keys_of(Settings(keys_file=str(tmp_path / "keys.json"))))
    scope = {"type": "http", "method": "POST", "path": "/v1/mattes", "headers": [(b"x-api-key", b"no")]}
    asyncio.run(door(scope, receive, send))
    assert sent[0]["status"] == 401
    assert reached == []


def test_whose_request_it_was_is_forgotten_after_it(tmp_path: Path) -> None:
    key = new_key(tmp_path / "keys.json", "shop", pixels=9)
    seen: list[tuple[str, int | None]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((TENANT.get().name, TENANT.get().pixels))

    async def story() -> str:
        door = FrontDoor(app, keys_of(Settings(keys_file=str(tmp_path / "keys.json"))))
        headers = [(b"authorization", f"Bearer {key}".encode())]
        await door({"type": "http", "method": "POST", "path": "/x", "headers": headers}, None, None)  # type: ignore[arg-type]
        return TENANT.get().name

    assert asyncio.run(story()) == ANONYMOUS.name
    assert seen == [("shop", 9)]


# shapes


def test_rembgs_path_keeps_its_own_shape(door: Door, shop: dict[str, str]) -> None:
    for headers, status in (({}, 401), (bearing("x"), 401), (door.key("shop", "jobs"), 403)):
        answer = door.post("/api/remove", files=FILE, headers=headers)
        assert (answer.status_code, list(answer.json())) == (status, ["detail"])
        assert answer.headers["access-control-allow-origin"] == "*"
    assert door.post("/api/remove", files=FILE, headers=shop).status_code == 200


@pytest.mark.parametrize("path", ["/v1.0/removebg", "/v1.0/account", "/v1.0/nothing"])
def test_remove_bgs_paths_answer_403_in_their_own_shape(door: Door, path: str) -> None:
    method = "GET" if path.endswith("account") else "POST"
    for headers in ({}, bearing("x"), door.key("shop", "jobs")):
        answer = door.request(method, path, headers=headers)
        assert (answer.status_code, list(answer.json())) == (403, ["errors"])
        assert "www-authenticate" not in answer.headers
    wrong = door.request(method, path, headers=bearing("x"))
    assert wrong.content == b'{"errors":[{"title":"API Key invalid","code":"auth_failed"}]}'


def test_a_contract_whose_answers_are_always_403_has_them_below_its_prefix() -> None:
    def own(error: MattehornError) -> JSONResponse:
        return errors.respond(error, {"errors": [{"title": error.code}]}, 403)

    shapes = {"/v1.0/": own, "/v1.0/other/": errors.error_response, "/api/remove": own}
    refused = shape_of(shapes, "/v1.0/removebg")(MissingKey("No key."))
    assert (refused.status_code, refused.body) == (403, b'{"errors":[{"title":"missing_key"}]}')
    assert "www-authenticate" not in refused.headers
    assert shape_of(shapes, "/v1.0/other/x") is errors.error_response
    assert shape_of(shapes, "/api/remove") is own
    for path in ("/v1.0", "/v1/mattes", "/api/remove/"):
        assert shape_of(shapes, path) is errors.error_response


@pytest.mark.parametrize("path", ["/api/matting", "/remove_background"])
def test_any_page_may_read_why_the_articles_endpoints_refuse_it(door: Door, path: str) -> None:
    for headers, status in (({}, 401), (bearing("x"), 401), (door.key("shop", "jobs"), 403)):
        answer = door.post(path, files=FILE, headers=headers)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (status, "*")


# pages of other sites


def preflight(client: Client, path: str) -> httpx.Response:
    asking = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}
    return client.request("OPTIONS", path, headers=ORIGIN | asking)


def test_a_page_of_another_site_may_use_v1_once_a_key_is_needed(door: Door, shop: dict[str, str]) -> None:
    for path in ("/v1/mattes", "/v1/results/x", "/v1/jobs", "/api/remove"):
        asked = preflight(door, path)
        assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (204, "*")
        for name in ("X-API-Key", "Authorization", "Content-Type", "Accept", "Idempotency-Key", "X-Request-ID"):
            assert name in asked.headers["access-control-allow-headers"]
    for headers, status in ((shop, 200), ({}, 401)):
        answer = door.post("/v1/mattes", files=FILE, headers=ORIGIN | headers)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (status, "*")
        exposed = {name.strip().lower() for name in answer.headers["access-control-expose-headers"].split(",")}
        ours = {name for name in answer.headers if name.startswith(("x-m", "x-w", "x-h", "x-f", "x-ra", "x-req"))}
        assert ours <= exposed
    assert "access-control-allow-origin" not in door.get("/metrics", headers=ORIGIN).headers


def test_v1_stays_same_origin_while_keys_are_off(client: Client) -> None:
    assert preflight(client, "/v1/mattes").status_code == 405
    assert "access-control-allow-origin" not in client.post("/v1/mattes", files=FILE, headers=ORIGIN).headers
    assert preflight(client, "/api/remove").status_code == 204


def test_another_sites_page_with_a_key_may_make_a_batch(door: Door, client: Client) -> None:
    form = {"files": [("files", ("p.png", PHOTO))], "data": {"recipe": "transparent-web"}}
    away = {"sec-fetch-site": "cross-site"}
    error_of(client.post("/v1/jobs", headers=away, **form), 403, "forbidden")
    assert door.post("/v1/jobs", headers=away | door.key("shop", "jobs"), **form).status_code == 202


# nothing secret is told


def test_no_key_is_in_the_log_whatever_became_of_its_request(
    door: Door, shop: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    wrong = "mh_secret00_" + "5" * 64
    service = door.service
    with caplog.at_level(logging.DEBUG):
        for key in (shop["X-API-Key"], wrong):
            door.post("/v1/mattes", files=FILE, headers=bearing(key))
            door.post(f"/v1/mattes?api_key={key}", files=FILE, data={"api_key": key})
            door.post(f"/v1/mattes?api_key={key}", files=FILE, headers={"Authorization": f"Bearer {key}"})
            door.get(f"/v1/jobs?token={key}", headers={"Authorization": f"Bearer {key}"})
        service.error = RuntimeError("a fault")
        door.post("/v1/mattes", files=FILE, headers=shop)
        service.error = None
    told = "\n".join(
        f"{record.getMessage()} {record.__dict__}" for record in caplog.records if "httpx" not in record.name
    )
    assert "unforeseen error" in told
    for key in (shop["X-API-Key"], wrong):
        assert key.split("_")[2] not in told


def test_refusals_are_counted_by_a_closed_set_of_reasons(tmp_path: Path) -> None:
    with Door(tmp_path) as door:
        door.get("/v1/models")
        for guess in ("x", "y"):
            door.get("/v1/models", headers=bearing(guess))
        door.get("/metrics", headers=door.key("shop", "matte"))
        door.get("/v1/models", headers=door.key("shop", "matte"))
        told = door.get("/metrics", headers=door.key("ops", "admin")).text
    lines = {line for line in told.splitlines() if line.startswith("mattehorn_refused_keys_total{")}
    assert lines == {
        f'mattehorn_refused_keys_total{{reason="{reason}"}} {count}'
        for reason, count in (("missing", 1.0), ("unknown", 2.0), ("scope", 1.0))
    }


def test_the_description_names_both_ways_to_send_a_key(door: Door, client: Client) -> None:
    described = door.get("/openapi.json").json()
    assert {"APIKeyHeader", "HTTPBearer"} == set(described["components"]["securitySchemes"])
    assert described["paths"]["/v1/mattes"]["post"]["security"] == [{"APIKeyHeader": []}, {"HTTPBearer": []}]
    assert "securitySchemes" not in client.get("/openapi.json").json().get("components", {})


# events have a gate of their own


def test_a_stores_notification_brings_its_own_token_and_no_key(tmp_path: Path) -> None:
    args: dict[str, Any] = {"events": {"token": "a-token"}, "queue": {"url": f"sqlite:///{tmp_path}/queue.db"}}
    with Door(tmp_path, **args) as door:
        key = door.key("shop", "matte", "jobs", "admin")["X-API-Key"]
        body = {"Event": "s3:TestEvent", "Service": "Amazon S3", "Bucket": "shop", "Time": "2026-11-28T09:30:00.000Z"}
        sent = door.post("/v1/events/s3", json=body, headers={"Authorization": "Bearer a-token"})
        assert sent.status_code == 202, sent.text
        error_of(door.post("/v1/events/s3", json=body), 401, "missing_key")
        error_of(door.post("/v1/events/s3", json=body, headers={"Authorization": f"Bearer {key}"}), 401, "invalid_key")
        error_of(door.post("/v1/mattes", files=FILE, headers={"Authorization": "Bearer a-token"}), 401, "invalid_key")


def test_a_json_accept_changes_nothing_about_a_refusal(door: Door) -> None:
    error_of(door.post("/v1/mattes", files=FILE, headers=JSON), 401, "missing_key")


def test_a_service_with_keys_is_the_same_service(door: Door, shop: dict[str, str], tmp_path: Path) -> None:
    with Client(InProcessService(tmp_path)) as plain:
        assert door.post("/v1/mattes", files=FILE, headers=shop).content == plain.post("/v1/mattes", files=FILE).content
