"""What bulk work is made of, from Settings: places, jobs, routes, webhook, limits. Pure: no Ray.

The bulk replica and the ingress make the same ones, so that what the API takes is what the replica can do.
"""

from __future__ import annotations

from mattehorn.bulk.consumer import ConsumerLimits
from mattehorn.bulk.jobs import Jobs
from mattehorn.bulk.places import Places
from mattehorn.bulk.webhook import Webhook
from mattehorn.bulk.worker import Route, WorkerSettings, check_routes
from mattehorn.errors import OptionError
from mattehorn.fetch.fetch import Fetcher
from mattehorn.queue.interface import Queue
from mattehorn.recipe.own import read_recipes
from mattehorn.recipe.recipe import find_recipe
from mattehorn.recipe.result_keys import service_digest
from mattehorn.settings import Settings

_LONG_POLL_S = 5.0  # an empty SQS queue costs half a million requests a month; a stop waits for the last one
_POLL_S = 1.0  # a SQLite file is looked at many times in it
DRAIN_S = 60.0  # below the 100 s that Serve gives the replica to end


def make_places(settings: Settings) -> Places:
    return Places(settings.store, allowed=settings.bulk.buckets)


def make_webhook(settings: Settings) -> Webhook:
    secret = settings.bulk.webhook_secret
    return Webhook(secret.get_secret_value() if secret else None, Fetcher.of(settings))


def make_jobs(settings: Settings, places: Places, queue: Queue) -> Jobs:
    own = read_recipes(settings.recipes_dir)
    return Jobs(places, queue, check_webhook=make_webhook(settings).check_url, recipes=own)


def make_routes(settings: Settings, places: Places) -> tuple[Route, ...]:
    """The routes of `bulk.routes`. Raises OptionError, naming the route's number, for one that cannot work."""
    routes = []
    for number, route in enumerate(settings.bulk.routes):
        try:
            source = places.parse(route.source, "source").folder
            output = places.parse(route.output, "output").folder
            routes.append(Route(source, find_recipe(route.recipe, read_recipes(settings.recipes_dir)), output))
            check_routes(routes, places)
        except OptionError as error:
            raise OptionError(f"bulk.routes, number {number + 1}: {error.message}", field="bulk.routes") from None
    return tuple(routes)


def worker_settings(settings: Settings) -> WorkerSettings:
    """Raises as registry.find_weights does when the model's weights are not there."""
    return WorkerSettings(
        service_digest(settings.model, settings.strong_model, settings.model_dir),
        in_flight=settings.bulk.in_flight,
        max_receive=settings.queue.max_receive,
        item_s=settings.bulk.photo_s,
    )


def consumer_limits(settings: Settings) -> ConsumerLimits:
    return ConsumerLimits(
        in_flight=settings.bulk.in_flight,
        lease_s=settings.queue.lease_s,
        max_receive=settings.queue.max_receive,
        wait_s=_LONG_POLL_S if settings.queue.url.startswith("sqs://") else _POLL_S,
        drain_s=DRAIN_S,
    )
