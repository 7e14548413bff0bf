"""Recipes: a named, versioned wish for every photo of a job or a bucket, and the hash that stands for it in keys.

The document is {name, version, options, key_template}; `options` are those of one request that make sense without one.
What it is not: it makes no picture. Called by the jobs API, the command line and the bulk worker.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Self

from mattehorn.bulk.keys import DEFAULT_TEMPLATE, check_bulk_template, settled_format
from mattehorn.errors import OptionError
from mattehorn.options import Options, parse_options

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
VERSIONS = range(1, 1_000_000)
# They ask for a stored copy, or shape an HTTP answer; bulk work has neither.
NOT_IN_BULK = ("store", "store_alpha", "store_source", "inline", "include", "name")


@dataclass(frozen=True)
class Recipe:
    """`options` as given, defaults left out, so that a new option of a later version changes no hash.

    Raises OptionError for a bad name, version, option or key template.
    """

    name: str
    version: int
    options: Mapping[str, Any] = field(default_factory=dict)
    key_template: str = DEFAULT_TEMPLATE

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not NAME.fullmatch(self.name):
            raise OptionError(
                f"A recipe's name has 1 to 64 small letters, digits or hyphens; got {str(self.name)[:80]!r}.",
                field="recipe",
            )
        if isinstance(self.version, bool) or not isinstance(self.version, int) or self.version not in VERSIONS:
            raise OptionError(
                f"A recipe's version is a whole number from 1 on; got {str(self.version)[:80]}.", field="recipe"
            )
        unfit = next((name for name in NOT_IN_BULK if name in self.options), None)
        if unfit is not None:
            raise OptionError(f"{unfit} has no meaning in bulk work; leave it out of the recipe.", field=unfit)
        given = parse_options(self.options).model_dump(exclude_unset=True)  # 90, not "90": one wish, one hash
        object.__setattr__(self, "options", MappingProxyType(given))
        check_bulk_template(self.key_template)

    @property
    def id(self) -> str:
        return f"{self.name}@{self.version}"

    @property
    def hash(self) -> str:
        """sha256 (hex) over the document as canonical JSON: sorted names, no blanks, UTF-8."""
        text = json.dumps(self.document(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def document(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "version": self.version,
            "options": dict(self.options),
            "key_template": self.key_template,
        }

    def with_options(self, options: Mapping[str, Any]) -> Self:
        """This recipe with `options` over its own; its hash follows. Raises OptionError."""
        sent = {name: value for name, value in options.items() if value is not None and value != ""}
        return dataclasses.replace(self, options={**self.options, **sent}) if sent else self

    def bulk_options(self) -> Options:
        """What is asked for each photo, its format settled."""
        return settled_format(parse_options(self.options))

    def __reduce__(self) -> tuple[Any, ...]:  # a mapping proxy does not pickle
        return type(self), (self.name, self.version, dict(self.options), self.key_template)


def parse_recipe(document: object) -> Recipe:
    """The recipe of a document. Raises OptionError for anything else, and for fields that a recipe does not have."""
    if not isinstance(document, dict):
        raise OptionError("A recipe is an object with name, version, options and key_template.", field="recipe")
    if missing := [name for name in ("name", "version") if name not in document]:
        raise OptionError(
            f'The recipe has no {missing[0]}; write {{"name": "mine", "version": 1, "options": {{..}}}}.',
            field="recipe",
        )
    known = {item.name for item in dataclasses.fields(Recipe)}
    if unknown := sorted(str(name) for name in document if name not in known):
        raise OptionError(f"A recipe has no {unknown[0][:80]}; it has {', '.join(sorted(known))}.", field="recipe")
    if not isinstance(document.get("options", {}), dict) or not isinstance(document.get("key_template", ""), str):
        raise OptionError("A recipe's options are an object and its key_template is text.", field="recipe")
    return Recipe(**document)


PRESETS = (
    # webp: exact alpha, far smaller than a png, shown by every browser since 2020
    Recipe("transparent-web", 1, {"output": "cutout", "format": "webp", "encode_quality": 90}),
    # pure white and jpg is what large marketplaces ask of a main picture; 95 keeps the edge's colour (4:4:4)
    Recipe(
        "marketplace-white",
        1,
        {"output": "composite", "background_color": "#ffffff", "format": "jpg", "encode_quality": 95},
    ),
)


def names() -> str:
    """The recipes that there are, for messages."""
    return ", ".join(recipe.id for recipe in PRESETS)


def find_recipe(name: str) -> Recipe:
    """The recipe called `name`, or `name@version`; without a version the newest. Raises OptionError."""
    plain, _, version = name.partition("@")
    found = [recipe for recipe in PRESETS if recipe.name == plain and version in ("", str(recipe.version))]
    if not found:
        raise OptionError(f"There is no recipe {name[:100]!r}; there are {names()}.", field="recipe")
    return max(found, key=lambda recipe: recipe.version)
