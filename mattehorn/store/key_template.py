"""Key templates: under which storage key a picture goes. Pure text, no store.

What it is not: it does not look whether a key is taken (results.py). Called by results.py for each picture,
and at start (check_template), so that a bad template stops the service and never a picture. Times are UTC.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime

from mattehorn.store.interface import KEY_BYTES

KEY_PRESETS = {
    "by-run": "outputs/outputs_{run:%Y%m%d%H%M%S}/{stem}_matte.{ext}",
    "by-sku": "outputs/{time:%Y%m%d}/{time:%H%M%S}_{sku}/{stem}_matte.{ext}",
}
TEMPLATE_FIELDS = {
    "run": "when the run or batch began; a strftime form after a colon",
    "time": "when this picture was stored; a strftime form after a colon",
    "stem": "the picture's name without its suffix",
    "sku": "the SKU, or no-sku",
    "ext": "the suffix of the result's format",
}
TIME_FORM = re.compile(r"(%[YmdHMSjfGV]|[A-Za-z0-9_./-])+")

# Both, a suffix and an id fit one file name on disk (255 bytes), as in `{sku}_{stem}.{ext}`.
STEM_BYTES, SKU_BYTES = 140, 64
PART_BYTES = 215
ROOM_BYTES = 255 - PART_BYTES  # for `-` and an id of 26, and `_source`

PICTURE_SUFFIX = re.compile(r"\.(jpe?g|jfif|png|webp|bmp|tiff?|gif|hei[cf]|avif|zip)$", re.IGNORECASE)
# Marks that turn the writing direction, and so can make a name look as if it had another suffix.
BIDI_CONTROLS = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def render_key(
    template: str, *, name: str, sku: str | None, time: datetime, ext: str, run: datetime | None = None
) -> str:
    """The storage key of a picture. `template` may be a preset's name; `run` is `time` unless given.

    Raises ValueError for a bad template, a bad `ext`, or a time without a zone; any `name` and `sku` will do.
    """
    values = {"stem": clean_stem(name), "sku": clean_sku(sku), "ext": check_ext(ext)}
    times = {"time": time, "run": run or time}
    if any(moment.tzinfo is None for moment in times.values()):
        raise ValueError("A key's time needs a time zone.")
    return _fill(check_template(template), values, {k: v.astimezone(UTC) for k, v in times.items()})


def check_template(template: str) -> str:
    """The template's text, a preset's name resolved. Raises ValueError that says what is allowed."""
    text = KEY_PRESETS.get(template, template)
    said = f"store.key_template {template!r}"
    try:
        parsed = list(string.Formatter().parse(text))
    except ValueError as exc:
        raise ValueError(f"{said} has a brace without its partner.") from exc
    used = [name for _, name, _, _ in parsed if name is not None]
    unknown = [name for name in used if name not in TEMPLATE_FIELDS]
    if unknown:
        raise ValueError(f"{said} has the unknown field {unknown[0]!r}; allowed are {', '.join(TEMPLATE_FIELDS)}.")
    if not set(used) - {"ext"}:
        raise ValueError(f"{said} is no preset ({', '.join(KEY_PRESETS)}) and gives every picture the same key.")
    for _, name, form, conversion in parsed:
        is_time = name in ("run", "time")
        if conversion or (form and not (is_time and TIME_FORM.fullmatch(form))):
            raise ValueError(
                f"{said}: {{{name}}} takes a form only on run and time, of strftime's Y m d H M S j f G V."
            )
    _check_longest(said, text)
    return text


def with_suffix(key: str, suffix: str) -> str:
    """`a/photo_matte.png` and `2` give `a/photo_matte-2.png`."""
    folder, slash, name = key.rpartition("/")
    stem, dot, ext = name.rpartition(".")
    return f"{folder}{slash}{stem}-{suffix}{dot}{ext}" if stem else f"{key}-{suffix}"


def clean_stem(name: str) -> str:
    """A picture's name as one path part, no picture suffix, at most STEM_BYTES; else `image`."""
    return _cut(PICTURE_SUFFIX.sub("", _clean(name)), STEM_BYTES) or "image"


def clean_sku(sku: str | None) -> str:
    """A SKU as a path part or the end of one, at most SKU_BYTES; else `no-sku`."""
    return _cut(_clean(sku or ""), SKU_BYTES) or "no-sku"


def _clean(text: str) -> str:
    """No separators, control or direction characters, no outer dots. Unicode stays, in its composed form."""
    kept = (
        "_" if letter in "/\\" else letter
        for letter in unicodedata.normalize("NFC", text)
        if unicodedata.category(letter) not in ("Cc", "Cs", "Zl", "Zp") and letter not in BIDI_CONTROLS
    )
    return re.sub(r"^[\s.]+|[\s.]+$", "", "".join(kept))


def _cut(text: str, max_bytes: int) -> str:
    return text.encode()[:max_bytes].decode(errors="ignore").rstrip(" .")


def check_ext(ext: str) -> str:
    """`ext` itself, a file suffix without its dot. Raises ValueError."""
    if not re.fullmatch(r"[a-z0-9]{1,8}", ext):
        raise ValueError(f"A file suffix has 1 to 8 small letters or digits; got {ext!r}.")
    return ext


def _fill(text: str, values: Mapping[str, str], times: Mapping[str, datetime]) -> str:
    parts = []
    for literal, name, form, _ in string.Formatter().parse(text):
        parts.append(literal)
        if name is None:  # text after the last field
            continue
        parts.append(times[name].strftime(form or "%Y%m%d%H%M%S") if name in times else values[name])
    return "".join(parts)


def _check_longest(said: str, text: str) -> None:
    """Fills in the longest values, so that a template which passes at start never fails on a picture."""
    moment = datetime(2000, 1, 1, tzinfo=UTC)
    longest = {"stem": "s" * STEM_BYTES, "sku": "s" * SKU_BYTES, "ext": "webp"}
    key = _fill(text, longest, {"run": moment, "time": moment})
    parts = key.split("/")
    if any(not part or part.startswith(".") for part in parts) or "\\" in key or not key.isprintable():
        raise ValueError(f"{said} has an empty part, a leading dot, a backslash or a control character.")
    if max(len(part.encode()) for part in parts) > PART_BYTES or len(key.encode()) > KEY_BYTES - ROOM_BYTES:
        raise ValueError(
            f"{said} is too long: with a stem of {STEM_BYTES} and a SKU of {SKU_BYTES} bytes, a part may have "
            f"{PART_BYTES} bytes and the key {KEY_BYTES - ROOM_BYTES}."
        )
