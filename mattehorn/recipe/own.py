"""An operator's own recipes: a folder of JSON documents, each in a file of its own.

What it is not: it checks no document (recipe.py does). Read at start by whoever looks recipes up by name.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path

from mattehorn.errors import OptionError
from mattehorn.recipe.recipe import PRESETS, Recipe, parse_recipe

FILE_BYTES = 64 * 2**10  # a recipe with every option has 2 kB


@functools.lru_cache(maxsize=8)
def read_recipes(folder: str | None) -> tuple[Recipe, ...]:
    """The recipes of every *.json in `folder`, by name and version; none without a folder. Read once a process.

    A preset's name is not taken: what it means shall be the same everywhere. Raises OptionError that names the file.
    """
    if folder is None:
        return ()
    if not Path(folder).is_dir():
        raise OptionError(f"recipes_dir is {folder}, which is no folder.", field="recipes_dir")
    found: dict[str, Recipe] = {}
    for path in sorted(Path(folder).glob("*.json")):
        recipe = _read(path)
        if recipe.name in {preset.name for preset in PRESETS}:
            raise _bad(path, f"The name {recipe.name} is that of a preset; choose another one.")
        if recipe.id in found:
            raise _bad(path, f"{recipe.id} is in another file, too; give one of them another version.")
        found[recipe.id] = recipe
    return tuple(sorted(found.values(), key=lambda recipe: (recipe.name, recipe.version)))


def _read(path: Path) -> Recipe:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _bad(path, f"It cannot be read: {error.strerror}.") from None
    if len(data) > FILE_BYTES:
        raise _bad(path, f"It has {len(data)} bytes; allowed are {FILE_BYTES}.")
    try:
        return parse_recipe(json.loads(data))
    except OptionError as error:
        raise _bad(path, error.message) from None
    except (ValueError, RecursionError):
        raise _bad(path, "It holds no JSON.") from None


def _bad(path: Path, what: str) -> OptionError:
    return OptionError(f"recipes_dir, {path.name}: {what}", field="recipes_dir")
