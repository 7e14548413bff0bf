"""The S3 servers of the store's tests, for services and jobs that keep their results there, and one running service.

Files that ask the service are named test_service*.py: they run last and one after the other, so it starts only once and
beside no other.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.ray.load import photo
from tests.ray.running import Running, running
from tests.s3.conftest import moto_s3, set_keys, settings_for, swift_s3
from tests.s3.swift import S3Server
from tests.sites import ENDLESS, Site, site

__all__ = ["moto_s3", "set_keys", "swift_s3"]


@pytest.fixture(scope="package")
def shop() -> Iterator[Site]:
    """A web site that the service may fetch pictures from."""
    pages: dict[str, bytes | str] = {"to-a-file": "file:///etc/passwd", "endless": ENDLESS, "gone": "404"}
    with site(photo(3), **pages) as started:
        yield started


@pytest.fixture(scope="package")
def service(tmp_path_factory: pytest.TempPathFactory, swift_s3: S3Server, shop: Site) -> Iterator[Running]:
    """The fake model, and a packaged one as the stronger, over a results store in Swift."""
    place = settings_for(swift_s3, prefix="interactive").model_dump(exclude_defaults=True)
    pairs = [f"store.{name}={value}" for name, value in place.items()]
    pairs += ["model=fake", "strong_model=mattehorn-slim"]
    pairs += ["bulk.uploads_kept_s=0"]  # so that a look at uploads comes every 10 s
    pairs += [f'url_allow=["{shop.place}"]']
    with running(tmp_path_factory.mktemp("service"), *pairs, environment=keys(swift_s3)) as started:
        yield started


@pytest.fixture(scope="package")
def url(service: Running) -> str:
    return service.url


def keys(server: S3Server) -> dict[str, str]:
    return {"AWS_ACCESS_KEY_ID": server.access_key, "AWS_SECRET_ACCESS_KEY": server.secret_key}
