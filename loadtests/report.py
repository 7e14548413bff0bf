"""From answers to a table: percentiles, statuses and costs of each step. Pure: no clock, no network, no files."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median

OK, REFUSED, NO_ANSWER = 200, 429, 0


@dataclass(frozen=True)
class Answer:
    """One request: when it `began` (seconds since the epoch), how long until its last byte, what came.

    `status` is 0 when nothing did; `image` says that a 200 held a PNG or a JPEG; `stages_ms` is Server-Timing.
    """

    began: float
    ms: float
    status: int
    image: bool = False
    retry_after: str | None = None
    stages_ms: dict[str, float] = field(default_factory=dict)

    @property
    def ended(self) -> float:
        return self.began + self.ms / 1000


@dataclass(frozen=True)
class Costs:
    """What a step cost the service; None where it could not be seen."""

    mean_batch: float | None = None
    cpu_s: float | None = None
    peak_mb: float | None = None
    replicas: str | None = None
    card_busy: float | None = None  # percent
    card_mb: float | None = None


@dataclass(frozen=True)
class Step:
    """One row: `p50_ms` to `p99_ms` and `stages_ms` (medians) are those of the 200s; `images_s` counts them only."""

    clients: int
    requests: int
    images_s: float
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    statuses: dict[int, int]
    wrong: int
    without_retry_after: int
    refused_p50_ms: float | None
    refused_p95_ms: float | None
    stages_ms: dict[str, float]
    mean_batch: float | None
    cpu_ms_per_image: float | None
    peak_mb: float | None
    replicas: str | None
    card_busy: float | None
    card_mb: float | None

    @property
    def faults(self) -> list[str]:
        """What no step may hold: answers that are neither a picture nor a 429 with Retry-After, or no answer at all."""
        bad = {code: count for code, count in self.statuses.items() if code not in (OK, REFUSED)}
        found = [f"{count} x {_status(code)}" for code, count in sorted(bad.items())]
        if self.wrong:
            found.append(f"{self.wrong} x 200 without a picture")
        if self.without_retry_after:
            found.append(f"{self.without_retry_after} x 429 without Retry-After")
        if not self.statuses:
            found.append("no request was answered")
        return found


def parse_answers(lines: Iterable[str]) -> list[Answer]:
    """The answers that locustfile.py wrote, one JSON object a line."""
    return [_answer(json.loads(line)) for line in lines if line.strip()]


def _answer(entry: dict[str, object]) -> Answer:
    retry_after = entry["retry_after"]
    return Answer(
        began=float(str(entry["began"])),
        ms=float(str(entry["ms"])),
        status=int(str(entry["status"])),
        image=bool(entry["image"]),
        retry_after=None if retry_after is None else str(retry_after),
        stages_ms=parse_server_timing(str(entry["server_timing"])),
    )


def parse_server_timing(header: str) -> dict[str, float]:
    """Milliseconds by stage of `decode;dur=1.5, infer;dur=40`; entries without a duration are left out."""
    found = {}
    for entry in header.split(","):
        name, _, rest = entry.strip().partition(";")
        for parameter in rest.split(";"):
            key, _, value = parameter.strip().partition("=")
            if key == "dur":
                found[name] = float(value)
    return found


def percentile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that at least `share` (above 0, to 1) of all values do not exceed; None of nothing."""
    ordered = sorted(values)
    return ordered[math.ceil(share * len(ordered)) - 1] if ordered else None


def window(answers: Sequence[Answer]) -> tuple[float, float]:
    """(first post, last answer), seconds since the epoch; (0, 0) without answers."""
    if not answers:
        return 0.0, 0.0
    return min(answer.began for answer in answers), max(answer.ended for answer in answers)


