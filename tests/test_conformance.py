"""Every answer is as the service's own OpenAPI document says: schemathesis asks all operations, over HTTP."""

from __future__ import annotations

from pathlib import Path

from tests import conformance
from tests.service import InProcessService, serving


def test_every_answer_is_as_the_openapi_document_says(tmp_path: Path) -> None:
    removebg = {"megapixels_per_minute": 10**6, "improve": True}  # no answer but 429 were left of its 500
    with serving(InProcessService(tmp_path, removebg=removebg)) as url:
        conformance.check(url, tmp_path, 6)


def test_without_a_key_every_refusal_is_as_the_openapi_document_says(tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    keys.touch()
    with serving(InProcessService(tmp_path / "results", keys_file=str(keys))) as url:
        conformance.check(url, tmp_path, 1, "fuzzing", known=["0" * 26])
