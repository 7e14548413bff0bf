"""The error tree: what its docstring draws is what there is, and every error survives a process border."""

from __future__ import annotations

import pickle
import re

import pytest

from mattehorn import errors
from mattehorn.errors import MattehornError, Overloaded, StoreUnavailable

CLASSES = sorted(
    (kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, MattehornError)),
    key=lambda kind: kind.__name__,
)

# the contract's table of codes (1.6), as far as this version can reach them
CONTRACT = {
    400: {"invalid_body", "invalid_event", "missing_image", "multiple_images", "url_not_allowed"},
    403: {"model_not_allowed"},
    404: {"not_found", "result_not_found"},
    405: {"method_not_allowed"},
    406: {"not_acceptable"},
    409: {"idempotency_in_progress"},
    408: {"upload_timeout"},
    413: {"body_too_large", "image_too_large"},
    415: {"unsupported_media_type", "unsupported_image"},
    422: {
        "invalid_option",
        "unknown_option",
        "conflicting_options",
        "unknown_model",
        "unknown_recipe",
        "idempotency_key_reused",
        "corrupt_image",
        "low_quality",
        "no_foreground",
        "fetch_failed",
    },
    429: {"overloaded", "rate_limited", "quota_exceeded"},
    500: {"internal"},
    503: {"model_loading", "unavailable"},
    504: {"deadline_exceeded"},
}


def drawn_tree() -> list[tuple[str, str, int, int]]:
    """(class, code, status, depth) of every line of the docstring's tree."""
    line = re.compile(r"^([│├└─ ]*)([A-Z]\w+) +([a-z_]+) +(\d{3})", re.MULTILINE)
    found = line.findall(errors.__doc__ or "")
    return [(name, code, int(status), len(lead) // 3) for lead, name, code, status in found]


def test_the_docstring_draws_exactly_the_classes_that_exist() -> None:
    assert {name for name, *_ in drawn_tree()} == {kind.__name__ for kind in CLASSES}


def test_the_docstring_gives_each_class_its_code_status_and_parent() -> None:
    branch: list[str] = []
    for name, code, status, depth in drawn_tree():
        kind = getattr(errors, name)
        assert (kind.code, kind.status) == (code, status), name
        branch = [*branch[:depth], name]
        if depth:
            assert kind.__bases__[0].__name__ == branch[depth - 1], name


def test_codes_and_statuses_are_those_of_the_contract() -> None:
    found: dict[int, set[str]] = {}
    for kind in CLASSES:
        found.setdefault(kind.status, set()).add(kind.code)
    assert found == CONTRACT


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_an_error_crosses_a_process_border_whole(kind: type[MattehornError]) -> None:
    details = [{"code": "invalid_option", "field": "roi", "message": "m"}]
    sent = kind("what came, what was allowed", field="roi", details=details, retry_after_s=3)
    came = pickle.loads(pickle.dumps(sent))
    assert type(came) is kind
    assert (came.message, str(came), came.data) == (sent.message, sent.message, sent.data)
    assert (came.code, came.status, came.retry_after_s) == (sent.code, sent.status, 3)


def test_retry_after_is_whole_seconds_and_at_least_one() -> None:
    assert Overloaded("m", retry_after_s=0.2).retry_after_s == 1
    assert StoreUnavailable("m", retry_after_s=7.9).retry_after_s == 7
    assert Overloaded("m").retry_after_s is None
