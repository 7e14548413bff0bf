"""Fixtures that several files share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.clients.npm import install_remove_bg

if TYPE_CHECKING:
    from tests.api_client import Client
    from tests.bulk_bench import Bench
    from tests.bulk_http import Site

__all__ = ["install_remove_bg"]  # once for tests/clients and tests/ray


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from tests.spread import OneServiceAtATime  # here: a run in one process needs no pytest-xdist

    return OneServiceAtATime(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first, in every process alike: what comes last should be short."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Requests to one service in this process, for tests that leave it as it is."""
    from tests.api_client import Client  # here: the others need not wait for Ray's import
    from tests.service import InProcessService

    with Client(InProcessService(tmp_path_factory.mktemp("results"))) as client:
        yield client


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Bulk work in this process: a results folder, a queue, a worker."""
    from tests.bulk_bench import Bench

    made = Bench(tmp_path)
    yield made
    made.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """The HTTP service over such a bench."""
    from tests.bulk_http import Site

    made = Site(tmp_path)
    yield made
    made.close()
