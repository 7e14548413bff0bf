"""Closed-loop clients against a running service: threads that post one photo after another."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO

import httpx
import numpy as np
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

HUES = 16  # what colour() tells apart
POLL_METRICS_S = 40  # node agents lag up to 15 s


@dataclass
class Outcome:
    """How many answers of each status came; `wrong` counts 200s whose picture was another request's;
    `errors` holds the messages of the rest."""

    statuses: Counter[int] = field(default_factory=Counter)
    wrong: int = 0
    errors: set[str] = field(default_factory=set)


def photo(hue: int, width: int = 160, height: int = 120) -> bytes:
    """A JPEG of a coloured disc on grey; the colour tells the photos of a run apart."""
    rows, cols = np.mgrid[:height, :width]
    disc = (rows - height / 2) ** 2 + (cols - width / 2) ** 2 < (height / 3) ** 2
    image = np.full((height, width, 3), 128, np.uint8)
    image[disc] = colour(hue)
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def colour(hue: int) -> tuple[int, int, int]:
    return (255, hue % 4 * 80, hue // 4 % 4 * 80)


def post_many(
    url: str,
    *,
    posts: int,
    clients: int,
    on_answer: Callable[[int], None] = lambda count: None,
    size: tuple[int, int] = (160, 120),
) -> Outcome:
    """`posts` requests by `clients` threads; every 200's centre must have its own photo's colour. `on_answer` hears how
    many answers have come."""
    outcome, lock, numbers = Outcome(), threading.Lock(), iter(range(posts))
    photos = [photo(hue, *size) for hue in range(HUES)]  # made beforehand: the clients share the service's cores

    def client() -> None:
        with httpx.Client(timeout=120) as http:
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                answer = http.post(f"{url}/v1/mattes", files={"file": ("p.jpg", photos[number % HUES])})
                right = answer.status_code != 200 or _centre_is(answer.content, colour(number))
                with lock:
                    outcome.statuses[answer.status_code] += 1
                    outcome.wrong += not right
                    on_answer(sum(outcome.statuses.values()))
                    if answer.status_code != 200:
                        outcome.errors.add(answer.json()["error"]["message"])

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcome


def _centre_is(png: bytes, expected: tuple[int, int, int]) -> bool:
    pixels = np.asarray(Image.open(BytesIO(png)).convert("RGB")).astype(int)
    centre = pixels[pixels.shape[0] // 2, pixels.shape[1] // 2]
    return bool(np.abs(centre - expected).max() <= 8)


def samples(url: str) -> dict[str, float]:
    """Each sample of one GET /metrics, summed over replicas and labels."""
    sums: Counter[str] = Counter()
    for family in text_string_to_metric_families(httpx.get(f"{url}/metrics", timeout=20).text):
        for entry in family.samples:
            sums[entry.name] += entry.value
    return dict(sums)


def wait_for_sample(url: str, name: str, at_least: float) -> dict[str, float]:
    """The samples once `name` has reached `at_least`; the last ones seen when it never does."""
    deadline = time.monotonic() + POLL_METRICS_S
    while (seen := samples(url)).get(name, 0) < at_least and time.monotonic() < deadline:
        time.sleep(1)
    return seen