def summarise(clients: int, answers: Sequence[Answer], costs: Costs) -> Step:
    """One step's row."""
    good = [answer for answer in answers if answer.status == OK]
    refused = [answer for answer in answers if answer.status == REFUSED]
    began, ended = window(answers)
    times, refused_times = [answer.ms for answer in good], [answer.ms for answer in refused]
    return Step(
        clients=clients,
        requests=len(answers),
        images_s=len(good) / (ended - began) if ended > began else 0.0,
        p50_ms=percentile(times, 0.5),
        p95_ms=percentile(times, 0.95),
        p99_ms=percentile(times, 0.99),
        statuses=dict(sorted(Counter(answer.status for answer in answers).items())),
        wrong=sum(not answer.image for answer in good),
        without_retry_after=sum(not (answer.retry_after or "").isdigit() for answer in refused),
        refused_p50_ms=percentile(refused_times, 0.5),
        refused_p95_ms=percentile(refused_times, 0.95),
        stages_ms=_median_stages(good),
        mean_batch=costs.mean_batch,
        cpu_ms_per_image=1000 * costs.cpu_s / len(good) if costs.cpu_s is not None and good else None,
        peak_mb=costs.peak_mb,
        replicas=costs.replicas,
        card_busy=costs.card_busy,
        card_mb=costs.card_mb,
    )


def _median_stages(answers: Sequence[Answer]) -> dict[str, float]:
    names = dict.fromkeys(name for answer in answers for name in answer.stages_ms)
    return {name: median(a.stages_ms[name] for a in answers if name in a.stages_ms) for name in names}


def steps_table(steps: Sequence[Step]) -> str:
    """The result as a Markdown table; with the card's columns where one was seen."""
    head = (
        *("clients", "requests", "images/s", "p50 ms", "p95 ms", "p99 ms", "statuses", "mean batch"),
        *("CPU ms/image", "peak MB", "replicas"),
    )
    if all(step.card_busy is None for step in steps):
        return table(head, [_row(step) for step in steps])
    card = [[_number(step.card_busy), _number(step.card_mb)] for step in steps]
    return table((*head, "GPU busy %", "GPU MB"), [_row(step) + cells for step, cells in zip(steps, card, strict=True)])


def _row(step: Step) -> list[str]:
    return [
        str(step.clients),
        str(step.requests),
        f"{step.images_s:.2f}",
        *(_number(value) for value in (step.p50_ms, step.p95_ms, step.p99_ms)),
        ", ".join(f"{count} x {_status(code)}" for code, count in step.statuses.items()) or "-",
        _number(step.mean_batch, 2),
        _number(step.cpu_ms_per_image),
        _number(step.peak_mb),
        step.replicas or "-",
    ]


def stages_table(steps: Sequence[Step]) -> str:
    """Median of each Server-Timing entry by number of clients."""
    names = list(dict.fromkeys(name for step in steps for name in step.stages_ms))
    rows = [[str(step.clients), *(_number(step.stages_ms.get(name), 1) for name in names)] for step in steps]
    return table(["clients", *(f"{name} ms" for name in names)], rows)


def refusals(steps: Sequence[Step]) -> list[str]:
    """One sentence for each step that refused some: how many, how fast."""
    return [
        f"{clients_text(step.clients)}: {step.statuses[REFUSED]} refused with 429, half of them within "
        f"{_number(step.refused_p50_ms)} ms, 95 % within {_number(step.refused_p95_ms)} ms."
        for step in steps
        if step.refused_p95_ms is not None
    ]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns: the first to the left, the others, numbers, to the right."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    lines = [
        _line(head, widths),
        "|" + "|".join([":" + "-" * (widths[0] + 1), *("-" * (width + 1) + ":" for width in widths[1:])]) + "|",
    ]
    return "\n".join(lines + [_line(row, widths) for row in rows])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = zip(cells, widths, strict=True)
    return "| " + " | ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in rest)]) + " |"


def clients_text(count: int) -> str:
    return "1 client" if count == 1 else f"{count} clients"


def _number(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _status(code: int) -> str:
    return "no answer" if code == NO_ANSWER else str(code)
