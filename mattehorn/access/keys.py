"""API keys as one document: who holds which, what each may do, and what its tenant may spend. Pure: no file is read or
written here (keys_file.py).

A key is `mh_ID_SECRET`: a public id that lists show, and 256 random bits. The document holds the key's SHA-256 alone.
A slow hash as for passwords would gain nothing: there is no word to guess, only 2^256 of them, and each request pays.
Looking a key up by its hash also takes no time that tells how much of a guess was right.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from mattehorn.access.tenant import ANONYMOUS, SCOPES, Budget, Scope, Tenant
from mattehorn.errors import OptionError

SECRET_BYTES = 32
ID_CHARS, ID_LENGTH = "0123456789abcdefghjkmnpqrstvwxyz", 8  # 40 bits: thousands of keys without a clash

# it stands in records and in no path; the bounds keep it readable in lists all the same
_Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
_Limit = Annotated[int, Field(ge=1)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)  # a misspelt limit would be none


class TenantLimits(_Entry):
    """None: no budget, and the service's own `limits.body_bytes` and `limits.pixels`, which these only narrow."""

    megapixels_per_minute: _Limit | None = None
    megapixels_per_month: _Limit | None = None
    body_bytes: _Limit | None = None
    pixels: _Limit | None = None


class KeyEntry(_Entry):
    """One key without its secret. `created_at` is RFC 3339, UTC."""

    id: str = Field(pattern=r"^[a-z0-9]{1,32}$")
    tenant: _Name
    scopes: tuple[Scope, ...] = Field(min_length=1)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    created_at: str


class KeysDocument(_Entry):
    """The keys file. Without keys nobody gets in."""

    version: Literal[1] = 1
    tenants: dict[_Name, TenantLimits] = {}
    keys: tuple[KeyEntry, ...] = ()

    @model_validator(mode="after")
    def _names_are_clear(self) -> Self:
        for what in ("id", "sha256"):
            values = [getattr(entry, what) for entry in self.keys]
            if len(set(values)) < len(values):
                raise ValueError(f"two keys have the same {what}")
        if ANONYMOUS.name in {*self.tenants, *(entry.tenant for entry in self.keys)}:
            raise ValueError(f"{ANONYMOUS.name} is the name of callers without a key; take another tenant")
        return self


class Keyring:
    """The document's keys, to be found by what a caller presents."""

    def __init__(self, document: KeysDocument) -> None:
        limits = {name: document.tenants.get(name, TenantLimits()) for name in _tenants(document)}
        self._found = {
            entry.sha256: _tenant(entry.tenant, entry.scopes, limits[entry.tenant]) for entry in document.keys
        }
        self._named = {name: _tenant(name, (), found) for name, found in limits.items()}
        self.budgets: Mapping[str, Budget] = {name: tenant.budget for name, tenant in self._named.items()}

    def find(self, key: str) -> Tenant | None:
        """Whose key it is and what it may do; None for one that is not in the document."""
        return self._found.get(_digest(key))

    def tenant(self, name: str) -> Tenant:
        """The tenant of this name with its limits, and no scope; without limits where the document has none."""
        return self._named.get(name) or Tenant(name, frozenset())


def parse_keys(data: bytes) -> KeysDocument:
    """The document in a keys file; no bytes are a document without keys. Raises OptionError, without what the file
    holds."""
    try:
        return KeysDocument.model_validate_json(data) if data.strip() else KeysDocument()
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise OptionError(f"The keys file is damaged{f' at {place}' if place else ''}: {first['msg']}.") from None


def encode_keys(document: KeysDocument) -> bytes:
    return document.model_dump_json(indent=1, exclude_none=True).encode() + b"\n"


def add_key(
    document: KeysDocument, tenant: str, scopes: Collection[Scope], now: datetime
) -> tuple[KeysDocument, KeyEntry, str]:
    """(the document with one key more, its entry, the key itself, which nothing else holds). Raises OptionError."""
    taken = {entry.id for entry in document.keys}
    key_id = next(found for found in iter(_new_id, "") if found not in taken)
    key = f"mh_{key_id}_{secrets.token_hex(SECRET_BYTES)}"
    entry = {
        "id": key_id,
        "tenant": tenant,
        "scopes": [scope for scope in SCOPES if scope in scopes],
        "sha256": _digest(key),
        "created_at": now.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
    }
    changed = _changed(document, keys=[*_dumped(document)["keys"], entry])
    return changed, changed.keys[-1], key


def revoke_key(document: KeysDocument, key_id: str) -> KeysDocument:
    """The document without that key; its tenant and the limits stay. Raises OptionError for an id that is not there."""
    left = [entry for entry in document.keys if entry.id != key_id]
    if len(left) == len(document.keys):
        raise OptionError(f"There is no key {key_id[:80]!r}; `mattehorn keys list` shows the ids.")
    return document.model_copy(update={"keys": tuple(left)})


def set_limits(document: KeysDocument, tenant: str, limits: Mapping[str, int | None]) -> KeysDocument:
    """The document in which `tenant` has these limits besides those it had; None takes one away. Raises OptionError."""
    tenants = _dumped(document)["tenants"]
    return _changed(document, tenants={**tenants, tenant: {**tenants.get(tenant, {}), **limits}})


def _changed(document: KeysDocument, **parts: Any) -> KeysDocument:
    """Raises OptionError that names the value which cannot be."""
    try:
        return KeysDocument.model_validate({**_dumped(document), **parts})
    except ValidationError as error:
        first = error.errors()[0]
        if "tenant" in first["loc"] or "[key]" in first["loc"]:
            raise OptionError(
                f"The tenant's name is {str(first['input'])[:80]!r}; allowed are a-z, 0-9 and -, at most 63, and not "
                "- at first."
            ) from None
        name = str(first["loc"][-1]) if first["loc"] else "tenant"
        raise OptionError(f"{name} cannot be used: {first['msg'].removeprefix('Value error, ')}.") from None


def _dumped(document: KeysDocument) -> dict[str, Any]:
    return document.model_dump(mode="json")


def _tenants(document: KeysDocument) -> list[str]:
    return sorted({*document.tenants, *(entry.tenant for entry in document.keys)})


def _tenant(name: str, scopes: Collection[Scope], limits: TenantLimits) -> Tenant:
    budget = Budget(limits.megapixels_per_minute, limits.megapixels_per_month)
    return Tenant(name, frozenset(scopes), budget, limits.body_bytes, limits.pixels)


def _digest(key: str) -> str:
    return sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def _new_id() -> str:
    return "".join(secrets.choice(ID_CHARS) for _ in range(ID_LENGTH))
