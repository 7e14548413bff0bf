"""Around the API's answers: ids, security headers, pages, readiness, metrics and the OpenAPI description."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from deployments.calls import Readiness
from mattehorn.options import Options
from tests.api_client import PHOTO, Client, post
from tests.service import InProcessService, serving

# around the answers


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Requests to a real server: what a HEAD's answer leaves out is the server's to leave."""
    with serving(InProcessService(tmp_path_factory.mktemp("results"))) as url, httpx.Client(base_url=url) as client:
        yield client


@pytest.mark.parametrize("path", ["/", "/docs", "/healthz", "/readyz", "/openapi.json", "/static/app.js"])
def test_head_is_answered_as_get_without_a_body(served: httpx.Client, path: str) -> None:
    got, head = served.get(path), served.head(path)
    assert (head.status_code, head.content) == (got.status_code, b"") == (200, b"")
    for name in ("content-type", "content-length", "content-security-policy"):
        assert head.headers[name] == got.headers[name]


@pytest.mark.parametrize("path", ["/", "/docs", "/healthz", "/readyz"])
def test_allow_names_head_where_it_is_answered(client: Client, path: str) -> None:
    assert client.post(path).headers["allow"] == "GET, HEAD"
    assert client.request("HEAD", "/v1/models").headers["allow"] == "GET"


def test_head_of_a_service_that_is_not_ready_is_a_503(tmp_path: Path) -> None:
    with Client(InProcessService(tmp_path)) as client:
        client.service.state = Readiness(False, ("model is loading",))
        assert client.request("HEAD", "/readyz").status_code == 503


def test_a_request_id_is_echoed_or_made(client: Client) -> None:
    assert post(client, headers={"x-request-id": "abc-1"}).headers["x-request-id"] == "abc-1"
    assert client.service.jobs[-1].request_id == "abc-1"
    made = client.get("/v1/nothing", headers={"x-request-id": "not allowed!"})
    assert len(made.headers["x-request-id"]) == 32


@pytest.mark.parametrize("path", ["/healthz", "/v1/models", "/v1/nothing", "/metrics", "/openapi.json"])
def test_security_headers_are_on_every_answer(client: Client, path: str) -> None:
    headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["content-security-policy"].startswith("default-src 'none'")


def test_cross_origin_pages_get_nothing_while_keys_are_off(client: Client) -> None:
    response = post(client, headers={"origin": "https://elsewhere.example"})
    assert not [name for name in response.headers if name.startswith("access-control-")]


def test_pages_come_with_their_own_strict_policies(client: Client) -> None:
    for path in ("/", "/docs"):
        response = client.get(path)
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/html")
        policy = response.headers["content-security-policy"]
        assert "script-src 'self';" in policy
        assert "frame-ancestors 'none'" in policy
        assert "http" not in policy


def test_swagger_is_served_by_us(client: Client) -> None:
    assert "http://" not in (page := client.get("/docs").text)
    assert "https://" not in page
    assert client.get("/static/swagger/swagger-ui-bundle.js").status_code == 200
    assert client.get("/static/swagger/swagger-ui.css").status_code == 200


def test_health_readiness_and_models_tell_what_runs(client: Client) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    ready = client.get("/readyz")
    assert ready.status_code == 200
    assert ready.json()["model"] == {"name": "fake", "version": "1"}
    assert ready.json()["device"] == "cpu"
    (model,) = client.get("/v1/models").json()["models"]
    wanted = {
        "name",
        "version",
        "default",
        "state",
        "device",
        "input_size",
        "licence",
        "commercial_use",
        "training_sets",
    }
    assert wanted <= set(model)
    assert (model["name"], model["state"], model["device"]) == ("fake", "ready", "cpu")


def test_a_service_that_is_not_ready_says_why(tmp_path: Path) -> None:
    with Client(InProcessService(tmp_path)) as client:
        client.service.state = Readiness(False, reasons=("Matting is deploying",))
        response = client.get("/readyz")
        assert response.status_code == 503
        assert response.json() == {"status": "not_ready", "reasons": ["Matting is deploying"]}
        assert int(response.headers["retry-after"]) >= 1
        assert client.get("/healthz").status_code == 200
        assert client.get("/v1/models").json()["models"][0]["state"] == "loading"


def test_a_service_scaled_to_zero_is_ready_and_cold(tmp_path: Path) -> None:
    with Client(InProcessService(tmp_path)) as client:
        client.service.state = Readiness(True, cold=True)
        response = client.get("/readyz")
        assert (response.status_code, response.json()["cold"]) == (200, True)


def test_metrics_count_stages_errors_and_requests(tmp_path: Path) -> None:
    with Client(InProcessService(tmp_path)) as client:
        post(client)
        post(client, shiny="1")
        text = client.get("/metrics").text
    samples = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }

    def value(name: str, **labels: str) -> float:
        return samples[name, frozenset(labels.items())]

    assert value("mattehorn_requests_total", route="/v1/mattes", code="200") == 1
    assert value("mattehorn_requests_total", route="/v1/mattes", code="422") == 1
    assert value("mattehorn_errors_total", code="unknown_option") == 1
    for stage in ("decode", "queue", "infer", "refine", "encode", "total"):
        assert value("mattehorn_stage_seconds_count", stage=stage) == 1
    assert value("mattehorn_image_megapixels_count") == 1
    assert value("mattehorn_bytes_total", direction="in") > 2 * len(PHOTO)


def test_openapi_lists_every_option_and_every_body_form(client: Client) -> None:
    document = client.get("/openapi.json").json()
    operation = document["paths"]["/v1/mattes"]["post"]
    content = operation["requestBody"]["content"]
    assert set(content) == {
        "multipart/form-data",
        "application/json",
        "application/x-www-form-urlencoded",
        "image/*",
    }
    form = set(content["multipart/form-data"]["schema"]["properties"])
    named = {"image_url", "image_base64", "result_id", "background_url", "recipe"}
    assert form == {"file", "background_file", *named, *Options.model_fields}
    assert set(content["application/json"]["schema"]["properties"]) == {*named, *Options.model_fields}
    documented = {int(status) for status in operation["responses"]}
    assert {200, 400, 404, 406, 408, 413, 415, 422, 429, 503, 504} <= documented


def test_openapi_describes_every_route_of_the_contract(client: Client) -> None:
    paths = set(client.get("/openapi.json").json()["paths"])
    assert paths == {
        "/v1/mattes",
        "/v1/usage",
        "/v1/results",
        "/v1/results/{result_id}",
        "/v1/results/{result_id}/image",
        "/v1/results/{result_id}/alpha",
        "/v1/results/{result_id}/source",
        "/v1/models",
        "/v1/recipes",
        "/healthz",
        "/readyz",
        "/metrics",
        "/api/matting",
        "/api/remove",
        "/remove_background",
        "/v1/jobs",
        "/v1/jobs/{job_id}",
        "/v1/jobs/{job_id}/cancel",
        "/v1/jobs/{job_id}/events",
        "/v1/jobs/{job_id}/manifest.jsonl",
        "/v1/jobs/{job_id}/results.zip",
        "/v1/events/s3",
        "/v1.0/removebg",
        "/v1.0/account",
        "/v1.0/improve",
        "/api/removebg",
        "/api/account",
    }
