"""What a job is asked to do, from the body of `POST /v1/jobs` to the immutable `spec.json` and back.

What it is not: it reads no photo and writes no object; it looks at a manifest's head, to pin it. Called by jobs.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Self

from mattehorn.access.tenant import ANONYMOUS
from mattehorn.bulk.places import UPLOADS, Place, Places, refuse_loop
from mattehorn.errors import OptionError, UnknownOption
from mattehorn.recipe.recipe import Recipe, find_recipe, parse_recipe, sent_recipe
from mattehorn.store.interface import StoreKeyError

FIELDS = ("input", "output", "recipe", "options", "webhook_url")
INPUTS = ("keys", "prefix", "manifest")
KEYS_MOST = 100_000  # some 10 MB of JSON; a manifest has no limit
SHARD_KEYS = 1000  # a shard is one message and one lease: minutes of work
SHARD_KEYS_LEAST = 10
WANTED_SHARDS = 8  # of a small job, so that several workers share it


@dataclass(frozen=True)
class Owner:
    """Whose a job is. `fenced`: it may neither read nor write the results store, which all tenants share, but for its
    own uploads and results."""

    tenant: str = ANONYMOUS.name
    fenced: bool = False


NOBODYS = Owner()  # of a job that was made without a key


@dataclass(frozen=True)
class JobSpec:
    """`source` is the prefix or the manifest (pinned by its etag); None for inline keys, whose number is `total`."""

    id: str
    created_at: str
    kind: Literal["keys", "prefix", "manifest"]
    source: Place | None
    manifest_etag: str | None
    output: Place
    recipe: Recipe
    webhook_url: str | None
    shard_keys: int
    total: int | None
    owner: Owner = NOBODYS

    @property
    def run(self) -> datetime:
        """When the job was made, for key templates."""
        return datetime.fromisoformat(self.created_at)

    def document(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "created_at": self.created_at,
            "kind": self.kind,
            "source": None if self.source is None else [self.source.bucket, self.source.key],
            "manifest_etag": self.manifest_etag,
            "output": [self.output.bucket, self.output.key],
            "recipe": self.recipe.document(),
            "webhook_url": self.webhook_url,
            "shard_keys": self.shard_keys,
            "total": self.total,
            "tenant": self.owner.tenant,
            "fenced": self.owner.fenced,
        }

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Self:
        """The spec that `document()` wrote; a later version may have added fields."""
        source = document["source"]
        return cls(
            id=document["id"],
            created_at=document["created_at"],
            kind=document["kind"],
            source=None if source is None else Place(*source),
            manifest_etag=document["manifest_etag"],
            output=Place(*document["output"]),
            recipe=parse_recipe(document["recipe"]),
            webhook_url=document["webhook_url"],
            shard_keys=document["shard_keys"],
            total=document["total"],
            owner=Owner(document.get("tenant", ANONYMOUS.name), document.get("fenced", False)),
        )


def parse_request(
    body: Mapping[str, Any],
    places: Places,
    *,
    job: str,
    created_at: str,
    owner: Owner = NOBODYS,
    recipes: Sequence[Recipe] = (),
) -> tuple[JobSpec, tuple[str, ...]]:
    """(the spec, inline keys each once) of a request's JSON. Raises OptionError and its kinds.

    `recipes` are the operator's own. `output` may be left out: the results are then kept in the results store,
    under `bulk/{id}/`.
    """
    if unknown := next((name for name in body if name not in FIELDS), None):
        raise UnknownOption(f"A job has no {str(unknown)[:80]}; it has {', '.join(FIELDS)}.", field=str(unknown)[:80])
    kind, value = _input(body.get("input"))
    output = places.parse(_text(body, "output"), "output") if body.get("output") else None
    output = (output or places.home_place.below(f"bulk/{job}/")).folder
    if places.is_state(output.bucket, output.key):
        raise OptionError(f"The output {output} lies among the service's own state; write elsewhere.", field="output")
    keys = _keys(value, places, output) if kind == "keys" else ()
    source = None if kind == "keys" else places.parse(str(value), f"input.{kind}")
    if kind == "prefix" and source is not None:
        refuse_loop(source, output)
    if owner.fenced:
        named = [source] if source is not None else [places.parse(key, "input.keys") for key in keys]
        for place in named:
            require_own(place, places, job, f"input.{kind}")
        if body.get("output"):
            require_own(output, places, job, "output")
    spec = JobSpec(
        id=job,
        created_at=created_at,
        kind=kind,
        source=source,
        manifest_etag=_manifest_etag(source, places) if kind == "manifest" and source is not None else None,
        output=output,
        recipe=_recipe(body, recipes),
        webhook_url=_text(body, "webhook_url") if body.get("webhook_url") else None,
        shard_keys=shard_size(len(keys)) if kind == "keys" else SHARD_KEYS,
        total=len(keys) if kind == "keys" else None,
        owner=owner,
    )
    return spec, keys


def require_own(place: Place, places: Places, job: str, field: str) -> None:
    """Raises OptionError for what lies in the results store, or may, unless it is an upload of this very job."""
    home = places.home_place
    meets = place.bucket == home.bucket and (place.key.startswith(home.key) or home.key.startswith(place.key))
    if meets and not home.below(f"{UPLOADS}{job}/").covers(place.bucket, place.key):
        raise OptionError(
            f"{field} names the results store, which several tenants share; name another bucket, send the photos as "
            "files, and leave output out to have the results kept.",
            field=field,
        )


def shard_size(total: int) -> int:
    """Keys a shard of a job with `total` keys."""
    return max(SHARD_KEYS_LEAST, min(SHARD_KEYS, -(-total // WANTED_SHARDS)))


def _input(value: object) -> tuple[Literal["keys", "prefix", "manifest"], object]:
    given = [name for name in INPUTS if isinstance(value, Mapping) and name in value]
    if not isinstance(value, Mapping) or len(given) != 1 or len(value) != 1:
        raise OptionError('input is one of {"keys": [..]}, {"prefix": ".."} or {"manifest": ".."}.', field="input")
    found = value[given[0]]
    if given[0] == "keys":
        return "keys", found
    if not isinstance(found, str) or not found:
        raise OptionError(f"input.{given[0]} is a text such as s3://bucket/prefix/.", field=f"input.{given[0]}")
    return ("prefix", found) if given[0] == "prefix" else ("manifest", found)


def _keys(value: object, places: Places, output: Place) -> tuple[str, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(key, str) for key in value):
        raise OptionError("input.keys is a list of texts.", field="input.keys")
    if not 1 <= len(value) <= KEYS_MOST:
        raise OptionError(
            f"input.keys has {len(value)} keys; allowed are 1 to {KEYS_MOST}. Name more by a prefix or a manifest.",
            field="input.keys",
        )
    _check_each(value, places, output)
    return tuple(dict.fromkeys(value))


def _check_each(texts: Iterable[str], places: Places, output: Place) -> None:
    for text in texts:
        place = places.parse(text, "input.keys")
        if not place.key:
            raise OptionError(f"input.keys has {text[:80]!r}, which names no object.", field="input.keys")
        if output.covers(place.bucket, place.key):
            raise OptionError(
                f"input.keys has {text[:200]!r}, which lies below the output {output}; results are no photos.",
                field="input.keys",
            )


def _recipe(body: Mapping[str, Any], own: Sequence[Recipe]) -> Recipe:
    options = body.get("options")
    options = {} if options is None else options
    if not isinstance(options, Mapping):
        raise OptionError("options is an object of options.", field="options")
    recipe = body.get("recipe")
    if isinstance(recipe, Mapping):
        return sent_recipe(dict(recipe), own).with_options(options)
    return find_recipe(_text(body, "recipe"), own).with_options(options)


def _manifest_etag(manifest: Place, places: Places) -> str:
    try:
        head = places.store(manifest.bucket).head(manifest.key)
    except StoreKeyError as error:
        raise OptionError(f"input.manifest: {error.message}", field="input.manifest") from None
    if head is None:
        raise OptionError(f"input.manifest: nothing is stored under {manifest}.", field="input.manifest")
    return head.etag


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise OptionError(f"{name} is missing or no text.", field=name)
    return value
