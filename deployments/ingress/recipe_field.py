"""The field `recipe` of POST /v1/mattes: from loose fields to what is asked for, the recipe's values below them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from deployments.ingress.bodies import Body
from mattehorn.errors import OptionError
from mattehorn.options import parse_options
from mattehorn.recipe.gate import Wish
from mattehorn.recipe.recipe import Recipe, find_recipe, sent_recipe


def wish_for(body: Body, own: Sequence[Recipe]) -> Wish:
    """What the body asks for; `own` are the operator's recipes. Raises OptionError and its kinds."""
    fields = dict(body.fields)
    sent = fields.pop("recipe", None)
    pictures = {"background_file": body.background is not None, "background_url": body.background_url is not None}
    if sent is None or sent == "":
        return Wish(parse_options(fields, **pictures))
    return _recipe(sent, own).wish(fields, **pictures)


def _recipe(sent: object, own: Sequence[Recipe]) -> Recipe:
    """A recipe by its name, or a whole document: an object in JSON, its text in a form."""
    if isinstance(sent, str) and sent.lstrip().startswith("{"):
        try:
            sent = json.loads(sent)
        except (ValueError, RecursionError):
            raise OptionError("recipe is neither a name nor a JSON object.", field="recipe") from None
    if isinstance(sent, Mapping):
        return sent_recipe(dict(sent), own)
    if not isinstance(sent, str):
        raise OptionError("recipe is neither a name nor an object.", field="recipe")
    return find_recipe(sent, own)
