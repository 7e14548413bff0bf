"""`GET|POST /api/remove` as `rembg s` has it, over the native path. Contract: section 3.

Parameters come in the query and in the form, and the form's go first; unknown ones are left aside and counted. Errors
are `{"detail": ..}`. docs/migrate.md says what differs from rembg on purpose.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse

from deployments.ingress import answers, errors
from deployments.ingress.bodies import Body, read_shim_form
from deployments.ingress.compat import rembg_schema
from deployments.ingress.jobs import Service, job_for, observe_total, work_ends
from deployments.ingress.sources import Sources, with_fetch
from deployments.ingress.tenancy import own_limits
from deployments.ingress.work import Work
from mattehorn import telemetry
from mattehorn.errors import ConflictingOptions, CorruptImage, FetchFailed, MattehornError, MissingImage, OptionError
from mattehorn.fetch.sources import Source
from mattehorn.models.base import ModelCard
from mattehorn.models.zoo import running_cards
from mattehorn.options import Options, parse_options

PATH = "/api/remove"
MODELS = frozenset(
    {
        *("u2net", "u2netp", "u2net_human_seg", "u2net_cloth_seg", "u2net_custom", "silueta"),
        *("isnet-general-use", "isnet-anime", "dis_custom", "sam", "bria-rmbg", "ben_custom"),
        *(f"birefnet-{kind}" for kind in ("general", "general-lite", "portrait", "dis", "hrsod", "cod", "massive")),
    }
)
_STATUSES = {CorruptImage.code: 400, FetchFailed.code: 400}  # where they differ from the native ones (section 6)
_BOOLEANS = dict.fromkeys(("true", "1", "yes", "on"), True) | dict.fromkeys(("false", "0", "no", "off"), False)
# of the trimap that rembg draws for its matting: name -> (default, largest)
_TRIMAP = {"af": (240, 255), "ab": (10, 255), "ae": (10, None)}
_WHOLE = re.compile(r"\s*\+?([0-9]{1,9})\s*", re.ASCII)


@dataclass(frozen=True)
class Wish:
    """What was asked for. `binary`: alpha is smoothed and becomes 0 or 255."""

    options: Options
    binary: bool
    warnings: tuple[str, ...]


class Parameters:
    """The values of query and form by name, the form's first, and where each came from. Empty is not sent."""

    def __init__(self, query: dict[str, str], form: dict[str, str]) -> None:
        self._form = {name: text for name, text in form.items() if text}
        self.values = {name: text for name, text in query.items() if text} | self._form

    def text(self, name: str) -> str:
        return self.values.get(name, "")

    def refused(self, name: str, message: str, kind: type[OptionError] = OptionError) -> OptionError:
        where = "body" if name in self._form else "query"
        return kind(f"{name} {message}", field=name, where=where, input=self.text(name)[:200])

    def truth(self, name: str) -> bool:
        if not (text := self.text(name)):
            return False
        if text.strip().lower() not in _BOOLEANS:
            raise self.refused(name, "is neither true nor false; send true or false.")
        return _BOOLEANS[text.strip().lower()]

    def whole(self, name: str, default: int, largest: int | None) -> int:
        """A whole number from 0 on."""
        if not (text := self.text(name)):
            return default
        match = _WHOLE.fullmatch(text)
        if match is None or (largest is not None and int(match[1]) > largest):
            raise self.refused(name, f"is no whole number from 0 to {largest or 999_999_999}.")
        return int(match[1])


def router(service: Service, sources: Sources, work: Work) -> APIRouter:
    router = APIRouter(tags=["rembg"])
    settings = service.settings
    running = running_cards(settings.model, settings.strong_model, settings.model_dir).values()

    async def answer(request: Request, missing: tuple[str, str]) -> Response:
        started = time.perf_counter()
        with service.admission.admit():
            form = await _form(request, service) if request.method == "POST" else Body(b"")
            query = [(name, text) for name, text in request.query_params.multi_items() if text]
            sent = Parameters(dict(query), form.fields)
            deadline = work_ends(service.settings)
            wish = translate(sent, running)
            limits = own_limits(service.settings.limits)
            body = await sources.fill(_named(form, sent, missing), deadline, limits, photo_field="url")
            unknown = set(sent.values) - {*rembg_schema.PARAMETERS, "url", "file"}
            telemetry.add(telemetry.IGNORED_FIELDS, len(unknown), route=PATH)
            job = replace(job_for(body, wish.options, deadline), binary=wish.binary)
            done = with_fetch(await work.cut_out(job), body.fetch_ms)
        return answers.as_bytes(done, job.name, observe_total(started), wish.warnings)

    @router.get(PATH, openapi_extra=rembg_schema.get(), responses=rembg_schema.ANSWERS, response_class=Response)
    async def remove_from_url(request: Request) -> Response:
        """The photo at `url` without its background."""
        return await answer(request, ("query", "url"))

    @router.post(PATH, openapi_extra=rembg_schema.post(), responses=rembg_schema.ANSWERS, response_class=Response)
    async def remove_from_upload(request: Request) -> Response:
        """The uploaded photo, or the one at `url`, without its background."""
        return await answer(request, ("body", "file"))

    @router.get("/api", include_in_schema=False)
    async def api() -> RedirectResponse:
        return RedirectResponse("/docs")

    return router


