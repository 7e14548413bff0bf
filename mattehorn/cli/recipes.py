"""`mattehorn recipes`, and the recipe that `--recipe` of cut and batch names.

Added to the command line by main.py, which turns errors into exit codes.
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from mattehorn.cli import jobs as cli_jobs
from mattehorn.recipe.own import read_recipes
from mattehorn.recipe.recipe import PRESETS, Recipe, catalogue, find_recipe, sent_recipe

if TYPE_CHECKING:
    from argparse import _SubParsersAction

_HASH_CHARS = 12  # of a hash in the table for people; --json has all of it


def add_commands(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    recipes = commands.add_parser(
        "recipes",
        help="options under a name",
        description="Lists the recipes, or prints one as a document to start your own FILE.json from.",
    )
    recipes.add_argument("recipe", nargs="?", metavar="NAME", help="NAME, NAME@VERSION or a FILE.json of your own")
    _add_folder(recipes)
    recipes.add_argument("--json", action="store_true", help="as GET /v1/recipes has it: hash, every option in force")
    recipes.set_defaults(command=_recipes)


def add_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--recipe",
        metavar="NAME",
        help="NAME, NAME@VERSION or a FILE.json of your own: its values instead of the defaults",
    )
    _add_folder(parser)


def _add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--recipes-dir", metavar="DIR", help="a folder of recipes of your own, known by their names")


def chosen(text: str, folder: str | None = None) -> Recipe:
    """The recipe that `text` names, of the presets and those in `folder`, or that lies in the FILE.json. Raises
    OptionError, OSError."""
    value = cli_jobs.recipe_value(text)
    own = read_recipes(folder)
    return find_recipe(value, own) if isinstance(value, str) else sent_recipe(value, own)


def _recipes(parsed: argparse.Namespace) -> int:
    own = read_recipes(parsed.recipes_dir)
    if parsed.recipe is not None:
        recipe = chosen(parsed.recipe, parsed.recipes_dir)
        document = recipe.entry() if parsed.json else recipe.document() | {"description": recipe.description}
        print(json.dumps(document, indent=1, ensure_ascii=False))
    elif parsed.json:
        print(json.dumps(catalogue(own), indent=1, ensure_ascii=False))
    else:
        width = max(len(recipe.id) for recipe in (*PRESETS, *own))
        for recipe in (*PRESETS, *own):
            print(f"{recipe.id:<{width}}  {recipe.hash[:_HASH_CHARS]}  {recipe.description}")
    return 0
