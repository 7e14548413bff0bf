"""The npm package `remove.bg`, installed by the ordinary client, and one call of it in Node."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.system_parts import find_tool, missing

PACKAGE, VERSION = "remove.bg", "1.3.0"
INSTALL_S = 120  # 56 small packages: some seconds
CALL_S = 60
HARD_CODED = "https://api.remove.bg"

# argv: function, options as JSON. What a promise brought goes to stdout, refused or not.
_CALL = """
const client = require('remove.bg');
const [name, options] = process.argv.slice(1);
client[name](JSON.parse(options)).then(
  (result) => console.log(JSON.stringify({ result })),
  (errors) => console.log(JSON.stringify({ errors })),
);
"""


@pytest.fixture(scope="session")
def install_remove_bg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package in its node_modules. Skipped, in CI failed, where npm cannot bring it."""
    folder = tmp_path_factory.mktemp("npm")
    npm = find_tool("npm")
    find_tool("node")
    quiet = ("--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error")
    command = [str(npm), "install", *quiet, f"{PACKAGE}@{VERSION}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    if done.returncode != 0:
        missing(f"npm cannot install {PACKAGE}@{VERSION}: {done.stderr[-500:]}")
    return folder


def pointed_at(folder: Path, base: str) -> None:
    """Puts `base` in the place of remove.bg's own address, as the package's user has to."""
    source = folder / "node_modules" / PACKAGE / "dist/index.js"
    kept = source.with_suffix(".orig")
    if not kept.exists():
        kept.write_text(source.read_text("utf-8"), "utf-8")
    text = kept.read_text("utf-8")
    assert text.count(HARD_CODED) == 1
    source.write_text(text.replace(HARD_CODED, base), "utf-8")


def call(folder: Path, function: str, **options: Any) -> dict[str, Any]:
    """`{"result": ..}` or `{"errors": ..}` of one call."""
    command = [str(find_tool("node")), "-e", _CALL, function, json.dumps({"apiKey": "any", **options})]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=CALL_S, check=False)
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said
