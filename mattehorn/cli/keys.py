"""`mattehorn keys`: API keys made, listed and revoked in a keys file, while the service that reads it runs.

Added to the command line by main.py, which turns errors into exit codes.
"""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from mattehorn.access.keys import KeyEntry, KeysDocument, TenantLimits, add_key, revoke_key, set_limits
from mattehorn.access.keys_file import edit_keys, read_keys
from mattehorn.access.tenant import SCOPES, Scope
from mattehorn.errors import OptionError

if TYPE_CHECKING:
    from argparse import _SubParsersAction

_FILE = "mattehorn-keys.json"
_LIMITS = {
    "megapixels_per_minute": "megapixel images in 60 s",
    "megapixels_per_month": "megapixel images in a calendar month, UTC",
    "body_bytes": "bytes of a request, below the service's own limit",
    "pixels": "pixels of a photo, below the service's own limit",
}


def add_commands(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    keys = commands.add_parser(
        "keys",
        help="API keys of a service",
        description="Makes, lists and revokes API keys. A running service sees a change within a second.",
    ).add_subparsers(required=True, metavar="COMMAND")
    add = keys.add_parser("add", help="a new key, printed once", description="Makes a key and prints it, this once.")
    add.add_argument("tenant", metavar="TENANT", help="whose key it is: a-z, 0-9 and -")
    add.add_argument("--scope", default="matte", metavar="LIST", help=f"of {','.join(SCOPES)} (default: matte)")
    add.set_defaults(command=_add)
    listed = keys.add_parser("list", help="ids, tenants, scopes", description="Lists the keys, never the keys' text.")
    listed.set_defaults(command=_list)
    revoke = keys.add_parser("revoke", help="takes a key away", description="Takes a key away at once.")
    revoke.add_argument("id", metavar="ID", help="as `mattehorn keys list` shows it")
    revoke.set_defaults(command=_revoke)
    limit = keys.add_parser(
        "limit", help="a tenant's limits", description="Sets a tenant's limits; none takes one off."
    )
    limit.add_argument("tenant", metavar="TENANT")
    limit.set_defaults(command=_limit)
    for command in (add, limit):
        for name, text in _LIMITS.items():
            command.add_argument(f"--{name.replace('_', '-')}", type=_number, metavar="N", help=text)
    for command in (add, listed, revoke, limit):
        command.add_argument("--file", type=Path, default=Path(_FILE), help=f"the keys file (default: {_FILE})")


def _number(text: str) -> int | str:
    """A number, or "none"."""
    if text == "none":
        return text
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is neither a whole number of 1 or more nor none")
    return int(text)


def _limits(parsed: argparse.Namespace) -> dict[str, int | None]:
    """Those that were given."""
    given = {name: getattr(parsed, name) for name in _LIMITS}
    return {name: None if value == "none" else value for name, value in given.items() if value is not None}


def _scopes(text: str) -> tuple[Scope, ...]:
    wanted = {part.strip() for part in text.split(",") if part.strip()}
    if not wanted or wanted - set(SCOPES):
        raise OptionError(f"--scope is {text[:80]!r}; write some of {','.join(SCOPES)}, with commas between.")
    return tuple(scope for scope in SCOPES if scope in wanted)


def _add(parsed: argparse.Namespace) -> int:
    scopes, limits = _scopes(parsed.scope), _limits(parsed)
    made: list[tuple[KeyEntry, str]] = []

    def change(document: KeysDocument) -> KeysDocument:
        changed, entry, key = add_key(document, parsed.tenant, scopes, datetime.now(UTC))
        made.append((entry, key))
        return set_limits(changed, parsed.tenant, limits) if limits else changed

    edit_keys(parsed.file, change)
    entry, key = made[0]
    print(key)
    print(
        f"Key {entry.id} of {entry.tenant} for {', '.join(entry.scopes)}; it is shown this once. The service reads it "
        f"with --set keys_file={parsed.file.resolve()}",
        file=sys.stderr,
    )
    return 0


def _list(parsed: argparse.Namespace) -> int:
    document = read_keys(parsed.file)
    for entry in sorted(document.keys, key=lambda entry: (entry.tenant, entry.created_at)):
        limits = _shown(document.tenants.get(entry.tenant))
        print(f"{entry.id}  {entry.created_at}  {entry.tenant}  {','.join(entry.scopes)}{limits}")
    return 0


def _shown(limits: TenantLimits | None) -> str:
    given = limits.model_dump(exclude_none=True) if limits else {}
    return "".join(f"  {name}={value}" for name, value in given.items())


def _revoke(parsed: argparse.Namespace) -> int:
    read_keys(parsed.file)  # a file that is not there is not made
    edit_keys(parsed.file, lambda document: revoke_key(document, parsed.id))
    return 0


def _limit(parsed: argparse.Namespace) -> int:
    limits = _limits(parsed)
    if not limits:
        raise OptionError(f"Name a limit: --{', --'.join(name.replace('_', '-') for name in _LIMITS)}.")

    def change(document: KeysDocument) -> KeysDocument:
        if parsed.tenant not in {entry.tenant for entry in document.keys}:
            raise OptionError(f"There is no key of {parsed.tenant[:80]!r}; `mattehorn keys list` shows the tenants.")
        return set_limits(document, parsed.tenant, limits)

    edit_keys(parsed.file, change)
    return 0
