"""Overlays serve_config.yaml with a patch: into serveConfigV2 of rayservice.yaml, or into a file of its own.

Run it without arguments after editing serve_config.yaml or serve-patch.yaml; `--check` only says whether the
manifest is current (exit 1 when not). It touches that one block of text, so the manifest keeps its comments and is
applied with plain kubectl. The GPU image calls it with `--patch` and `--output`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml

_HERE = Path(__file__).resolve().parent
SERVE_CONFIG = _HERE.parent.parent / "serve_config.yaml"
PATCH = _HERE / "serve-patch.yaml"
STRONG = "MattingStrong"  # the pool of args.strong_model
MANIFEST = _HERE / "rayservice.yaml"

_KEY = "  serveConfigV2: |\n"  # a direct child of the manifest's spec
_INDENT = "    "


def overlay(base: Any, patch: Any, place: str = "") -> Any:
    """`base` with `patch` laid over it, both as YAML gives them; neither is changed.

    Mappings merge key by key, lists whose entries have a `name` by that name; everything else is replaced. Raises
    ValueError for an entry that `base` does not have: a misspelt deployment would else be added in silence.
    """
    if isinstance(base, dict) and isinstance(patch, dict):
        return base | {key: overlay(base.get(key), value, f"{place}.{key}") for key, value in patch.items()}
    if _named(base) and _named(patch):
        changes = {entry["name"]: entry for entry in patch}
        if unknown := changes.keys() - {entry["name"] for entry in base}:
            raise ValueError(f"{place.lstrip('.')} has no entry named {', '.join(sorted(unknown))}.")
        return [overlay(entry, changes.get(entry["name"], {}), f"{place}.{entry['name']}") for entry in base]
    return patch


def _named(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(e, dict) and "name" in e for e in value)


class _NoAliases(yaml.SafeDumper):
    """Writes a value again where it is used twice: `&id001` helps nobody who reads the manifest."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def merged_text(base: Path, patch: Path, *, lean: bool = False) -> str:
    """The Serve config `base` overlaid with `patch`, as YAML text, keys in their given order.

    `lean`: without the pools that its `args` do not ask for. Serve refuses those; `python -m deployments`, which reads
    every other config, leaves them out by itself.
    """
    config = overlay(yaml.safe_load(base.read_text()), yaml.safe_load(patch.read_text()))
    if lean:
        for application in config["applications"]:
            if not application.get("args", {}).get("strong_model"):
                kept = [entry for entry in application["deployments"] if entry["name"] != STRONG]
                application["deployments"] = kept
    return yaml.dump(config, Dumper=_NoAliases, sort_keys=False, width=110)


def with_serve_config(manifest: str, text: str) -> str:
    """The manifest's text with serveConfigV2 replaced by `text`. ValueError when it has no such block."""
    head, key, rest = manifest.partition(_KEY)
    if not key:
        raise ValueError(f"the manifest has no line {_KEY.strip()!r} under spec.")
    lines = rest.splitlines(keepends=True)
    inside = 0
    while inside < len(lines) and (lines[inside].startswith(_INDENT) or not lines[inside].strip()):
        inside += 1
    block = "".join(f"{_INDENT}{line}" for line in text.splitlines(keepends=True))
    return head + key + block + "".join(lines[inside:])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--base", type=Path, default=SERVE_CONFIG, help="the config (default: serve_config.yaml)")
    parser.add_argument("--patch", type=Path, default=PATCH, help="the patch (default: serve-patch.yaml)")
    parser.add_argument("--output", type=Path, help="write the config alone here, not into rayservice.yaml")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when the file is stale")
    options = parser.parse_args(arguments)
    text = merged_text(options.base, options.patch, lean=not options.output)
    target = options.output or MANIFEST
    wanted = text if options.output else with_serve_config(MANIFEST.read_text(), text)
    if target.exists() and target.read_text() == wanted:
        return 0
    if options.check:
        print(f"{target.name} is stale: run python infra/k8s/render.py", file=sys.stderr)
        return 1
    target.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
