"""What an operator sets: the `args:` of serve_config.yaml, or `--set KEY=VALUE` with dotted keys. What a caller sets
is `Options`. Unknown keys are refused. Credentials of AWS are left to boto3's own variables."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from mattehorn.fetch.policy import PORTS, UrlPolicy

Port = Annotated[int, Field(ge=1, le=65_535)]
Bucket = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]$")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Limits(_Section):
    """Bounds on one request. Sizes are bytes unless the name says otherwise."""

    body_bytes: int = Field(default=32 * 2**20, gt=0, description="whole request body, counted while it streams in")
    pixels: int = Field(default=50_000_000, gt=0, description="width x height, read from the header before decoding")
    side_px: int = Field(default=20_000, gt=0, description="longest side of a picture")
    icc_bytes: int = Field(default=4 * 2**20, gt=0, description="a larger ICC profile is dropped with a warning")
    text_bytes: int = Field(default=2**20, gt=0, description="a larger PNG text chunk is dropped with a warning")
    fields: int = Field(default=80, gt=0, description="form fields in one body; a form with every option has 51")
    field_bytes: int = Field(default=64 * 2**10, gt=0, description="one form field")
    files: int = Field(default=3, gt=0, description="file parts in one multipart body")
    upload_s: float = Field(default=60.0, gt=0, description="time for the body to arrive")
    work_s: float = Field(default=30.0, gt=0, description="time from the body's last byte to the answer's first")
    fetch_s: float = Field(default=15.0, gt=0, description="time for a picture by URL, redirects included")
    fetch_connect_s: float = Field(default=5.0, gt=0, description="time for a look-up, and for TCP and TLS each")
    fetch_bytes_per_s: float = Field(
        default=10_000.0, gt=0, description="a server that sends slower on average, after 2 s of grace, is given up"
    )
    fetch_redirects: int = Field(default=3, ge=0, description="redirects from one URL, each checked as a new URL")
    requests_in_flight: int = Field(
        default=40,
        gt=0,
        description="pictures one ingress replica works on; the next is answered 429. Below Serve's own 64",
    )
    megapixels_in_flight: int = Field(
        default=200, gt=0, description="decoded pixels one compose replica holds at once, about 12 bytes each"
    )


class StoreSettings(_Section):
    url: str = Field(default="file://./results", description="file:///dir or s3://bucket/prefix")
    endpoint_url: str | None = Field(default=None, description="an S3 endpoint that is not AWS")
    region: str | None = None
    addressing_style: Literal["virtual", "path", "auto"] = Field(
        default="auto",
        description="path for Swift, rclone, moto and most local servers; virtual for AWS and Alibaba OSS",
    )
    key_template: str = Field(
        default="by-run",
        description="a preset (by-run, by-sku) or a template; see mattehorn/store/results.py for its fields",
    )


class QueueSettings(_Section):
    """Where bulk work waits; see mattehorn/queue/open.py. The fields are open_queue's arguments."""

    url: str = Field(
        default="sqlite:///mattehorn-queue.db",
        description="sqlite:///file (sqlite:////full/path/file) or sqs://sqs.REGION.amazonaws.com/ACCOUNT/NAME",
    )
    lease_s: float = Field(
        default=120.0,
        gt=0,
        le=43_200,
        description="a message whose worker says nothing for so long goes to another one",
    )
    max_receive: int = Field(
        default=5,
        ge=1,
        le=1000,
        description="failures after which a message is a dead letter; SQS counts receives, by its own redrive policy",
    )
    endpoint_url: str | None = Field(default=None, description="an SQS endpoint other than the queue URL's host")
    region: str | None = Field(default=None, description="the SQS region, where the queue URL's host does not say it")


class BulkRoute(_Section):
    """What a store's notification asks for: photos below `source` go by `recipe` to `output`."""

    source: str = Field(description="s3://bucket/prefix/ whose new photos are worked on")
    recipe: str = Field(default="transparent-web", description="a recipe's NAME or NAME@VERSION")
    output: str = Field(description="s3://bucket/prefix/ for the results; it may not overlap any source")