async def _form(request: Request, service: Service) -> Body:
    return await read_shim_form(request, own_limits(service.settings.limits), "file")


def _named(form: Body, sent: Parameters, missing: tuple[str, str]) -> Body:
    """The upload, which goes first, or what is to be fetched from `url`."""
    if form.photo:
        return form
    if url := sent.text("url"):
        return replace(form, source=Source("image_url", url))
    where, field = missing
    raise MissingImage("Field required", where=where, field=field)


def translate(sent: Parameters, running: Collection[ModelCard]) -> Wish:
    """Native options: rembg's parameters, its PNG, its edges (0/0/0) and its answer to a photo without a subject."""
    model, warnings = _model(sent, running)
    native: dict[str, Any] = {"model": model, "alpha_threshold": 0, "erode_px": 0, "feather_px": 0, "allow_empty": True}
    native["format"] = sent.text("format") or "png"
    trimap = {name: sent.whole(name, *bounds) for name, bounds in _TRIMAP.items()}
    if sent.truth("a"):
        native["refine"] = "matting"
        if any(trimap[name] != default for name, (default, _) in _TRIMAP.items()):
            warnings += ("trimap_ignored",)
    colour = _background(sent)
    if sent.truth("om"):
        native["output"] = "alpha"
    elif colour is not None:
        native["background_color"] = colour
        if native["format"].strip().lower() in ("jpg", "jpeg") and not colour.endswith("ff"):
            raise sent.refused("format", "is jpg, which cannot hold transparency; use png.", ConflictingOptions)
    if _is_object(sent.text("extras")):
        warnings += ("extras_ignored",)
    try:
        options = parse_options(native)
    except OptionError as error:  # only `format` is not our own
        raise sent.refused("format", error.message.removeprefix("format").strip(" :="), type(error)) from None
    return Wish(options, sent.truth("ppm"), warnings)


def _model(sent: Parameters, running: Collection[ModelCard]) -> tuple[str, tuple[str, ...]]:
    """(native `model`, warnings). A model that runs here is the one that answers; for another of rembg's, any is.

    Raises OptionError for a model that neither runs here nor is one of rembg's.
    """
    name = sent.text("model")
    if name in ("", "auto"):
        return "auto", ()
    if any(name in (card.name, card.id) for card in running):
        return name, ()
    if name not in MODELS:
        ids = " and ".join(card.id for card in running)
        raise sent.refused("model", f"is not known; this service runs {ids}, and rembg's names are allowed.")
    return "auto", ("model_substituted",)


def _background(sent: Parameters) -> str | None:
    """`bgc`, R,G,B or R,G,B,A with each 0..255, as eight hex digits."""
    if not (text := sent.text("bgc")):
        return None
    matches = [_WHOLE.fullmatch(part) for part in text.split(",")]
    levels = [int(match[1]) for match in matches if match]
    if len(levels) != len(matches) or len(levels) not in (3, 4) or max(levels) > 255:
        raise sent.refused("bgc", "is no colour; send R,G,B or R,G,B,A, each 0 to 255.")
    return "#" + bytes((*levels, 255)[:4]).hex()


def _is_object(text: str) -> bool:
    """Whether `extras` says anything; what is no JSON is nothing, to rembg too."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and bool(value)


def error_response(error: MattehornError) -> JSONResponse:
    """`{"detail": TEXT}`; for a parameter that is bad or missing, 422 and the list that FastAPI makes of it."""
    if isinstance(error, (OptionError, MissingImage)):
        entry = {
            "type": "missing" if isinstance(error, MissingImage) else error.code,
            "loc": [part for part in (error.data.get("where"), error.data.get("field")) if part],
            "msg": error.message,
            "input": error.data.get("input"),
        }
        return errors.respond(error, {"detail": [entry]}, 422)
    return errors.respond(error, {"detail": error.message}, _STATUSES.get(error.code, error.status))
