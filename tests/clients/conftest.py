"""A service for the published clients: in this process here; tests/ray has them on the running one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clients.scene import PICTURE
from tests.service import InProcessService, serving
from tests.sites import Site, site


@pytest.fixture(scope="module")
def shop() -> Iterator[Site]:
    """A web site that the service may fetch pictures from."""
    with site(PICTURE, gone="404") as started:
        yield started


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, shop: Site) -> Iterator[str]:
    with serving(InProcessService(tmp_path_factory.mktemp("results"), url_allow=[shop.place])) as base:
        yield base
