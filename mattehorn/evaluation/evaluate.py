"""Scores one model over an evaluation set, as the product runs it: the card's fit, the network, alpha at file size.

Edge options stay off and the matte is not cut to 8 bits, so the model is scored and nothing else. Not the definitions
(metrics.py), not the output for people (tables.py). Called by the command line and by compare.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from mattehorn.evaluation.evaluation_set import EvaluationSet, Pair, read_pair
from mattehorn.evaluation.metrics import FAILURE, METRICS, FCurve, PhotoScores, Scores, max_f, score_photo, spearman
from mattehorn.models.base import Model
from mattehorn.quality import assess
from mattehorn.resize import fit, restore_alpha

Pixels = NDArray[np.uint8]
Alpha = NDArray[np.float32]
TIMED = (
    "wall-clock median of fit, network and restore, one photo at a time, after a warm-up; reading files is not in it"
)
_DECIMALS = 6  # of figures in JSON: a millionth of a score or a microsecond, below what a run repeats


@dataclass(frozen=True)
class Entrant:
    """A loaded model that is scored. `label` tells two of one card apart; `sha256` is of its weights, if it has any."""

    label: str
    model: Model
    sha256: str | None


@dataclass(frozen=True)
class Prediction:
    """Alpha [H, W] of one photo, and the seconds it took: all of it, and the network alone."""

    alpha: Alpha
    seconds: float
    network_seconds: float


@dataclass(frozen=True)
class PhotoResult:
    """`quality` is the score that the product would give the matte, without the truth."""

    name: str
    scores: PhotoScores
    quality: float
    seconds: float
    network_seconds: float


@dataclass(frozen=True)
class Evaluation:
    """One model's results over one set, in the order of its pairs."""

    entrant: Entrant
    scored: EvaluationSet
    threads: int
    photos: tuple[PhotoResult, ...]

    @property
    def failures(self) -> list[str]:
        """Names of the photos whose subject was missed: IoU below 0.3."""
        return [photo.name for photo in self.photos if photo.scores.whole.iou < FAILURE]


def predict_alpha(model: Model, image: Pixels) -> Prediction:
    """What `mattehorn.pipeline` makes of uint8 [H, W, 3] with its edge options off, not yet cut to 8 bits."""
    started = perf_counter()
    fitted = fit(image, model.card.input_size, model.card.fit, model.card.restore)
    before = perf_counter()
    answer = model.predict(fitted.pixels[None])[0]
    network_seconds = perf_counter() - before
    alpha = restore_alpha(image, fitted, answer)
    return Prediction(alpha, perf_counter() - started, network_seconds)


def evaluate(
    entrant: Entrant, scored: EvaluationSet, threads: int, on_done: Callable[[Pair], None] = lambda pair: None
) -> Evaluation:
    """Scores every pair of `scored`; `threads` is what the model was loaded with. `on_done` hears of each pair."""
    results = []
    first, _ = read_pair(scored.pairs[0])
    predict_alpha(entrant.model, first)  # the first run allocates and is not timed
    for pair in scored.pairs:
        image, truth = read_pair(pair)
        results.append(score_pair(pair.name, image, predict_alpha(entrant.model, image), truth))
        on_done(pair)
    return Evaluation(entrant, scored, threads, tuple(results))


def score_pair(name: str, image: Pixels, prediction: Prediction, truth: Alpha) -> PhotoResult:
    alpha = prediction.alpha
    scores, quality = score_photo(alpha, truth), assess(alpha, image).score
    return PhotoResult(name, scores, quality, prediction.seconds, prediction.network_seconds)


def document(evaluation: Evaluation) -> dict[str, object]:
    """The JSON of `mattehorn evaluate --json`; docs/evaluation.md describes the keys."""
    photos = evaluation.photos
    return {
        "model": evaluation.entrant.label,
        "sha256": evaluation.entrant.sha256,
        "set": str(evaluation.scored.folder),
        "truth": evaluation.scored.kind,
        "images": len(photos),
        "ignored_files": evaluation.scored.ignored,
        "threads": evaluation.threads,
        **summary([photo.scores.whole for photo in photos]),
        "max_f_set": rounded(set_max_f(photo.scores.whole_curve for photo in photos)),
        "unknown": unknown_summary(evaluation),
        "quality": quality_summary(evaluation),
        "failures": len(evaluation.failures),
        "failed_images": evaluation.failures,
        "seconds_per_image": rounded(median(photo.seconds for photo in photos)),
        "network_seconds_per_image": rounded(median(photo.network_seconds for photo in photos)),
        "timed": TIMED,
        "per_image": [_photo_document(photo) for photo in photos],
    }


def summary(rows: list[Scores]) -> dict[str, dict[str, float | None]]:
    """{metric: {mean, median}} over photos; None without any."""
    result: dict[str, dict[str, float | None]] = {}
    for metric in METRICS:
        values = [getattr(row, metric) for row in rows]
        result[metric] = {
            "mean": rounded(float(np.mean(values))) if values else None,
            "median": rounded(median(values)) if values else None,
        }
    return result


def unknown_summary(evaluation: Evaluation) -> dict[str, object]:
    """The same over the unknown bands, and how many photos have one: truth without an edge has none."""
    scores = [photo.scores for photo in evaluation.photos]
    curves = [score.unknown_curve for score in scores if score.unknown_curve is not None]
    rows = [score.unknown for score in scores if score.unknown is not None]
    whole_set = rounded(set_max_f(curves)) if curves else None
    return {"images": len(rows), **summary(rows), "max_f_set": whole_set}


def quality_summary(evaluation: Evaluation) -> dict[str, float | None]:
    """The product's quality score: its median, and how well it ranks the photos by their true errors (Spearman)."""
    quality = [photo.quality for photo in evaluation.photos]
    wholes = [photo.scores.whole for photo in evaluation.photos]
    return {
        "median": rounded(median(quality)),
        "spearman_mad": _rounded_rank(quality, [scores.mad for scores in wholes]),
        "spearman_iou": _rounded_rank(quality, [scores.iou for scores in wholes]),
    }


def _rounded_rank(quality: list[float], errors: list[float]) -> float | None:
    found = spearman(quality, errors)
    return None if found is None else rounded(found)


def set_max_f(curves: Iterable[FCurve]) -> float:
    """Max-F as saliency papers print it: of precision and recall averaged over photos, threshold by threshold."""
    precisions, recalls = zip(*curves, strict=True)
    return max_f(FCurve(np.mean(precisions, axis=0), np.mean(recalls, axis=0)))


def median(values: Iterable[float]) -> float:
    return float(np.median(list(values)))


def rounded(value: float) -> float:
    return round(value, _DECIMALS)


def _photo_document(photo: PhotoResult) -> dict[str, object]:
    unknown = photo.scores.unknown
    return {
        "name": photo.name,
        **_figures(photo.scores.whole),
        "quality": rounded(photo.quality),
        "unknown": None if unknown is None else _figures(unknown),
        "seconds": rounded(photo.seconds),
        "network_seconds": rounded(photo.network_seconds),
    }


def _figures(scores: Scores) -> dict[str, float]:
    return {metric: rounded(value) for metric, value in asdict(scores).items()}
