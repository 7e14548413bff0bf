"""A service with keys on, in this process, and its keys' file: for tests of the front door."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deployments.ingress.front_door import FrontDoor
from mattehorn.access.keys import KeysDocument, add_key, set_limits
from mattehorn.access.keys_file import edit_keys
from tests.api_client import Client
from tests.service import InProcessService


def new_key(path: Path, tenant: str, *scopes: Any, **limits: int) -> str:
    """A key in the file; `limits` are its tenant's."""
    keys: list[str] = []

    def change(document: KeysDocument) -> KeysDocument:
        changed, _, key = add_key(document, tenant, scopes or ("matte",), datetime.now(UTC))
        keys.append(key)
        return set_limits(changed, tenant, limits) if limits else changed

    edit_keys(path, change)
    return keys[0]


def bearing(key: str) -> dict[str, str]:
    return {"X-API-Key": key}


class Door(Client):
    """Requests to a service with keys, all of which are made before."""

    def __init__(self, folder: Path, service: InProcessService | None = None, **args: Any) -> None:
        self.keys = folder / "keys.json"
        self.keys.touch()
        super().__init__(service or InProcessService(folder / "results", keys_file=str(self.keys), **args))

    def look_again(self) -> None:
        """What the file holds now counts, without a second's wait."""
        layer: Any = self.app.middleware_stack
        while layer is not None and not isinstance(layer, FrontDoor):
            layer = getattr(layer, "app", None) or getattr(layer, "_app", None)
        if layer is not None and layer._keys is not None:
            layer._keys._looked = float("-inf")

    def key(self, tenant: str, *scopes: Any, **limits: int) -> dict[str, str]:
        """The header of a new key."""
        header = bearing(new_key(self.keys, tenant, *scopes, **limits))
        self.look_again()
        return header
