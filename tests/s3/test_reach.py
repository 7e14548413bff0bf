"""A job over a bucket that is not there is refused before it is made; nobody would hear of it afterwards."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import pytest

from mattehorn.bulk.places import Places
from mattehorn.bulk.reach import BUCKETS_MOST, require_buckets
from mattehorn.cli.main import main
from mattehorn.errors import OptionError, StoreUnavailable
from mattehorn.settings import StoreSettings
from tests.api_client import Client, error_of
from tests.service import InProcessService
from tests.test_store import LocalStore

from .conftest import BUCKET, settings_for
from .swift import S3Server

NONE = "no-such-" + secrets.token_hex(6)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"input": {"prefix": f"s3://{NONE}/in/"}}, "input.prefix"),
        ({"input": {"keys": [f"s3://{BUCKET}/a.jpg", f"s3://{NONE}/b.jpg"]}}, "input.keys"),
        ({"input": {"prefix": f"s3://{BUCKET}/in/"}, "output": f"s3://{NONE}/out/"}, "output"),
    ],
)
def test_a_bucket_that_is_not_there_is_refused_by_its_field(
    s3_server: S3Server, body: dict[str, Any], field: str
) -> None:
    places = Places(settings_for(s3_server))
    with pytest.raises(OptionError, match=f"no bucket '{NONE}'") as refused:
        require_buckets(places, body)
    assert refused.value.data["field"] == field


@pytest.mark.parametrize(
    "body",
    [
        {"input": {"prefix": f"s3://{BUCKET}/nothing/"}, "output": f"s3://{BUCKET}/out/"},
        {"input": {"keys": [f"s3://{BUCKET}/a.jpg", "b.jpg"]}},
        {"input": {"manifest": f"s3://{NONE}/m.csv"}},  # looked for by name when the job is made
        {"input": {"prefix": "https://host/"}, "output": 7},
        {"input": "s3://x/"},
        {"input": {"keys": [7, None]}},
        {},
    ],
)
def test_what_is_there_or_is_refused_elsewhere_passes(s3_server: S3Server, body: dict[str, Any]) -> None:
    require_buckets(Places(settings_for(s3_server)), body)


def test_no_job_is_made_over_a_bucket_that_is_not_there(s3_server: S3Server, tmp_path: Path) -> None:
    settings = settings_for(s3_server).model_dump()
    queue = {"url": f"sqlite:///{tmp_path}/queue.db"}
    body = {"input": {"prefix": f"s3://{NONE}/in/"}, "recipe": "transparent-web"}
    with Client(InProcessService(tmp_path, store=settings, queue=queue)) as client:
        error = error_of(client.post("/v1/jobs", json=body), 422, "invalid_option")
        assert error["field"] == "input.prefix"
        assert client.get("/v1/jobs").json()["jobs"] == []


def test_a_local_job_over_a_bucket_that_is_not_there_ends_at_once(
    s3_server: S3Server, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = settings_for(s3_server).model_dump(exclude_none=True, exclude_defaults=True)
    flags = [flag for name, value in settings.items() for flag in ("--set", f"store.{name}={value}")]
    flags += ["--set", "model=fake"]
    assert main(["submit", f"s3://{NONE}/in/", "--recipe", "transparent-web", "--local", *flags]) == 2
    assert f"no bucket '{NONE}'" in capsys.readouterr().err


class Refuses(LocalStore):
    """Lists nothing; counts how often it was asked to."""

    asked = 0

    def list(self, prefix: str, start_after: str | None = None) -> Any:
        type(self).asked += 1
        raise StoreUnavailable("403: s3:ListBucket is missing.", retry_after_s=30)


def test_the_right_to_list_is_needed_for_a_prefix_alone(tmp_path: Path) -> None:
    settings = StoreSettings(url=tmp_path.as_uri())
    places = Places(settings, open_bucket=lambda bucket, settings: Refuses(tmp_path / bucket))
    require_buckets(places, {"input": {"keys": ["s3://aaa/x.jpg"]}, "output": "s3://bbb/"})
    with pytest.raises(StoreUnavailable, match="ListBucket"):
        require_buckets(places, {"input": {"prefix": "s3://aaa/in/"}})


def test_of_many_buckets_a_few_are_looked_at(tmp_path: Path) -> None:
    settings = StoreSettings(url=tmp_path.as_uri())
    places = Places(settings, open_bucket=lambda bucket, settings: Refuses(tmp_path / bucket))
    Refuses.asked = 0
    require_buckets(places, {"input": {"keys": [f"s3://bucket-{number % 100}/x.jpg" for number in range(1000)]}})
    assert Refuses.asked == BUCKETS_MOST
