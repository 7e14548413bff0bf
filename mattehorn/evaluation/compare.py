"""Two models side by side on the same photos: scores, wins photo by photo, and a fair ratio of their times.

The models take turns on every photo, and the one that begins changes from photo to photo: what else the machine does
then slows both alike, and the median of the photos' time ratios is steadier than either time. Called by
`mattehorn compare`; the HTML sheet is sheet.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mattehorn.evaluation.evaluate import (
    Entrant,
    Evaluation,
    PhotoResult,
    document,
    median,
    predict_alpha,
    rounded,
    score_pair,
    summary,
)
from mattehorn.evaluation.evaluation_set import EvaluationSet, Pair, read_pair
from mattehorn.evaluation.metrics import METRICS, MORE_IS_BETTER, Scores


@dataclass(frozen=True)
class Wins:
    """On how many photos A is better, B is better, and both are equal to the last decimal printed."""

    a: int
    b: int
    equal: int


@dataclass(frozen=True)
class Comparison:
    """`a` and `b` hold the same photos in the same order."""

    a: Evaluation
    b: Evaluation

    @property
    def time_ratio(self) -> float:
        """Median over photos of A's seconds over B's: fit, network and restore."""
        return median(a.seconds / b.seconds for a, b in zip(self.a.photos, self.b.photos, strict=True))

    @property
    def network_time_ratio(self) -> float:
        """The same of the networks alone."""
        pairs = zip(self.a.photos, self.b.photos, strict=True)
        return median(a.network_seconds / b.network_seconds for a, b in pairs)


def compare(
    a: Entrant, b: Entrant, scored: EvaluationSet, threads: int, on_done: Callable[[Pair], None] = lambda pair: None
) -> Comparison:
    """Scores both models on every pair of `scored`; `threads` is what both were loaded with."""
    results: tuple[list[PhotoResult], list[PhotoResult]] = ([], [])
    first, _ = read_pair(scored.pairs[0])
    for entrant in (a, b):
        predict_alpha(entrant.model, first)  # the first run allocates and is not timed
    for number, pair in enumerate(scored.pairs):
        image, truth = read_pair(pair)
        turns = list(zip((a, b), results, strict=True))
        for entrant, own in turns if number % 2 == 0 else turns[::-1]:
            prediction = predict_alpha(entrant.model, image)
            own.append(score_pair(pair.name, image, prediction, truth))
        on_done(pair)
    return Comparison(*(Evaluation(one, scored, threads, tuple(own)) for one, own in zip((a, b), results, strict=True)))


def rows_of(comparison: Comparison, unknown: bool = False) -> list[tuple[Scores, Scores]]:
    """(A's, B's) scores of each photo; over the unknown band, of the photos that have one."""
    both = [(a.scores, b.scores) for a, b in zip(comparison.a.photos, comparison.b.photos, strict=True)]
    if not unknown:
        return [(a.whole, b.whole) for a, b in both]
    return [(a.unknown, b.unknown) for a, b in both if a.unknown is not None and b.unknown is not None]


def wins(rows: list[tuple[Scores, Scores]], metric: str) -> Wins:
    """Who wins how many photos by `metric`."""
    leads = [rounded(getattr(a, metric) - getattr(b, metric)) for a, b in rows]
    sign = 1 if metric in MORE_IS_BETTER else -1
    return Wins(sum(sign * lead > 0 for lead in leads), sum(sign * lead < 0 for lead in leads), leads.count(0.0))


def comparison_document(comparison: Comparison) -> dict[str, object]:
    """The JSON of `mattehorn compare --json`: both documents of `evaluate`, and what only two models have."""
    return {
        "a": document(comparison.a),
        "b": document(comparison.b),
        **_contest(rows_of(comparison)),
        "unknown": _contest(rows_of(comparison, unknown=True)),
        "time_ratio": rounded(comparison.time_ratio),
        "network_time_ratio": rounded(comparison.network_time_ratio),
    }


def _contest(rows: list[tuple[Scores, Scores]]) -> dict[str, object]:
    """`difference` (A less B, of means and of medians) and `wins`, by metric."""
    a, b = (summary([row[side] for row in rows]) for side in (0, 1))
    difference = {
        metric: {key: _less(a[metric][key], b[metric][key]) for key in ("mean", "median")} for metric in METRICS
    }
    won = {metric: wins(rows, metric) for metric in METRICS}
    return {
        "difference": difference,
        "wins": {metric: {"a": one.a, "b": one.b, "equal": one.equal} for metric, one in won.items()},
    }


def _less(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else rounded(a - b)
