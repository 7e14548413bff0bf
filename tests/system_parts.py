"""Programs that tests drive and pip cannot install: Chromium, Prometheus with promtool, Node with npm.

infra/fetch_system_parts.sh puts them where `find_tool` looks. Not for tools that the `test` extra brings.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest

SYSTEM_PARTS = ("chromium", "prometheus", "promtool", "node", "npm")

_REPO = Path(__file__).resolve().parent.parent


def find_tool(name: str) -> Path:
    """The program's path: on PATH, else in $MATTEHORN_TOOLS/usr/bin, else in the checkout's .tools/usr/bin.

    Where it is missing the test is skipped by the program's name; with CI=true it fails instead, so that a
    check cannot vanish unseen.
    """
    if name not in SYSTEM_PARTS:
        raise ValueError(f"{name!r} is none of {', '.join(SYSTEM_PARTS)}.")
    folders = [_REPO / ".tools" / "usr" / "bin"]
    if own := os.environ.get("MATTEHORN_TOOLS"):
        folders.insert(0, Path(own) / "usr" / "bin")
    search = os.pathsep.join([os.environ.get("PATH", os.defpath), *map(str, folders)])
    if found := shutil.which(name, path=search):
        return Path(found)
    missing(f"{name} is not on PATH nor in .tools: run infra/fetch_system_parts.sh or install it.")


def missing(message: str) -> NoReturn:
    """Skips the test by what it lacks; fails it with CI=true."""
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(message)
    pytest.skip(message)
