"""The photos that a job names: listed keys, a prefix, or a manifest, as one stream of references.

Manifests: CSV `bucket,key[,version]` with URL-encoded keys, as S3 Batch Operations takes them; JSON lines (keys as they
are); an S3 Inventory's `manifest.json` with CSV parts. CSV and JSON lines may be gzipped. All are read as streams.

What it is not: it places no shards (listing.py) and opens no photo. Every stream gives the same photos in the same
order when it is read again, or fails: a manifest that was changed since the job was made is refused.
"""

from __future__ import annotations

import codecs
import csv
import hashlib
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import unquote_plus

from mattehorn.bulk.places import Place, Places
from mattehorn.errors import OptionError
from mattehorn.events import ObjectRef
from mattehorn.store.interface import Store

LINE_CHARS = 64 * 2**10  # a key has 1 kB, and an inventory row a dozen short fields
INVENTORY_BYTES = 4 * 2**20  # a manifest.json names its parts, some 200 bytes each
INFLATED_BYTES = 4 * 2**20  # at once: a chunk of zeros would else become a thousand times as much
GZIP = b"\x1f\x8b"
SEEN_BYTES = 8  # of a photo's digest, to leave out what a manifest names twice: 100 million photos collide once in 3700
EVENT = "job"  # the reference's event_name


def reference(place: Place, version_id: str | None = None, etag: str | None = None) -> ObjectRef:
    """A photo that a job names."""
    return ObjectRef("job", place.bucket, place.key, version_id or None, etag, None, None, None, EVENT)


def from_prefix(
    store: Store, prefix: Place, after: str | None, skip: Callable[[str, str], bool]
) -> Iterator[ObjectRef]:
    """Every object under the prefix, in the store's order, after the key `after`; folder markers are left out."""
    for key in store.list(prefix.key, after):
        if not key.endswith("/") and not skip(prefix.bucket, key):
            yield reference(Place(prefix.bucket, key))


def from_keys(data: bytes, places: Places) -> Iterator[ObjectRef]:
    """The keys of an `input.jsonl`, one JSON string a line: places' texts, checked when the job was made."""
    for text in data.split(b"\n"):
        if text:
            yield reference(places.parse(json.loads(text), "input.keys"))


def from_manifest(manifest: Place, etag: str | None, places: Places) -> Iterator[ObjectRef]:
    """The photos of a manifest, each once. Raises OptionError for one that cannot be read, StoreKeyChanged when it is
    no longer the one with `etag`, StoreKeyMissing when it is gone."""
    name = manifest.key.lower()
    store = places.store(manifest.bucket)
    if name.endswith("manifest.json"):
        rows = _inventory(store, manifest, etag, places)
    else:
        lines = _lines(store, manifest, etag)
        is_json = name.removesuffix(".gz").endswith((".jsonl", ".ndjson", ".json"))
        rows = _json_rows(lines, places) if is_json else _csv_rows(lines, places)
    return _once(rows)


def _once(rows: Iterable[ObjectRef]) -> Iterator[ObjectRef]:
    """About 100 bytes of memory a photo, so that none is worked on or counted twice."""
    seen: set[bytes] = set()
    for ref in rows:
        name = f"{ref.bucket}\0{ref.key}\0{ref.version_id or ''}".encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(name, digest_size=SEEN_BYTES).digest()
        if digest not in seen:
            seen.add(digest)
            yield ref


def _csv_rows(lines: Iterator[str], places: Places) -> Iterator[ObjectRef]:
    for number, row in enumerate(_csv(lines), start=1):
        if not row or (number == 1 and [name.strip().lower() for name in row[:2]] == ["bucket", "key"]):
            continue
        if len(row) not in (2, 3):
            raise _bad(number, f"has {len(row)} fields; a row is bucket,key or bucket,key,version")
        yield _photo(places, number, row[0].strip(), _decoded(row[1], number), row[2].strip() if row[2:] else None)


def _json_rows(lines: Iterator[str], places: Places) -> Iterator[ObjectRef]:
    """A line is a place's text, or {"bucket", "key", "version_id"?}, or {"url"}."""
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except (ValueError, RecursionError):
            raise _bad(number, "is no JSON") from None
        url = row.get("url") if isinstance(row, dict) else row
        if isinstance(url, str):
            yield reference(places.parse(url, "input.manifest"))
            continue
        bucket, key = (row.get("bucket", ""), row.get("key")) if isinstance(row, dict) else ("", None)
        version = row.get("version_id") or row.get("version") if isinstance(row, dict) else None
        if not isinstance(bucket, str) or not isinstance(key, str) or not isinstance(version, str | None):
            raise _bad(number, 'is neither a text nor {"bucket": .., "key": ..} nor {"url": ..}')
        yield _photo(places, number, bucket, key, version)


