"""A web batch: the photos of one form, kept in the results store as they come, and then a job over them.

What it is not: it parses no bytes (job_form.py) and looks at no photo. Called by jobs_api.py.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Mapping
from concurrent.futures import Future, wait
from contextlib import suppress
from typing import Any

from fastapi import Request

from deployments.ingress.bulk.bulk_access import BulkAccess
from deployments.ingress.bulk.job_form import BatchParser, Part
from deployments.ingress.jobs import require_model
from deployments.ingress.tenancy import own_limits
from mattehorn.bulk.job_spec import JobSpec
from mattehorn.bulk.jobs import Jobs
from mattehorn.errors import (
    InvalidBody,
    MattehornError,
    MissingImage,
    OptionError,
    StoreUnavailable,
    UnknownOption,
)
from mattehorn.recipe.own import read_recipes
from mattehorn.recipe.recipe import find_recipe, names
from mattehorn.recipe.result_keys import DEFAULT_TEMPLATE
from mattehorn.settings import Settings
from mattehorn.store.interface import DEFAULT_TYPE

FIELDS = ("recipe", "options", "output", "webhook_url")  # of the form, besides `files`
FLAT_TEMPLATE = "{stem}.{h}.{ext}"  # uploads have no folders of their own, and their key holds the job's id


class Batch:
    """A job over the photos of one form. What a request that fails has left in the store is removed again."""

    def __init__(self, settings: Settings, bulk: BulkAccess, job: str) -> None:
        self._settings, self._bulk, self._job = settings, bulk, job
        self._keys: list[str] = []
        self._fields: dict[str, str] = {}
        self._saving: Future[None] | None = None

    async def take(self, request: Request) -> JobSpec:
        """Raises InvalidBody, MissingImage, BodyTooLarge, OptionError and its kinds, and what the store and the queue
        raise."""
        try:
            parser = BatchParser(request.headers.get("content-type", ""), own_limits(self._settings.limits))
            async for part in parser.parts(request.stream()):
                await self._part(part)
            if not self._keys:
                raise MissingImage("No photo came; send each as a form part 'files' (curl: -F files=@PHOTO).")
            body = self._body()
        except BaseException:  # a client that has left ends us by cancelling
            self._bulk.start(self._remove)
            raise
        try:
            return await self._bulk.submit(body, self._job)
        except MattehornError:  # a client that leaves now has its job: it may be queued already
            self._bulk.start(self._remove)
            raise

    async def _part(self, part: Part) -> None:
        if part.file_name is None:
            self._field(part)
        elif part.name != "files":
            raise OptionError(f"{part.name[:80]} is not a file part here; send photos as files.", field=part.name[:80])
        elif part.data:  # an empty part is one that was not sent
            self._saving = self._bulk.start(self._save, part.file_name, part.data)
            await asyncio.wrap_future(self._saving)

    def _field(self, part: Part) -> None:
        name = part.name[:80]
        if name == "files":
            raise InvalidBody("files came as text; send photos as file parts (curl: -F files=@PHOTO).")
        if part.name not in FIELDS:
            raise UnknownOption(f"A batch has no {name}; it has files, {', '.join(FIELDS)}.", field=name)
        if not part.data:  # an empty text is one that was not sent
            return
        if part.name in self._fields:
            raise OptionError(f"{name} was sent twice; send it once.", field=name)
        try:
            self._fields[part.name] = part.data.decode()
        except UnicodeDecodeError:
            raise InvalidBody(f"{name} is not UTF-8 text.") from None

    def _body(self) -> dict[str, Any]:
        """The JSON that would ask for the same. Results lie flat, unless the recipe says where."""
        sent: dict[str, Any] = dict(self._fields)
        require_recipe(sent)
        recipe = find_recipe(sent["recipe"], read_recipes(self._settings.recipes_dir))
        if recipe.key_template == DEFAULT_TEMPLATE:
            recipe = dataclasses.replace(recipe, key_template=FLAT_TEMPLATE)
        if "options" in sent:
            sent["options"] = json_object(sent["options"].encode(), "options", 'send {"format": "png"}, for example')
        body = sent | {"input": {"keys": self._keys}, "recipe": recipe.document()}
        require_models(body, self._settings)
        return body

    def _save(self, jobs: Jobs, name: str, data: bytes) -> None:
        key = jobs.upload_key(self._job, len(self._keys) + 1, name)
        self._keys.append(key)  # first: a write that fails may still have been one
        jobs.places.home.put(key, data, content_type=DEFAULT_TYPE)

    def _remove(self, jobs: Jobs) -> None:
        if self._saving is not None:
            wait([self._saving])
        for key in self._keys:
            with suppress(StoreUnavailable):
                jobs.places.home.delete(key)


def json_object(data: bytes, what: str, advice: str = "see /docs for examples") -> dict[str, Any]:
    """The JSON object in `data`. Raises InvalidBody."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise InvalidBody(f"{what} is not valid JSON; {advice}.") from None
    if not isinstance(value, dict):
        raise InvalidBody(f"{what} is not a JSON object; {advice}.")
    return value


def require_recipe(body: Mapping[str, Any]) -> None:
    """Raises OptionError where the job names no recipe at all."""
    if not body.get("recipe"):
        raise OptionError(f"recipe is missing; send the name of one: {names()}.", field="recipe")


def require_models(body: Mapping[str, Any], settings: Settings) -> None:
    """Raises UnknownModel where the job names a model that this service does not run."""
    recipe = body.get("recipe")
    for options in (recipe.get("options") if isinstance(recipe, dict) else None, body.get("options")):
        model = options.get("model") if isinstance(options, dict) else None
        if isinstance(model, str) and model:
            require_model(model, settings)
