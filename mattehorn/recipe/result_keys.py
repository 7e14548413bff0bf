"""Where a result and an error go: keys that are pure functions of the photo, the model, the recipe and the job.

What it is not: it opens no store. Called by item.py, by recipe.py for its template, and by every other engine that
wants to skip what this one has done. Equal keys mean equal content, so nobody has to agree on who writes.
"""

from __future__ import annotations

import hashlib
import string
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import PurePosixPath

from mattehorn.colour import BACKGROUND_TEMPLATES, parse_colour, parse_gradient
from mattehorn.errors import OptionError
from mattehorn.models.registry import find_weights
from mattehorn.models.zoo import find_card
from mattehorn.options import Format, Options
from mattehorn.store.interface import StoreKeyError, check_key
from mattehorn.store.key_template import TIME_FORM, check_ext, clean_sku, clean_stem

DEFAULT_TEMPLATE = "{key}.{h}.{ext}"
TEMPLATE_FIELDS = {
    "key": "the photo's whole key",
    "stem": "the photo's name without its suffix",
    "sku": "the recipe's sku, or no-sku",
    "h": "12 hex digits from the photo's version, the model and the recipe; needed in every template",
    "ext": "the suffix of the result's format",
    "job": "the job's id; only in jobs",
    "run": "when the job was made, UTC; a strftime form after a colon; only in jobs",
}
JOB_FIELDS = frozenset(("job", "run"))
ERRORS = "errors/"  # below the output: one place to give rights to, one to keep out of the inputs
REVIEW = "review/"  # below the output: results that a recipe's gate sends to somebody's eyes, under their usual keys
HASH_CHARS = 12  # 48 bits; it tells versions of one key apart, so thousands of them do not collide
TEMPLATE_CHARS = 400


def model_digest(name: str, model_dir: str | None = None) -> str:
    """The sha256 (hex) of what a model is: its card's processing and its weights. `name` as in Settings.model.

    Raises as registry.find_weights does. Weights are read, not loaded.
    """
    card = find_card(name, model_dir)
    weights = b"" if card.kind == "fake" else find_weights(card, path=name.partition("=")[2], model_dir=model_dir)
    facts = (card.id, card.input_size, card.fit, card.mean, card.std, card.scale, card.output, card.restore)
    return hashlib.sha256(repr(facts).encode() + b"\0" + weights).hexdigest()


def service_digest(model: str, strong_model: str | None, model_dir: str | None = None) -> str:
    """model_digest() of what a service runs: of both models, where a photo may go to either. Raises as that does."""
    digests = [model_digest(name, model_dir) for name in (model, strong_model) if name]
    return digests[0] if len(digests) == 1 else hashlib.sha256("\0".join(digests).encode()).hexdigest()


def identity(source_version: str, model: str, recipe_hash: str) -> str:
    """`h` of a key. `source_version` is the photo's version id, or its etag where the store keeps no versions."""
    text = "\0".join((source_version, model, recipe_hash))
    return hashlib.sha256(text.encode()).hexdigest()[:HASH_CHARS]


def check_bulk_template(template: str) -> str:
    """The template itself. Raises OptionError (field `key_template`) that says what is allowed."""
    if len(template) > TEMPLATE_CHARS:
        raise _bad_template(template, f"has {len(template)} characters; at most {TEMPLATE_CHARS} are allowed")
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError:
        raise _bad_template(template, "has a brace without its partner") from None
    used = _fields(template)
    for _, name, form, conversion in parsed:
        if name is not None and name not in TEMPLATE_FIELDS:
            raise _bad_template(template, f"has the unknown field {name!r}; allowed are {', '.join(TEMPLATE_FIELDS)}")
        if conversion or (form and not (name == "run" and TIME_FORM.fullmatch(form))):
            raise _bad_template(template, f"gives {{{name}}} a form; only run takes one, of Y m d H M S j f G V")
    if "h" not in used or "ext" not in used:
        raise _bad_template(template, "lacks {h} or {ext}; without them a new version or recipe would be skipped")
    literals = "".join(literal for literal, *_ in parsed)
    whole = "".join(literal + ("x" if name is not None else "") for literal, name, *_ in parsed)
    parts = whole.split("/")
    if any(not part or part.startswith(".") for part in parts) or "\\" in literals or not literals.isprintable():
        raise _bad_template(template, "has an empty part, a leading dot or slash, a backslash or a control character")
    return template


def needs_job(template: str) -> bool:
    """Whether only a job can fill the template: its dates come from the job, never from the clock."""
    return bool(_fields(template) & JOB_FIELDS)


def output_key(
    template: str,
    key: str,
    h: str,
    ext: str,
    *,
    sku: str | None = None,
    job: str | None = None,
    run: datetime | None = None,
) -> str:
    """The result's key below the output's prefix. `h` is identity(); `job` and `run` are given in jobs.

    Where the template has no {key}, the key goes into the hash instead, so that two photos never share a result.
    Raises StoreKeyError where the store could never hold it, and for a template that needs a job without one.
    """
    if needs_job(template) and (job is None or run is None):
        raise StoreKeyError("The recipe's key template has {job} or {run}, which only a job can fill.")
    values = {
        "key": key,
        "stem": clean_stem(PurePosixPath(key).name),
        "sku": clean_sku(sku),
        "h": h if "key" in _fields(template) else _with_key(h, key),
        "ext": check_ext(ext),
        "job": job or "",
    }
    return check_key(_fill(template, values, run.astimezone(UTC) if run else None))


def error_key(key: str, h: str) -> str:
    """Where a photo's permanent error is written, below the output's prefix."""
    return f"{ERRORS}{key}.{h}.json"


def short_error_key(key: str, h: str) -> str:
    """The same for a photo whose own key, or its error's, no store can hold."""
    return f"{ERRORS}by-hash/{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()}.{h}.json"


def settled_format(options: Options) -> Options:
    """`options` with the format named that would else depend on the photo: a key must be known before the work.

    A composite is a jpg where its background is opaque whatever the photo, else a png, as the pipeline would do.
    """
    if options.format is not None or options.kind == "zip":
        return options
    return options.model_copy(update={"format": _usual_format(options)})


def extension(options: Options) -> str:
    """The result's suffix without a dot; `options` from settled_format()."""
    return "zip" if options.kind == "zip" else options.format or "png"


def _usual_format(options: Options) -> Format:
    if options.kind != "composite" or options.background_blur_px is not None:
        return "png"
    gradient = options.background_gradient or BACKGROUND_TEMPLATES.get(options.background_template or "")
    if gradient is not None:
        return "jpg" if all(stop.colour[3] == 255 for stop in parse_gradient(gradient).stops) else "png"
    return "jpg" if parse_colour(options.background_color or "white")[3] == 255 else "png"


def _with_key(h: str, key: str) -> str:
    return hashlib.sha256(f"{h}\0{key}".encode()).hexdigest()[:HASH_CHARS]


def _fields(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}


def _fill(template: str, values: Mapping[str, str], run: datetime | None) -> str:
    parts = []
    for literal, name, form, _ in string.Formatter().parse(template):
        parts.append(literal)
        if name == "run" and run is not None:
            parts.append(run.strftime(form or "%Y%m%d%H%M%S"))
        elif name is not None:
            parts.append(values[name])
    return "".join(parts)


def _bad_template(template: str, what: str) -> OptionError:
    return OptionError(f"key_template {template[:100]!r} {what}.", field="key_template")