def _inventory(store: Store, manifest: Place, etag: str | None, places: Places) -> Iterator[ObjectRef]:
    with store.open(manifest.key, etag) as opened:
        if opened.head.size > INVENTORY_BYTES:
            raise _bad(0, f"has {opened.head.size} bytes; an inventory's manifest.json has at most {INVENTORY_BYTES}")
        try:
            document = json.loads(opened.read())
            columns = [name.strip() for name in document["fileSchema"].split(",")]
            parts = [str(entry["key"]) for entry in document["files"]]
            bucket = str(document.get("destinationBucket") or manifest.bucket).rpartition(":")[2]
            form = str(document["fileFormat"])
        except (ValueError, KeyError, TypeError, AttributeError):
            raise _bad(0, "is no S3 Inventory manifest; name other JSON lines .jsonl") from None
    if form != "CSV" or not {"Bucket", "Key"} <= set(columns):
        raise _bad(0, f"is an inventory in {form[:20]}; only CSV can be read. Change the inventory's output format")
    places.require_allowed(bucket, "input.manifest")
    for part in parts:
        yield from _inventory_part(_lines(places.store(bucket), Place(bucket, part), None), columns, places)


def _inventory_part(lines: Iterator[str], columns: list[str], places: Places) -> Iterator[ObjectRef]:
    for number, row in enumerate(_csv(lines), start=1):
        if len(row) != len(columns):
            raise _bad(number, f"has {len(row)} fields; the inventory's schema has {len(columns)}")
        fields = dict(zip(columns, row, strict=True))
        gone = fields.get("IsDeleteMarker", "").lower() == "true" or fields.get("IsLatest", "").lower() == "false"
        key = _decoded(fields["Key"], number)
        if not gone and not key.endswith("/"):
            yield _photo(places, number, fields["Bucket"], key, fields.get("VersionId"))


def _photo(places: Places, number: int, bucket: str, key: str, version: str | None) -> ObjectRef:
    if not key:
        raise _bad(number, "names no key")
    places.require_allowed(bucket, "input.manifest")
    place = Place(bucket, key) if bucket else places.home_place.below(key)
    return reference(place, None if version in (None, "", "null") else version)


def _decoded(key: str, number: int) -> str:
    try:
        return unquote_plus(key, errors="strict")
    except UnicodeDecodeError:
        raise _bad(number, "has a key that is not URL-encoded UTF-8") from None


def _csv(lines: Iterator[str]) -> Iterator[list[str]]:
    try:
        yield from csv.reader(lines)
    except csv.Error as error:
        raise _bad(0, f"is no CSV ({error})") from None


def _lines(store: Store, place: Place, etag: str | None) -> Iterator[str]:
    """The lines of a text, unzipped where it is gzip. Raises OptionError for what is no text."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    rest = ""
    try:
        with store.open(place.key, etag) as opened:
            for data in _unzipped(opened.chunks()):
                *whole, rest = (rest + decoder.decode(data)).split("\n")
                yield from (line.removesuffix("\r") for line in whole)
                if len(rest) > LINE_CHARS:
                    raise _bad(0, f"has a line of more than {LINE_CHARS} characters")
        rest += decoder.decode(b"", final=True)
    except (UnicodeDecodeError, zlib.error):
        raise _bad(0, "is neither UTF-8 text nor gzip of it") from None
    if rest:
        yield rest.removesuffix("\r")


def _unzipped(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """As they come, or inflated when the first bytes say gzip; a file may hold several gzip members."""
    inflate: Any = None
    for number, chunk in enumerate(chunks):
        if number == 0 and chunk.startswith(GZIP):
            inflate = zlib.decompressobj(wbits=31)
        if inflate is None:
            yield chunk
            continue
        while chunk:
            yield inflate.decompress(chunk, INFLATED_BYTES)
            chunk = inflate.unconsumed_tail or inflate.unused_data
            if inflate.eof and chunk:
                inflate = zlib.decompressobj(wbits=31)
    if inflate is not None and not inflate.eof:
        raise _bad(0, "ends in the middle of its gzip")


def _bad(number: int, what: str) -> OptionError:
    where = f"The manifest's line {number}" if number else "The manifest"
    return OptionError(f"{where} {what}.", field="input.manifest")
