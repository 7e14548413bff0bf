"""Fixtures that several files share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.api_client import Client


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Requests to one service in this process, for tests that leave it as it is."""
    from tests.api_client import Client  # here: the others need not wait for Ray's import
    from tests.service import InProcessService

    with Client(InProcessService(tmp_path_factory.mktemp("results"))) as client:
        yield client
