"""Recipes: a named, versioned wish for every photo of a job or a bucket, and the hash that stands for it in keys.

The document is {name, version, description, options, key_template, locked, quality}; `options` are those of one
request that make sense without one, `description` is for people and not part of the hash, `locked` names options that
nobody may replace, and `quality` is the gate of gate.py.
What it is not: it makes no picture. Called by the recipes and jobs APIs, the command line and the bulk worker.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, Self

from mattehorn.colour import BACKGROUND_TEMPLATES
from mattehorn.errors import ConflictingOptions, OptionError, UnknownRecipe
from mattehorn.options import TEMPLATE_NAMES, Options, one_spelling, parse_options
from mattehorn.recipe.gate import Gate, Wish
from mattehorn.recipe.over import BACKGROUNDS, excluded, with_groups
from mattehorn.recipe.presets import DOCUMENTS
from mattehorn.recipe.result_keys import DEFAULT_TEMPLATE, check_bulk_template, settled_format

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
VERSIONS = range(1, 1_000_000)
# They ask for a stored copy, or shape an HTTP answer; bulk work has neither.
NOT_IN_BULK = ("store", "store_alpha", "store_source", "inline", "include", "name")
PER_PHOTO = frozenset((*NOT_IN_BULK, "sku"))  # what one photo's caller says of it; no recipe locks or hashes that
DESCRIPTION_CHARS = 300


@dataclass(frozen=True)
class Recipe:
    """`options` as given, defaults left out, so that a new option of a later version changes no hash. `locked`: names
    of options, or True for all that are not about one photo.

    Raises OptionError for a bad name, version, option, key template, description, lock or gate.
    """

    name: str
    version: int
    options: Mapping[str, Any] = field(default_factory=dict)
    key_template: str = DEFAULT_TEMPLATE
    description: str = field(default="", compare=False)
    locked: Literal[True] | tuple[str, ...] = ()
    quality: Gate | None = None

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
        _refuse_unfit(self.options)
        given = parse_options(self.options).model_dump(exclude_unset=True)  # 90, not "90": one wish, one hash
        object.__setattr__(self, "options", MappingProxyType(given))
        check_bulk_template(self.key_template)
        if len(self.description) > DESCRIPTION_CHARS or not self.description.isprintable():
            raise OptionError(
                f"A recipe's description is one line of at most {DESCRIPTION_CHARS} characters.", field="recipe"
            )

        object.__setattr__(self, "locked", _checked_locks(self.locked))

    @property
    def tag(self) -> str:
        """What headers and records call it: `name@version;hash`."""
        return f"{self.id};{self.hash}"

    @property
    def id(self) -> str:
        return f"{self.name}@{self.version}"

    @property
    def hash(self) -> str:
        """sha256 (hex) over the document as canonical JSON: sorted names, no blanks, UTF-8."""
        text = json.dumps(self.document(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def document(self) -> dict[str, Any]:
        """What is hashed and kept with a job: everything but the description; locks and a gate where there are any."""
        document: dict[str, Any] = {
            "name": self.name,
            "version": self.version,
            "options": dict(self.options),
            "key_template": self.key_template,
        }
        if self.locked:
            document["locked"] = self.locked if self.locked is True else list(self.locked)
        if self.quality is not None:
            document["quality"] = self.quality.document()
        return document

    def with_options(self, options: Mapping[str, Any]) -> Self:
        """This recipe with `options` over its own; its hash follows. Raises OptionError."""
        sent = _given(options)
        _refuse_unfit(sent)
        return dataclasses.replace(self, options=self._under(sent)[1]) if sent else self

    def wish(self, sent: Mapping[str, Any], *, background_file: bool = False, background_url: bool = False) -> Wish:
        """What is asked for one photo: this recipe with `sent` over it. Raises as parse_options does.

        The recipe that it names is the changed one, with a hash of its own, unless what was sent is about the photo.
        """
        sent = _given(sent)
        pictures = {"background_file": background_file, "background_url": background_url}
        options, kept = self._under(sent, **pictures)
        kept = {name: value for name, value in kept.items() if name not in PER_PHOTO or name not in sent}
        if any(pictures.values()):
            kept.setdefault("output", "composite")
        return Wish(options, self.quality, dataclasses.replace(self, options=kept).tag)

    def _under(self, sent: Mapping[str, Any], **pictures: bool) -> tuple[Options, dict[str, Any]]:
        """What is asked for with `sent` over this recipe's options, and what a recipe that says so gives: a value that
        is in force anyway adds nothing, so it changes no hash. Raises OptionError, of locks ConflictingOptions."""
        own = parse_options(self.options)
        dropped = excluded(own, sent, [name for name, is_sent in pictures.items() if is_sent])
        merged = {name: value for name, value in self.options.items() if name not in dropped} | dict(sent)
        options = parse_options(merged, **pictures)
        self._refuse_locked(sent, options, dropped, pictures)
        kept = {
            name: value
            for name, value in merged.items()
            if name in self.options or name in NOT_IN_BULK or getattr(options, name) != getattr(own, name)
        }
        return options, kept

    def _refuse_locked(
        self, sent: Mapping[str, Any], options: Options, dropped: Mapping[str, str], pictures: Mapping[str, bool]
    ) -> None:
        """Raises ConflictingOptions where a locked option would have another value, or none."""
        if not self.locked:
            return
        held = set(Options.model_fields) - PER_PHOTO if self.locked is True else with_groups(self.locked)
        own = self.bulk_options()
        own = own.model_copy(update={"output": own.kind})
        for name in sent:
            if name in held and getattr(options, name) != getattr(own, name):
                raise self._locked(name)
        for name, is_sent in pictures.items():
            if is_sent and BACKGROUNDS[0] in held:
                raise self._locked(name)
        for name, by in dropped.items():
            if name in held and name in self.options:
                raise ConflictingOptions(
                    f"{by} would take the place of {name}, which is locked by the recipe {self.id}; leave it out, or "
                    "use another recipe.",
                    field=by,
                )

    def _locked(self, name: str) -> ConflictingOptions:
        return ConflictingOptions(
            f"{name} is locked by the recipe {self.id}; leave it out, or use another recipe.", field=name
        )

    def bulk_options(self) -> Options:
        """What is asked for each photo, its format settled."""
        return settled_format(parse_options(self.options))

    def entry(self) -> dict[str, Any]:
        """What `/v1/recipes` says of it: the options in force, defaults filled in, and those that it gives."""
        options = self.bulk_options()
        values = options.model_dump(mode="json", exclude=set(NOT_IN_BULK)) | {"output": options.kind}
        return {
            "name": self.name,
            "version": self.version,
            "id": self.id,
            "hash": self.hash,
            "description": self.description,
            "options": values,
            "given": dict(self.options),
            "key_template": self.key_template,
            "locked": self.locked if self.locked is True else list(self.locked),
            "quality": dataclasses.asdict(self.quality) if self.quality else None,
        }

    def __reduce__(self) -> tuple[Any, ...]:  # a mapping proxy does not pickle
        fields = [getattr(self, item.name) for item in dataclasses.fields(self)]
        return type(self), tuple(dict(value) if isinstance(value, MappingProxyType) else value for value in fields)


def _checked_locks(locked: object) -> Literal[True] | tuple[str, ...]:
    """True, or names in order. Raises OptionError."""
    if isinstance(locked, bool):
        return True if locked else ()
    if not isinstance(locked, list | tuple) or not all(isinstance(name, str) for name in locked):
        raise OptionError("A recipe's locked is true, or a list of names of options.", field="recipe")
    for name in locked:
        if name in PER_PHOTO or name not in Options.model_fields:
            raise OptionError(f"locked has {name[:80]!r}, which is no option of a recipe.", field="recipe")
    return tuple(sorted(set(locked)))


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    """What was sent, in one spelling."""
    return {name: one_spelling(name, value) for name, value in options.items() if value is not None and value != ""}


def _refuse_unfit(options: Mapping[str, Any]) -> None:
    unfit = next((name for name in NOT_IN_BULK if name in options), None)
    if unfit is not None:
        raise OptionError(f"{unfit} has no meaning in bulk work; leave it out of the recipe.", field=unfit)


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
    texts = [document.get(name, "") for name in ("key_template", "description")]
    if not isinstance(document.get("options", {}), dict) or not all(isinstance(text, str) for text in texts):
        raise OptionError(
            "A recipe's options are an object, its key_template and its description are text.", field="recipe"
        )
    gate = document.get("quality")
    return Recipe(**{**document, "quality": None if gate is None else Gate.read(gate)})


PRESETS = tuple(parse_recipe(document) for document in DOCUMENTS)


def sent_recipe(document: object, own: Sequence[Recipe] = ()) -> Recipe:
    """The recipe of a document that somebody sends along. Raises as parse_recipe does, and OptionError where it takes
    a preset's name, or the name and version of one of the operator's `own`, and asks for something else. Where its
    results lie is its own matter."""
    recipe = parse_recipe(document)
    taken = [known for known in PRESETS if known.name == recipe.name] + [
        known for known in own if known.id == recipe.id
    ]
    if taken and all(dataclasses.replace(recipe, key_template=known.key_template) != known for known in taken):
        raise OptionError(
            f"The recipe calls itself {recipe.id} and is not the {taken[-1].id} that is known here; give it a name of "
            "its own, or send the known one's name and the options that differ.",
            field="recipe",
        )
    return recipe


def catalogue(own: Sequence[Recipe] = ()) -> dict[str, Any]:
    """Every preset, the operator's `own` recipes and every background template, as `GET /v1/recipes` and `mattehorn
    recipes --json` give them.

    A template that is a scene has null for its gradient.
    """
    templates = [{"name": name, "gradient": BACKGROUND_TEMPLATES.get(name)} for name in TEMPLATE_NAMES]
    return {"recipes": [recipe.entry() for recipe in (*PRESETS, *own)], "background_templates": templates}


def names(own: Sequence[Recipe] = ()) -> str:
    """The recipes that there are, for messages."""
    return ", ".join(recipe.id for recipe in (*PRESETS, *own))


def find_recipe(name: str, own: Sequence[Recipe] = ()) -> Recipe:
    """The recipe called `name`, or `name@version`, of the presets and the operator's `own`; without a version the
    newest. Raises UnknownRecipe."""
    plain, _, version = name.partition("@")
    found = [recipe for recipe in (*PRESETS, *own) if recipe.name == plain and version in ("", str(recipe.version))]
    if not found:
        raise UnknownRecipe(f"There is no recipe {name[:100]!r}; there are {names(own)}.", field="recipe")
    return max(found, key=lambda recipe: recipe.version)
