"""The contracts on the running service: published clients, tables of errors, and schemathesis over every operation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests import conformance
from tests.clients.scene import PICTURE
from tests.clients.test_published import (
    npm,
    photo_file,
    python_client,
    test_npm_crops_and_scales_as_asked,
    test_npm_cuts_out_a_file_and_reads_every_header,
    test_npm_cuts_out_base64_and_what_lies_at_a_url,
    test_npm_rejects_with_the_titles_that_its_users_show,
    test_removebg_of_pypi_cuts_out_a_file_a_url_and_base64,
    test_removebg_of_pypi_raises_what_it_raises_for_a_bad_request,
)
from tests.clients.test_raw import (
    test_a_form_whose_last_boundary_has_no_newline_is_read,
    test_rembgs_curl_lines_give_what_rembg_gives,
    test_the_node_cli_gets_the_type_that_it_asks_for,
    test_the_node_clis_empty_options_are_not_sent_and_its_zip_is_one,
    test_the_ruby_gem_finds_a_title_in_every_error,
    test_the_ruby_gem_reads_a_zip_and_the_headers_of_its_result,
    test_the_ruby_gem_reads_the_account_with_its_strict_keywords,
)
from tests.removebg_table import FAULTS, PARAMETERS, Fault, Row, check_fault, check_parameter
from tests.test_native_table import test_every_row_of_the_native_error_table

pytestmark = [pytest.mark.ray, pytest.mark.slow]

# the clients' own tests, here with this folder's `url` and `shop`
__all__ = [
    "npm",
    "photo_file",
    "python_client",
    "test_a_form_whose_last_boundary_has_no_newline_is_read",
    "test_every_row_of_the_native_error_table",
    "test_npm_crops_and_scales_as_asked",
    "test_npm_cuts_out_a_file_and_reads_every_header",
    "test_npm_cuts_out_base64_and_what_lies_at_a_url",
    "test_npm_rejects_with_the_titles_that_its_users_show",
    "test_rembgs_curl_lines_give_what_rembg_gives",
    "test_removebg_of_pypi_cuts_out_a_file_a_url_and_base64",
    "test_removebg_of_pypi_raises_what_it_raises_for_a_bad_request",
    "test_the_node_cli_gets_the_type_that_it_asks_for",
    "test_the_node_clis_empty_options_are_not_sent_and_its_zip_is_one",
    "test_the_ruby_gem_finds_a_title_in_every_error",
    "test_the_ruby_gem_reads_a_zip_and_the_headers_of_its_result",
    "test_the_ruby_gem_reads_the_account_with_its_strict_keywords",
]


def test_every_answer_of_the_running_service_is_as_its_openapi_document_says(url: str, tmp_path: Path) -> None:
    conformance.check(url, tmp_path, 3, "fuzzing")


@pytest.fixture(scope="module")
def asked(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=60) as client:
        yield client


@pytest.mark.parametrize("row", PARAMETERS, ids=lambda row: f"{row.name}-{row.code}")
def test_every_parameter_of_remove_bg_takes_its_good_values_and_refuses_bad_ones(asked: httpx.Client, row: Row) -> None:
    check_parameter(asked, row, PICTURE)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_every_fault_that_remove_bg_knows_has_its_code_and_title(asked: httpx.Client, fault: Fault) -> None:
    check_fault(asked, fault, PICTURE)
