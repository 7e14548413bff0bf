"""What an answer follows from, as one text: equal fingerprints, equal answers.

What it is not: it keeps nothing. Called by the ingress, for the cache (answers.py) and for joining equal requests.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from mattehorn.layout.options import LAYOUT_FIELDS
from mattehorn.options import Options
from mattehorn.recipe.result_keys import service_digest
from mattehorn.settings import Settings

_ONLY_STORED = ("name", "sku", "store_alpha", "store_source")  # seen in what is kept, not in the answer


@dataclass(frozen=True)
class Question:
    """One request's wish. `name` is the upload's, which a stored result's key is made of; `recipe` is a
    recipe's hash, `rendition` what no option asks for."""

    tenant: str
    photo: bytes
    options: Options
    name: str
    background: bytes | None = None
    binary: bool = False
    recipe: str = ""
    rendition: str = ""


def maker(settings: Settings) -> str:
    """Who answers: the models' processing and weights, this package, and the limits that photos are read within (an ICC
    profile may be too large for them). Raises as result_keys.service_digest does."""
    models = service_digest(settings.model, settings.strong_model, settings.model_dir)
    return _digest(models, version("mattehorn"), settings.limits.model_dump_json())


def fingerprint(question: Question, maker: str) -> str:
    """64 hex digits. Takes a millisecond or two for each megabyte, so an event loop leaves it to a thread."""
    options = canonical(question.options)
    if question.options.store:
        options["name"] = question.options.name or question.name
    return _digest(
        maker,
        question.tenant,
        hashlib.sha256(question.photo).hexdigest(),
        hashlib.sha256(question.background).hexdigest() if question.background is not None else "",
        json.dumps(options, sort_keys=True),
        str(question.binary),
        question.recipe,
        question.rendition,
    )


def canonical(options: Options) -> dict[str, Any]:
    """`options` with one spelling for one wish: defaults filled in, layout as numbers, and without what the answer
    does not show in its pixels and headers."""
    document = filled_in(options)
    for name in (*LAYOUT_FIELDS, "crop", "inline"):
        del document[name]
    document["layout"] = repr(options.layout)  # frozen values all the way down
    document["output"] = options.kind
    if options.format is None and options.kind in ("cutout", "alpha"):
        document["format"] = "png"
    if not options.store:
        for name in _ONLY_STORED:
            del document[name]
    return document


def filled_in(options: Options) -> dict[str, Any]:
    """All of `options`, and numbers as floats: a default of 0 that was not sent is the 0.0 that was."""
    return {name: float(value) if type(value) is int else value for name, value in options.model_dump().items()}


def _digest(*parts: str) -> str:
    """Of JSON, so that no part can pass for the end of one and the beginning of the next."""
    return hashlib.sha256(json.dumps(parts).encode("ascii")).hexdigest()
