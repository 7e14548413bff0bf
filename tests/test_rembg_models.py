"""rembg's `model`: its own names, and the names of one model or two that run here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deployments.ingress.compat.rembg import MODELS
from tests.api_client import Client
from tests.rembg_client import post, refused
from tests.service import InProcessService


@pytest.mark.parametrize("model", sorted(MODELS))
def test_a_model_of_rembgs_that_does_not_run_here_is_substituted_and_told(client: Client, model: str) -> None:
    response = post(client, model=model)
    assert response.status_code == 200
    assert response.headers["x-mattehorn-model"] == "fake@1"
    assert response.headers["x-mattehorn-warnings"] == "model_substituted"
    assert response.content == post(client).content


@pytest.mark.parametrize("model", ["", "auto", "fake", "fake@1"])
def test_the_running_model_by_its_name_is_no_substitute(client: Client, model: str) -> None:
    response = post(client, model=model)
    assert response.status_code == 200
    assert "x-mattehorn-warnings" not in response.headers


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Requests to a service with a stronger model beside `fake`, one that rembg has as well."""
    service = InProcessService(tmp_path_factory.mktemp("two"), strong_model="u2netp")
    with Client(service) as client:
        yield client


@pytest.mark.parametrize(
    ("model", "answers"),
    [("fake", "fake@1"), ("fake@1", "fake@1"), ("u2netp", "u2netp@1"), ("u2netp@1", "u2netp@1")],
)
@pytest.mark.parametrize("place", ["query", "form"])
def test_of_two_models_that_run_the_named_one_answers_and_is_told(
    two: Client, model: str, answers: str, place: str
) -> None:
    asked = two.service.strong.asked
    response = post(two, model=model) if place == "form" else post(two, query={"model": model})
    assert (response.status_code, response.headers["x-mattehorn-model"]) == (200, answers)
    assert "x-mattehorn-warnings" not in response.headers
    assert two.service.strong.asked - asked == (answers == "u2netp@1")
    assert two.service.jobs[-1].options.model == model


def test_of_two_models_none_is_chosen_for_a_name_of_rembgs_that_does_not_run(two: Client) -> None:
    response = post(two, model="u2net")
    assert (response.status_code, response.headers["x-mattehorn-model"]) == (200, "fake@1")
    assert response.headers["x-mattehorn-warnings"] == "model_substituted"
    assert two.service.jobs[-1].options.model == "auto"


@pytest.mark.parametrize("model", ["u2netp@2", "u2netp@", "fake@1@1", "mattehorn-base"])
def test_a_refused_model_is_told_with_all_that_run(two: Client, model: str) -> None:
    message = refused(post(two, model=model), "body", "model")["msg"]
    assert "fake@1 and u2netp@1" in message
