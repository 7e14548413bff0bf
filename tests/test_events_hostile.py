"""Whatever a body holds, reading it gives a result or EventError, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mattehorn.errors import EventError
from mattehorn.events import ParsedEvent, parse_event, ref_from_json
from mattehorn.events.json_body import MAX_BODY_BYTES, MAX_DEPTH
from tests.golden_events import GOLDEN, body_of, dumped, in_sns, one, s3_record

RECORDS = body_of({"body": {"Records": [s3_record()]}})
HOSTILE = {
    "nothing": b"",
    "no json": b"hello",
    "half": RECORDS[:-5],
    "a number": b"7",
    "null": b"null",
    "an array": b"[]",
    "a text": b'"x"',
    "an unknown form": b'{"hello": 1}',
    "our own message": b'{"mattehorn": 1, "kind": "object"}',
    "not utf-8": b'{"Records": "\xff"}',
    "utf-16": RECORDS.encode("utf-16"),
    "lone surrogate in the text": '{"Records": "\ud800"}',
    "deep arrays": b'{"Records":' + b"[" * 100_000,
    "deep objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "deep after many quotes": b'{"' + b'\\"' * 60_000 + b'":' + b"[" * 1000,
    "an open string": b'{"' + b'\\"' * 100_000,
    "a huge number": b'{"Records": ' + b"9" * 100_000 + b"}",
    "a huge exponent": b'{"Records": 1e99999999}',
    "NaN": b'{"Records": [NaN]}',
    "infinity": b'{"Records": [-Infinity]}',
    "a name twice": b'{"Records": [], "Records": []}',
    "a key twice": RECORDS.replace('"key": "a.jpg"', '"key": "a.jpg", "key": "b.jpg"'),
    "too large": b'{"Records": [' + b" " * MAX_BODY_BYTES + b"]}",
    "too large as text": "{" + "é" * MAX_BODY_BYTES + "}",
    "records of texts": b'{"Records": ["a"]}',
    "records as an object": b'{"Records": {}}',
    "an s3 that is a text": b'{"Records": [{"eventName": "ObjectCreated:Put", "s3": "x"}]}',
    "no event name": b'{"Records": [{}]}',
    "an event name that is a number": b'{"Records": [{"eventName": 5}]}',
    "SNS without a message": b'{"Type": "Notification", "TopicArn": "t"}',
    "SNS with prose": in_sns(b"hello"),
    "Pub/Sub without an object": b'{"message": {"attributes": {"eventType": "OBJECT_FINALIZE"}}}',
    "Pub/Sub with broken data": b'{"message": {"attributes": {"eventType": "OBJECT_FINALIZE"}, "data": "%%"}}',
    "Pub/Sub with data that is a number": b'{"message": {"attributes": {"eventType": "OBJECT_FINALIZE"}, "data": 5}}',
    "a CloudEvent without a type": b'{"specversion": "1.0"}',
    "a CloudEvent whose data is an array": b'{"specversion": "1.0", "type": "t", "data": []}',
    "a CloudEvent with broken base64": b'{"specversion": "1.0", "type": "t", "data_base64": "%"}',
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_body_is_an_event_error(name: str) -> None:
    with pytest.raises(EventError) as caught:
        parse_event(HOSTILE[name])
    assert (caught.value.code, caught.value.status) == ("invalid_event", 400)
    assert len(caught.value.message) < 400


def test_the_depth_allowed_is_reached_and_not_passed() -> None:
    inner = MAX_DEPTH - 1
    assert parse_event('{"Records": [], "x": ' + "[" * inner + "]" * inner + "}") == ParsedEvent((), ())
    with pytest.raises(EventError, match="nested"):
        parse_event('{"Records": [], "x": ' + "[" * (inner + 1) + "]" * (inner + 1) + "}")


def test_brackets_inside_a_text_are_no_depth() -> None:
    assert one(key="[" * 900).key == "[" * 900
    assert one(key='"' + "{" * 900).key == '"' + "{" * 900


def test_a_body_of_just_the_size_allowed_is_read() -> None:
    body = dumped({"Records": []})
    assert parse_event(body + b" " * (MAX_BODY_BYTES - len(body))) == ParsedEvent((), ())


JSON_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(st.characters(), max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=4,
)


def paths(document: object, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value inside `document`."""
    inner = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    return [way for name, value in inner for way in ((*here, name), *paths(value, (*here, name)))]


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_golden_event_with_one_value_changed_gives_a_result_or_an_event_error(data: st.DataObject) -> None:
    golden = GOLDEN[data.draw(st.sampled_from([name for name in GOLDEN if "body" in GOLDEN[name]]))]
    document = json.loads(json.dumps(golden["body"]))
    way = data.draw(st.sampled_from(paths(document)))
    holder = document
    for name in way[:-1]:
        holder = holder[name]
    holder[way[-1]] = data.draw(JSON_VALUES)
    try:
        found = parse_event(json.dumps(document), golden.get("headers"))
    except EventError:
        return
    for ref in found.objects:
        assert ref.key.encode("utf-8")
        assert ref_from_json(json.loads(json.dumps(ref.to_json()))) == ref
    assert all(name.isascii() and name.isprintable() for name in found.ignored)


@settings(max_examples=200, deadline=None)
@given(body=st.one_of(st.binary(max_size=200), st.text(st.characters(), max_size=200), JSON_VALUES.map(json.dumps)))
def test_any_bytes_give_a_result_or_an_event_error(body: bytes | str) -> None:
    try:
        found = parse_event(body)
    except EventError:
        return
    assert isinstance(found, ParsedEvent)
