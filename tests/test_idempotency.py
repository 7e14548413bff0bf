"""Idempotency-Key: a repetition gets the first answer, anything else is refused, and what may pass is not the key's."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import Response

from deployments.ingress.bodies import Body
from deployments.ingress.once import idempotency
from deployments.ingress.tenancy import TENANT
from mattehorn import telemetry
from mattehorn.access.tenant import ANONYMOUS
from mattehorn.cache.idempotency import is_kept
from mattehorn.cache.kept import IDEMPOTENCY
from mattehorn.errors import FetchFailed, Overloaded, Unavailable
from mattehorn.options import Options
from mattehorn.recipe.gate import Wish
from tests.api_client import EMPTY, JSON, PHOTO, Client, error_of, post
from tests.cache_bench import AwayStore, AwayTally, Pool, until
from tests.service import encoded, photo

OTHER = encoded(photo(80, 60))
KEY = {"Idempotency-Key": "order 17 / first"}


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    """A service without a cache: whatever comes twice was kept for its key."""
    before = telemetry._backend
    with Client(Pool(tmp_path, max_bytes=0)) as made:
        yield made
    telemetry._backend = before


def keyed(client: Client, data: bytes = PHOTO, headers: dict[str, str] | None = None, **fields: str) -> httpx.Response:
    return post(client, data, headers={**KEY, **(headers or {})}, **fields)


def asked(client: Client) -> int:
    return client.service.asked  # type: ignore[attr-defined, no-any-return]


def without_id(response: httpx.Response) -> dict[str, str]:
    return {
        name: value for name, value in response.headers.items() if name not in ("x-request-id", "idempotency-replayed")
    }


@pytest.mark.parametrize("accept", [{}, JSON])
@pytest.mark.parametrize("fields", [{}, {"store": "true", "inline": "false"}, {"output": "zip"}, {"feather_px": "1"}])
def test_the_same_again_is_the_same_answer_byte_for_byte(
    client: Client, accept: dict[str, str], fields: dict[str, str]
) -> None:
    first = keyed(client, headers=accept, **fields)
    second = keyed(client, headers=accept, **fields)
    assert (first.status_code, second.status_code) == (200, 200)
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert second.content == first.content
    assert without_id(second) == without_id(first)
    assert second.headers["x-request-id"] != first.headers["x-request-id"]
    assert asked(client) == 1


def test_defaults_that_are_written_out_are_the_same_request(client: Client) -> None:
    first = keyed(client)
    assert keyed(client, feather_px="0", alpha_threshold="10").content == first.content
    assert asked(client) == 1


def test_the_answer_is_the_first_ones_whatever_accept_says_now(client: Client) -> None:
    first = keyed(client, headers=JSON)
    assert keyed(client, headers={"accept": "*/*"}).json() == first.json()


@pytest.mark.parametrize("change", [{"data": OTHER}, {"feather_px": "1"}, {"name": "b"}, {"background_color": "red"}])
def test_the_key_with_another_request_is_refused_and_stays_the_firsts(client: Client, change: dict[str, Any]) -> None:
    first = keyed(client)
    error = error_of(keyed(client, **change), 422, "idempotency_key_reused")
    assert error["field"] == "Idempotency-Key"
    assert keyed(client).content == first.content
    assert asked(client) == 1


def test_without_a_key_or_with_another_one_everything_is_done_anew(client: Client) -> None:
    keyed(client)
    assert "idempotency-replayed" not in post(client).headers
    assert "idempotency-replayed" not in keyed(client, headers={"Idempotency-Key": "another"}).headers
    assert asked(client) == 3


def test_another_tenants_key_is_another_key(client: Client) -> None:
    once = idempotency.Idempotency(client.service)
    done: list[str] = []

    async def ask(tenant: str) -> str | None:
        async def answer() -> Response:
            done.append(tenant)
            return Response(tenant)

        TENANT.set(dataclasses.replace(ANONYMOUS, name=tenant))
        response = await once.once("key", Body(PHOTO), Wish(Options()), answer)
        assert response.body == tenant.encode()
        return response.headers.get("idempotency-replayed")

    async def story() -> list[str | None]:
        return [await ask(tenant) for tenant in ("a", "b", "a")]

    assert client.run(story()) == [None, None, "true"]
    assert done == ["a", "b"]


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\there", "schl\u00fcssel"])
def test_a_key_of_another_form_is_refused(client: Client, key: str) -> None:
    error = error_of(post(client, headers={"Idempotency-Key": key.encode("latin-1")}), 422, "invalid_option")  # type: ignore[dict-item]
    assert error["field"] == "Idempotency-Key"
    assert asked(client) == 0


def test_a_key_of_255_characters_is_taken(client: Client) -> None:
    assert post(client, headers={"Idempotency-Key": "~" * 255}).status_code == 200


def test_while_the_first_is_in_work_the_second_is_told_to_wait_on_every_replica(tmp_path: Path) -> None:
    pool = Pool(tmp_path, max_bytes=0)
    with Client(pool) as here, Client(pool) as there:

        async def story() -> tuple[httpx.Response, list[httpx.Response], httpx.Response]:
            def send(client: Client) -> Any:
                return client.http.post("/v1/mattes", files={"file": PHOTO}, headers=KEY)

            pool.gate.clear()
            first = asyncio.create_task(send(here))
            await until(lambda: pool.asked == 1)
            refused = [await send(here), await send(there)]
            pool.gate.set()
            return await first, refused, await send(there)

        first, refused, again = here.run(story())
    for one in refused:
        assert error_of(one, 409, "idempotency_in_progress")["retry_after_s"] == idempotency.RETRY_S
    assert first.status_code == 200
    assert again.headers["idempotency-replayed"] == "true"
    assert again.content == first.content
    assert pool.asked == 1


def test_a_first_request_whose_client_left_leaves_the_key_free(tmp_path: Path) -> None:
    pool = Pool(tmp_path, max_bytes=0)
    with Client(pool) as client:

        async def story() -> httpx.Response:
            pool.gate.clear()
            first = asyncio.create_task(client.http.post("/v1/mattes", files={"file": PHOTO}, headers=KEY))
            await until(lambda: pool.asked == 1)
            first.cancel()
            await asyncio.wait([first])
            pool.gate.set()
            return await client.http.post("/v1/mattes", files={"file": PHOTO}, headers=KEY)

        answer = client.run(story())
    assert (answer.status_code, "idempotency-replayed" in answer.headers) == (200, False)


def test_an_error_of_the_photo_is_the_keys_answer(client: Client) -> None:
    first = keyed(client, EMPTY)
    error_of(first, 422, "no_foreground")
    second = keyed(client, EMPTY)
    assert (second.status_code, second.content) == (422, first.content)
    assert second.headers["idempotency-replayed"] == "true"
    assert asked(client) == 1


@pytest.mark.parametrize(
    "trouble",
    [
        Overloaded("The service is at its limit; try again.", retry_after_s=2),
        Unavailable("Compose was restarted too often; try again.", retry_after_s=2),
        ValueError("unforeseen"),
    ],
)
def test_what_may_pass_is_not_kept(client: Client, trouble: Exception) -> None:
    client.service.failures.append(trouble)  # type: ignore[attr-defined]
    assert keyed(client).status_code in (429, 500, 503)
    answer = keyed(client)
    assert (answer.status_code, "idempotency-replayed" in answer.headers) == (200, False)


@pytest.mark.parametrize("status", [200, 400, 403, 404, 413, 415, 422])
def test_answers_that_will_not_change_are_kept(status: int) -> None:
    assert is_kept(status)


@pytest.mark.parametrize("status", [408, 429, 500, 503, 504])
def test_answers_that_may_change_are_not_kept(status: int) -> None:
    assert not is_kept(status)


def test_options_that_are_refused_do_not_use_the_key_up(client: Client) -> None:
    error_of(keyed(client, feather_px="99"), 422, "invalid_option")
    assert keyed(client).status_code == 200


def test_a_photo_by_url_goes_by_the_url_and_is_not_fetched_again(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []

    async def failing(url: str, **_: Any) -> Any:
        fetched.append(url)
        raise FetchFailed("The server answered 404.", field="image_url")

    monkeypatch.setattr(client.service.fetcher, "fetch", failing)

    def send(url: str) -> httpx.Response:
        return client.post("/v1/mattes", json={"image_url": url}, headers=KEY)

    first, second = send("https://a.example/1.jpg"), send("https://a.example/1.jpg")
    error_of(first, 422, "fetch_failed")
    assert second.content == first.content
    error_of(send("https://a.example/2.jpg"), 422, "idempotency_key_reused")
    assert fetched == ["https://a.example/1.jpg"]


def test_an_answer_too_old_is_forgotten(tmp_path: Path) -> None:
    with Client(Pool(tmp_path, max_bytes=0, idempotency_ttl_s=1e-9)) as client:
        keyed(client)
        assert "idempotency-replayed" not in keyed(client, feather_px="1").headers


def test_a_damaged_record_is_a_new_request(client: Client) -> None:
    keyed(client)
    store = client.service.store
    (key,) = store.list(f"{IDEMPOTENCY}objects/")
    store.put(key, store.get(key)[:-1], content_type="x/y")
    answer = keyed(client)
    assert (answer.status_code, "idempotency-replayed" in answer.headers) == (200, False)


def test_without_a_store_a_request_with_a_key_is_refused_before_any_work(tmp_path: Path) -> None:
    pool = Pool(tmp_path, max_bytes=0)
    pool.store = AwayStore()  # type: ignore[assignment]
    with Client(pool) as client:
        error_of(keyed(client), 503, "unavailable")
        assert pool.asked == 0
        assert post(client).status_code == 200


def test_an_answer_that_cannot_be_kept_is_given_and_says_so(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    away = AwayStore()
    monkeypatch.setattr(type(client.service.store), "put", away.put)
    answer = keyed(client)
    assert answer.status_code == 200
    assert answer.headers["x-mattehorn-warnings"] == "idempotency_not_kept"
    monkeypatch.undo()
    assert "x-mattehorn-warnings" not in keyed(client).headers


def test_without_the_tally_a_key_still_has_one_answer(tmp_path: Path) -> None:
    pool = Pool(tmp_path, max_bytes=0)
    pool.tally = AwayTally()  # type: ignore[assignment]
    with Client(pool) as client:
        first, second = keyed(client), keyed(client)
        assert second.headers["idempotency-replayed"] == "true"
        assert second.content == first.content


def test_the_header_and_its_409_are_in_the_openapi_document(client: Client) -> None:
    described = client.get("/openapi.json").json()["paths"]["/v1/mattes"]["post"]
    (header,) = described["parameters"]
    assert (header["name"], header["in"]) == ("Idempotency-Key", "header")
    assert "409" in described["responses"]


def test_every_option_counts_for_a_key() -> None:
    from mattehorn.cache.idempotency import fingerprint

    wishes = [{}, {"inline": False, "store": True}, {"store": True}, {"sku": "a"}, {"name": "a"}, {"dpi": 300}]
    assert len({fingerprint(b"photo", None, Options(**wish)) for wish in wishes}) == len(wishes)
    assert fingerprint(b"photo", None, Options()) != fingerprint("photo", None, Options())
    assert fingerprint(b"photo", b"", Options()) != fingerprint(b"photo", None, Options())