class BulkSettings(_Section):
    """Bulk work: events, jobs, folders; see mattehorn/bulk/ and deployments/bulk/."""

    enabled: bool = Field(default=True, description="false: no bulk replica runs, and the API takes no jobs and events")
    routes: tuple[BulkRoute, ...] = Field(
        default=(), description="what events of a bucket lead to; the first source that matches counts"
    )
    in_flight: int = Field(
        default=8,
        ge=1,
        le=256,
        description="photos one bulk replica works on: twice matting replicas x max_batch, and some being read or kept",
    )
    photo_s: float = Field(
        default=300.0,
        gt=0,
        le=800,  # below the 900 s after which the consumer gives a message up
        description="time for one photo; far above limits.work_s, for it may have to wake a pool at zero",
    )
    buckets: tuple[str, ...] | None = Field(
        default=None,
        description="buckets that jobs and events may name besides the store's; empty value: all the credentials reach",
    )
    uploads_kept_s: float = Field(
        default=3600.0,
        ge=0,
        le=30 * 86_400,
        description="the photos of a web batch are removed so long after its job's end, which has their results",
    )
    webhook_secret: SecretStr | None = Field(
        default=None, min_length=1, description="signs the POST to a job's webhook_url; without it jobs may have none"
    )


class EventSettings(_Section):
    """Who may post to /v1/events/s3; with nothing set nobody may."""

    token: SecretStr | None = Field(
        default=None, min_length=1, description="senders present it as Authorization: Bearer TOKEN"
    )
    hmac_secret: SecretStr | None = Field(
        default=None, min_length=1, description="senders sign the body with it: X-Mattehorn-Signature"
    )
    sns_topics: tuple[str, ...] = Field(
        default=(), description="ARNs of the SNS topics whose signed messages are taken and confirmed"
    )
    pubsub_audience: str | None = Field(
        default=None,
        min_length=1,
        description="audience of the OIDC token that Pub/Sub signs each push with; then no push comes in without one",
    )
    pubsub_service_accounts: tuple[str, ...] = Field(
        default=(), description="e-mail addresses of the service accounts whose pushes are taken"
    )
    pubsub_keys_url: str = Field(
        default="https://www.googleapis.com/oauth2/v3/certs",
        description="Google's public keys, a JWK set; https, or http on the loopback",
    )

    @field_validator("pubsub_keys_url")
    @classmethod
    def _keys_come_safely(cls, url: str) -> str:
        if not re.match(r"https://.|http://(127(\.[0-9]{1,3}){3}|\[::1\])[:/]", url):
            raise ValueError(f"{url[:200]!r} was given; keys come over https://, or http:// from 127.0.0.1 itself")
        return url

    @model_validator(mode="after")
    def _pubsub_needs_both(self) -> Self:
        if bool(self.pubsub_audience) != bool(self.pubsub_service_accounts):
            raise ValueError(
                "pubsub_audience and pubsub_service_accounts need each other: anybody may have Google sign a token for "
                "any audience"
            )
        return self


class CacheSettings(_Section):
    """Answers kept in the results store: for equal requests, and for idempotency keys. See mattehorn/cache/."""

    max_bytes: int = Field(
        default=2**30,
        ge=0,
        description="of answers kept for equal requests, the oldest go first: about 3000 photos. 0: none is kept, and "
        "equal requests in flight are not joined",
    )
    ttl_s: float = Field(default=86_400.0, gt=0, le=30 * 86_400, description="an answer is kept so long at most")
    idempotency_ttl_s: float = Field(
        default=86_400.0, gt=0, le=30 * 86_400, description="the answer to an Idempotency-Key is kept so long"
    )
    idempotency_max_bytes: int = Field(
        default=10 * 2**30, gt=0, description="of answers to idempotency keys; the oldest go first, before their time"
    )


