"""Evaluations as plain text for people. The same figures for programs are the documents of evaluate.py, compare.py."""

from __future__ import annotations

from mattehorn.evaluation.compare import Comparison, rows_of, wins
from mattehorn.evaluation.evaluate import TIMED, Evaluation, median, quality_summary, set_max_f, summary
from mattehorn.evaluation.metrics import METRICS, MORE_IS_BETTER, Scores

TITLES = {
    "sad": "SAD /1000",
    "mse": "MSE",
    "mad": "MAD",
    "grad": "Grad /1000",
    "conn": "Conn /1000",
    "iou": "IoU",
    "dice": "Dice",
    "max_f": "max-F",
}
_SUMS = frozenset(("sad", "grad", "conn"))
_NAMED = 10  # missed photos named in a table; the JSON has them all


def figure(metric: str, value: float | None) -> str:
    """Sums with 3 decimals, shares with 4, a dash where there is none."""
    if value is None:
        return "-"
    return f"{value:.3f}" if metric in _SUMS else f"{value:.4f}"


def evaluation_table(evaluation: Evaluation) -> str:
    whole = summary([photo.scores.whole for photo in evaluation.photos])
    bands = [photo.scores.unknown for photo in evaluation.photos if photo.scores.unknown is not None]
    band = summary(bands)
    lines = [
        f"{evaluation.entrant.label} on {scene(evaluation)}",
        "",
        f"{'':12}{'whole photo':>20}{'unknown band':>24}",
        f"{'':12}{'mean':>10}{'median':>10}{'mean':>14}{'median':>10}",
    ]
    for metric in METRICS:
        values = [figure(metric, part[metric][key]) for part in (whole, band) for key in ("mean", "median")]
        lines.append(f"{TITLES[metric]:12}{values[0]:>10}{values[1]:>10}{values[2]:>14}{values[3]:>10}")
    curves = [photo.scores.whole_curve for photo in evaluation.photos]
    lines += [
        "",
        f"max-F of the set's mean precision and recall: {set_max_f(curves):.4f}",
        f"quality score: {quality_line(evaluation)}",
        f"missed subjects (IoU < .3): {missed(evaluation)}",
        f"ms per image: {milliseconds(evaluation)}",
        f"timed: {TIMED}",
    ]
    if len(bands) < len(evaluation.photos):
        lines.append(f"photos without an edge in their truth, so without a band: {len(evaluation.photos) - len(bands)}")
    return "\n".join(lines)


def comparison_table(comparison: Comparison) -> str:
    a, b = comparison.a, comparison.b
    lines = [f"A  {a.entrant.label}", f"B  {b.entrant.label}", f"on {scene(a)}"]
    for title, unknown in (("whole photo", False), ("unknown band", True)):
        lines += ["", _contest_head(title), *_contest_lines(rows_of(comparison, unknown))]
    lines += [
        "",
        f"missed subjects (IoU < .3): A {missed(a)}; B {missed(b)}",
        f"ms per image: A {milliseconds(a)}; B {milliseconds(b)}",
        f"time, A / B: {comparison.time_ratio:.3f} (networks alone {comparison.network_time_ratio:.3f}), median of the "
        "photos' ratios",
        f"timed: {TIMED}",
    ]
    return "\n".join(lines)


def contest_row(rows: list[tuple[Scores, Scores]], metric: str) -> list[str]:
    """Title, A's mean and median, B's mean and median, A less B, photos won by A, by B, equal."""
    a, b = (summary([row[side] for row in rows])[metric] for side in (0, 1))
    won = wins(rows, metric)
    lead = None if a["mean"] is None or b["mean"] is None else a["mean"] - b["mean"]
    signed = figure(metric, lead) if lead is None or lead < 0 else f"+{figure(metric, lead)}"
    title = f"{TITLES[metric]} {'↑' if metric in MORE_IS_BETTER else '↓'}"
    values = [figure(metric, one[key]) for one in (a, b) for key in ("mean", "median")]
    return [title, *values, signed, str(won.a), str(won.b), str(won.equal)]


def missed(evaluation: Evaluation) -> str:
    names = evaluation.failures
    if not names:
        return "none"
    return f"{len(names)} ({', '.join(names[:_NAMED])}{', ..' if len(names) > _NAMED else ''})"


def quality_line(evaluation: Evaluation) -> str:
    """The product's own score of these mattes, and how well it foretells their errors."""
    found = quality_summary(evaluation)
    median, mad, iou = (figure("", found[key]) for key in ("median", "spearman_mad", "spearman_iou"))
    return f"median {median}; rank correlation {mad} with MAD, {iou} with IoU"


def _contest_head(title: str) -> str:
    head = f"{title:14}{'A mean':>10}{'median':>10}{'B mean':>12}{'median':>10}{'A - B':>12}"
    return head + f"{'A wins':>10}{'B wins':>8}{'equal':>7}"


def _contest_lines(rows: list[tuple[Scores, Scores]]) -> list[str]:
    widths = (10, 10, 12, 10, 12, 10, 8, 7)
    lines = []
    for metric in METRICS:
        title, *cells = contest_row(rows, metric)
        lines.append(f"{title:14}" + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True)))
    return lines


def scene(evaluation: Evaluation) -> str:
    """Which photos were scored, and how."""
    scored = evaluation.scored
    threads = "1 thread" if evaluation.threads == 1 else f"{evaluation.threads} threads"
    ignored = f", {scored.ignored} other files ignored" if scored.ignored else ""
    return f"{scored.folder}: {len(evaluation.photos)} photos with {scored.kind}/, {threads}{ignored}"


def milliseconds(evaluation: Evaluation) -> str:
    """Median time of one photo, and of the network within it."""
    whole, network = (
        median(values) * 1000
        for values in (
            [photo.seconds for photo in evaluation.photos],
            [photo.network_seconds for photo in evaluation.photos],
        )
    )
    return f"{whole:.1f} (network {network:.1f})"
