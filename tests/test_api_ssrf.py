"""URLs that mean harm, at every door that takes one: the documented 4xx, in time, and logged without what is secret."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httpx
import pytest

from mattehorn.fetch.fetch import Fetcher
from tests.api_client import PHOTO, Client
from tests.fetch.servers import Names
from tests.service import InProcessService
from tests.sites import BOASTS, CUT, ENDLESS, Site, site

PATIENT = {"fetch_s": 60.0, "fetch_connect_s": 60.0, "work_s": 60.0, "body_bytes": 2**20}  # only bytes end a fetch
NAME = "rebind.example"
SECRET = "signature-of-the-caller"
METADATA = "169.254.169.254"


@dataclass(frozen=True)
class Door:
    """One way in for a URL. `answers` maps what is wrong to (status, code); rembg's answers have no code."""

    name: str
    ask: Callable[[Client, str], httpx.Response]
    refused: tuple[int, str]
    too_large: tuple[int, str]
    failed: tuple[int, str]

    def __str__(self) -> str:
        return self.name


def _sent(path: str, part: str, field: str) -> Callable[[Client, str], httpx.Response]:
    return lambda client, url: client.post(path, files={part: ("a.png", PHOTO)}, data={field: url})


DOORS = [
    Door(
        "native photo",
        lambda client, url: client.post("/v1/mattes", json={"image_url": url}),
        (400, "url_not_allowed"),
        (413, "body_too_large"),
        (422, "fetch_failed"),
    ),
    Door(
        "native background",
        _sent("/v1/mattes", "file", "background_url"),
        (400, "url_not_allowed"),
        (413, "body_too_large"),
        (422, "fetch_failed"),
    ),
    Door(
        "rembg GET",
        lambda client, url: client.get("/api/remove", params={"url": url}),
        (400, ""),
        (413, ""),
        (400, ""),
    ),
    Door(
        "rembg POST",
        lambda client, url: client.post("/api/remove", data={"url": url}),
        (400, ""),
        (413, ""),
        (400, ""),
    ),
    Door(
        "remove.bg photo",
        lambda client, url: client.post("/v1.0/removebg", json={"image_url": url}),
        (400, "invalid_image_url"),
        (400, "file_too_large"),
        (400, "failed_image_download"),
    ),
    Door(
        "remove.bg background",
        _sent("/v1.0/removebg", "image_file", "bg_image_url"),
        (400, "invalid_bg_image_url"),
        (400, "file_too_large"),
        (400, "failed_bg_download"),
    ),
    Door(
        "carvekit photo",
        lambda client, url: client.post("/api/removebg", json={"image_url": url}),
        (400, "invalid_image_url"),
        (400, "file_too_large"),
        (400, "failed_image_download"),
    ),
]
every_door = pytest.mark.parametrize("door", DOORS, ids=str)


@pytest.fixture(scope="module")
def harm() -> Iterator[Site]:
    pages: dict[str, bytes | str] = {
        "to-the-name": f"http://{NAME}/cup.png?{SECRET}",
        "to-a-file": "file:///etc/passwd",
        "endless": ENDLESS,
        "cut": CUT,
        "boasts": BOASTS,
    }
    with site(PHOTO, **pages) as started:
        yield started


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, harm: Site) -> Iterator[Client]:
    """A service that may ask the site on its port, by address and by name; on port 80 the name has to be public."""
    allow = [harm.place, f"{NAME}:{harm.port}"]
    limits = {"url_allow": allow, "limits": PATIENT, "removebg": {"body_bytes": 2**20, "work_s": 60.0}}
    with Client(InProcessService(tmp_path_factory.mktemp("results"), **limits)) as client:
        yield client


@pytest.fixture
def names(client: Client) -> Names:
    """The name is the site at the first look-up, and the cloud's metadata from the second on."""
    found = Names(rebind__example=[["127.0.0.1"], [METADATA]])
    by = client.service.fetcher
    client.service.fetcher = Fetcher(by.policy, by.limits, resolve=found)
    return found


def check(response: httpx.Response, expected: tuple[int, str], log: pytest.LogCaptureFixture) -> None:
    """The documented answer, told and logged without the address behind it; logged without the query."""
    status, code = expected
    assert response.status_code == status, response.text
    said = response.json()
    found = said["detail"] and "" if "detail" in said else (said.get("errors") or [said.get("error")])[0]["code"]
    assert found == code
    for hidden in (METADATA, "passwd"):  # remove.bg tells a background's own URL back to its caller
        assert hidden not in response.text
    for hidden in (METADATA, "passwd", SECRET):
        assert hidden not in log.text
    (line,) = (record.getMessage() for record in log.records if record.getMessage().startswith("url_refused"))
    assert f"request_id={response.headers['x-request-id']} " in line
    assert re.search(r" code=(url_not_allowed|fetch_failed|body_too_large) ", line)


@every_door
def test_a_name_that_is_the_metadata_service_at_its_second_look_up_is_refused(
    client: Client, harm: Site, names: Names, door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "mattehorn")  # not the test's own client, which logs what it asks
    asked = len(harm.asked)
    check(door.ask(client, f"http://{NAME}:{harm.port}/to-the-name?{SECRET}"), door.refused, caplog)
    assert names.asked == [NAME, NAME]
    assert len(harm.asked) == asked + 1


@every_door
def test_one_url_is_looked_up_once_and_asked_where_that_led(
    client: Client, harm: Site, names: Names, door: Door
) -> None:
    assert door.ask(client, f"http://{NAME}:{harm.port}/cup.png").status_code == 200
    assert names.asked == [NAME]


@every_door
def test_a_redirect_to_a_file_is_refused(
    client: Client, harm: Site, door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "mattehorn")
    check(door.ask(client, harm.url(f"/to-a-file?{SECRET}")), door.refused, caplog)


@every_door
@pytest.mark.parametrize("path", ["/endless", "/boasts"])
def test_what_streams_forever_or_says_so_is_given_up_at_the_limit(
    client: Client, harm: Site, door: Door, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "mattehorn")
    harm.broken_off.clear()
    check(door.ask(client, harm.url(f"{path}?{SECRET}")), door.too_large, caplog)
    assert path == "/boasts" or harm.broken_off.wait(60), "the connection stays open"
    assert client.service.admission.in_flight == 0


@every_door
def test_a_body_that_ends_before_its_length_is_no_picture(
    client: Client, harm: Site, door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "mattehorn")
    check(door.ask(client, harm.url(f"/cut?{SECRET}")), door.failed, caplog)