class RemoveBgSettings(_Section):
    """remove.bg's endpoints; see deployments/ingress/compat/removebg/."""

    megapixels_per_minute: int | None = Field(
        default=500,
        gt=0,
        description="megapixel images a tenant without a budget a minute of its own may send; empty: any number",
    )
    body_bytes: int = Field(default=22 * 2**20, gt=0, description="whole request body, and a picture by URL")
    work_s: float = Field(
        default=18.0, gt=0, description="as limits.work_s; the official Ruby client sends again after 20 s"
    )
    improve: bool = Field(default=False, description="true: POST /v1.0/improve keeps photos in the results store")


class FakeSettings(_Section):
    """The `fake` model's made-up cost, for load tests."""

    batch_ms: float = Field(default=40.0, ge=0)
    image_ms: float = Field(default=4.0, ge=0)


class Settings(_Section):
    model: str = Field(default="mattehorn-base", description="a card's name, or NAME=PATH: own weights under that card")
    strong_model: str | None = Field(
        default=None,
        description="a stronger model beside it, for `tier`, and for what scores low; it has a pool of its own",
    )
    recipes_dir: str | None = Field(
        default=None, description="a folder of recipes of your own, one JSON document a file; read at start"
    )
    max_batch: int = Field(default=2, ge=1, le=256, description="pictures in one forward pass; CPU 1 or 2, GPU 16")
    threads: int = Field(
        default=1, ge=1, description="intra-op threads of one matting replica; two lose on shared cores"
    )
    compose_threads: int = Field(
        default=2, ge=1, description="pictures one compose replica decodes or encodes side by side"
    )
    model_dir: str | None = Field(
        default=None, description="a read-only folder with weights, looked at before the packaged ones"
    )
    keys_file: str | None = Field(
        default=None,
        min_length=1,
        description="a file of API keys (`mattehorn keys`); once set, nobody gets in without one",
    )
    metrics_open: bool = Field(default=False, description="/metrics needs no key, where keys are on")
    open_without_keys: bool = Field(
        default=False, description="serve other machines without keys; whoever reaches the port may use everything"
    )
    url_allow: tuple[str, ...] = Field(
        default=(),
        description="HOST or HOST:PORT that callers' URLs may name though its address is not public",
    )
    url_ports: tuple[Port, ...] = Field(default=PORTS, description="ports that callers' URLs may name on any host")
    url_buckets: tuple[Bucket, ...] = Field(
        default=(),
        description="buckets that image_url and background_url may name as s3://bucket/key; empty: none",
    )
    store: StoreSettings = StoreSettings()
    queue: QueueSettings = QueueSettings()
    bulk: BulkSettings = BulkSettings()
    events: EventSettings = EventSettings()
    cache: CacheSettings = CacheSettings()
    limits: Limits = Limits()
    removebg: RemoveBgSettings = RemoveBgSettings()
    fake: FakeSettings = FakeSettings()

    @field_validator("url_allow")
    @classmethod
    def _hosts_are_hosts(cls, entries: tuple[str, ...]) -> tuple[str, ...]:
        UrlPolicy.of(entries)
        return entries

    @model_validator(mode="after")
    def _two_models(self) -> Self:
        if self.strong_model is not None and self.strong_model == self.model:
            raise ValueError(f"strong_model is {self.model}, as model is; name a stronger one or leave it out")
        return self


def apply_overrides(args: dict[str, Any], pairs: list[str]) -> dict[str, Any]:
    """A copy of `args` with every KEY=VALUE of `pairs` set; dots nest, values are read as YAML.

    Raises ValueError when a pair has no `=`, is no YAML, or goes through a value that is not a section.
    """
    merged: dict[str, Any] = {k: dict(v) if isinstance(v, dict) else v for k, v in args.items()}
    for pair in pairs:
        key, sign, raw = pair.partition("=")
        if not sign or not key:
            raise ValueError(f"--set takes KEY=VALUE, for example store.url=file:///data; got {pair!r}.")
        *sections, leaf = key.split(".")
        place = merged
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise ValueError(f"{section} in {key} is a value, not a section.")
        try:
            place[leaf] = yaml.safe_load(raw)
        except yaml.YAMLError:
            raise ValueError(f"The value of {key} is no YAML: {raw!r}; put text with : or {{ in quotes.") from None
    return merged
