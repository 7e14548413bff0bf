"""The native API's table of errors, row by row. tests/ray asks the running service the same."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.api_client import error_of
from tests.native_table import ELSEWHERE, TABLE, Row, ask
from tests.service import InProcessService, serving
from tests.sites import Site, site

CONTRACT = """
invalid_body missing_image multiple_images url_not_allowed missing_key invalid_key forbidden model_not_allowed not_found
result_not_found job_not_found method_not_allowed not_acceptable upload_timeout idempotency_in_progress job_running
body_too_large image_too_large unsupported_media_type unsupported_image invalid_option unknown_option
conflicting_options unknown_model unknown_recipe corrupt_image no_foreground fetch_failed idempotency_key_reused
rate_limited quota_exceeded overloaded internal model_loading unavailable deadline_exceeded
"""


@pytest.fixture(scope="module")
def shop() -> Iterator[Site]:
    with site(b"", gone="404") as started:
        yield started


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, shop: Site) -> Iterator[str]:
    with serving(InProcessService(tmp_path_factory.mktemp("results"), url_allow=[shop.place])) as base:
        yield base


@pytest.mark.parametrize("row", TABLE, ids=str)
def test_every_row_of_the_native_error_table(url: str, shop: Site, row: Row) -> None:
    error_of(ask(url, shop.url(""), row), row.status, row.code)


def test_the_table_and_what_is_tested_elsewhere_are_the_contracts_codes() -> None:
    rows = {row.code for row in TABLE}
    assert rows | ELSEWHERE == set(CONTRACT.split())
    assert not rows & ELSEWHERE
