"""`mattehorn compare`: two models in turns on the same photos, who wins where, and the HTML sheet."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mattehorn.cli.main import main
from mattehorn.evaluation.compare import Comparison, compare, comparison_document, rows_of, wins
from mattehorn.evaluation.evaluate import Entrant, Evaluation, PhotoResult
from mattehorn.evaluation.evaluation_set import EvaluationSet, open_set
from mattehorn.evaluation.metrics import METRICS
from mattehorn.evaluation.sheet import ranking_metric, render_sheet, sections
from mattehorn.evaluation.tables import comparison_table
from mattehorn.models import registry
from mattehorn.models.fake import FakeModel
from tests.service import CARD_64, photo

Pixels = NDArray[np.uint8]
Float = NDArray[np.float32]


class Recorded(FakeModel):
    """The chroma key, scaled down by `strength`; notes each call in a list that both models share."""

    def __init__(self, name: str = "key", strength: float = 1.0, calls: list[str] | None = None) -> None:
        super().__init__()
        self.card = CARD_64
        self.name, self.strength, self.calls = name, np.float32(strength), [] if calls is None else calls

    def predict(self, images: Pixels) -> Float:
        self.calls.append(self.name)
        return super().predict(images) * self.strength


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four photos of rising width; of the last, truth is everything, which the chroma key cannot find."""
    root = tmp_path / "set"
    for kind in ("image", "alpha"):
        (root / kind).mkdir(parents=True)
    for number, width in enumerate((40, 48, 56, 64)):
        image = photo(width, 48)
        truth = np.zeros((48, width), np.uint8)
        truth[12:36, width // 4 : width - width // 4] = 255
        if number == 3:
            truth[:] = 255
        Image.fromarray(image).save(root / "image" / f"<{number}> & co.png")
        Image.fromarray(truth).save(root / "alpha" / f"<{number}> & co.png")
    return root


@pytest.fixture
def comparison(folder: Path) -> Comparison:
    """A is the better one everywhere but on the last photo, where both find the same part."""
    a, b = Entrant("good@1", Recorded("a"), "f" * 64), Entrant("weak@1", Recorded("b", 0.8), None)
    return compare(a, b, open_set(folder), 1)


def test_the_models_take_turns_and_the_first_changes_from_photo_to_photo(folder: Path) -> None:
    calls: list[str] = []
    a, b = Entrant("a", Recorded("a", calls=calls), None), Entrant("b", Recorded("b", calls=calls), None)
    compare(a, b, open_set(folder), 1)
    assert calls == ["a", "b", "a", "b", "b", "a", "a", "b", "b", "a"]  # a warm-up of each, then four photos


def test_both_hold_the_same_photos_in_order(comparison: Comparison) -> None:
    names = [[photo.name for photo in one.photos] for one in (comparison.a, comparison.b)]
    assert names[0] == names[1] == [f"<{number}> & co" for number in range(4)]


def test_wins_are_counted_in_the_metrics_own_direction(comparison: Comparison) -> None:
    rows = rows_of(comparison)
    for metric in ("sad", "mad", "mse"):
        assert wins(rows, metric).a == 4
    iou = wins(rows, "iou")
    assert (iou.a + iou.b, iou.equal) == (0, 4)  # 0.8 is above a half as 1 is
    swapped = [(b, a) for a, b in rows]
    assert wins(swapped, "mad").b == 4


def test_a_model_against_itself_is_equal_everywhere(folder: Path) -> None:
    a, b = Entrant("a", Recorded(), None), Entrant("b", Recorded(), None)
    result = compare(a, b, open_set(folder), 1)
    for unknown in (False, True):
        rows = rows_of(result, unknown)
        assert all(wins(rows, metric).equal == len(rows) for metric in METRICS)
    assert "None: the two answer alike." in render_sheet(result)


def timed(seconds: list[tuple[float, float]], comparison: Comparison) -> Comparison:
    """The comparison with (whole, network) times of A; B's are 1 second each."""
    evaluations = []
    for one, times in ((comparison.a, seconds), (comparison.b, [(1.0, 1.0)] * len(seconds))):
        photos: list[PhotoResult] = []
        for result, (whole, network) in zip(one.photos, times, strict=True):
            photos.append(replace(result, seconds=whole, network_seconds=network))
        evaluations.append(replace(one, photos=tuple(photos)))
    return Comparison(*evaluations)


def test_the_time_ratio_is_the_median_of_the_photos_ratios(comparison: Comparison) -> None:
    result = timed([(0.2, 0.1), (0.4, 0.3), (9.0, 9.0), (0.3, 0.2)], comparison)
    assert result.time_ratio == pytest.approx(0.35)
    assert result.network_time_ratio == pytest.approx(0.25)
    assert comparison_document(result)["time_ratio"] == 0.35
    assert "time, A / B: 0.350 (networks alone 0.250)" in comparison_table(result)


def test_the_document_holds_both_and_their_difference(comparison: Comparison) -> None:
    result = json.loads(json.dumps(comparison_document(comparison)))
    assert (result["a"]["model"], result["b"]["model"]) == ("good@1", "weak@1")
    for part in (result, result["unknown"]):
        assert set(part["difference"]) == set(part["wins"]) == set(METRICS)
    wanted = result["a"]["mad"]["mean"] - result["b"]["mad"]["mean"]
    assert result["difference"]["mad"]["mean"] == pytest.approx(wanted, abs=1e-6)
    assert wanted < 0
    assert sum(result["unknown"]["wins"]["mad"].values()) == result["a"]["unknown"]["images"] == 3


# the sheet


class Page(HTMLParser):
    """Every tag with its attributes, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def test_the_sheet_is_whole_html_that_fetches_and_runs_nothing(comparison: Comparison) -> None:
    text = render_sheet(comparison)
    page = Page(text)
    assert page.open == []
    assert {tag for tag, _ in page.tags} & {"script", "link", "iframe"} == set()
    sources = [attrs["src"] for _, attrs in page.tags if "src" in attrs]
    assert sources
    assert all(str(source).startswith("data:image/jpeg;base64,") for source in sources)
    assert re.findall(r"https?://|url\(|@import", text) == []
    policies = [attrs["content"] for _, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert str(policies).count("default-src 'none'") == 1


def test_names_are_shown_as_they_are(comparison: Comparison) -> None:
    assert "<0> & co" in Page(render_sheet(comparison)).words


def test_every_picture_is_a_small_jpeg_with_a_description(comparison: Comparison) -> None:
    pictures = [attrs for tag, attrs in Page(render_sheet(comparison)).tags if tag == "img"]
    captions = {str(attrs["alt"]).split(",")[0] for attrs in pictures}
    assert captions == {"photo", "truth", "A", "B", "truth on green", "A on green", "B on green"}
    for attrs in pictures:
        data = base64.b64decode(str(attrs["src"]).partition(",")[2])
        with Image.open(io.BytesIO(data)) as image:
            assert image.format == "JPEG"
            assert max(image.size) <= 360
            assert image.size == (int(str(attrs["width"])), int(str(attrs["height"])))


def picture(page: Page, caption: str) -> Pixels:
    """The first picture whose description starts so."""
    sources = (a["src"] for t, a in page.tags if t == "img" and str(a["alt"]).startswith(caption))
    with Image.open(io.BytesIO(base64.b64decode(str(next(sources)).partition(",")[2]))) as image:
        return np.asarray(image)


def test_the_cutouts_stand_on_green(comparison: Comparison) -> None:
    page = Page(render_sheet(comparison))
    first = sections(comparison)[0].numbers[0]
    assert first == 3
    green = picture(page, "A on green")
    assert green[3, 3] == pytest.approx((0, 177, 64), abs=12)
    assert picture(page, "truth on green")[3, 3] == pytest.approx(photo()[3, 3], abs=12)  # truth is everything
    assert picture(page, "truth")[3, 3] > 250


def test_a_photo_in_several_sections_is_drawn_once(comparison: Comparison) -> None:
    drawn: list[None] = []
    text = render_sheet(comparison, lambda: drawn.append(None))
    assert len(drawn) == 4
    assert text.count("<h3>") == 12


def test_worst_comes_first_and_the_differences_are_ranked(comparison: Comparison) -> None:
    assert ranking_metric(comparison) == "mad"
    worst_a, worst_b, differing = sections(comparison, 2)
    mads = [[one.scores.whole.mad for one in side.photos] for side in (comparison.a, comparison.b)]
    assert worst_a.numbers == sorted(range(4), key=lambda n: -mads[0][n])[:2]
    assert worst_b.numbers == sorted(range(4), key=lambda n: -mads[1][n])[:2]
    assert differing.numbers == sorted(range(4), key=lambda n: -abs(mads[0][n] - mads[1][n]))[:2]


def test_binary_truth_ranks_by_overlap(comparison: Comparison) -> None:
    def as_masks(one: Evaluation) -> Evaluation:
        scored: EvaluationSet = replace(one.scored, kind="mask")
        return replace(one, scored=scored)

    masks = Comparison(as_masks(comparison.a), as_masks(comparison.b))
    assert ranking_metric(masks) == "iou"
    ious = [one.scores.whole.iou for one in masks.a.photos]
    assert sections(masks)[0].numbers[0] == int(np.argmin(ious)) == 3


# the command


@pytest.fixture
def small_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "FakeModel", lambda *times: Recorded())


@pytest.mark.usefixtures("small_model")
def test_compare_prints_a_table_and_writes_the_sheet(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", "fake", "fake@1", str(folder), "--html", str(tmp_path / "sheet.html")]) == 0
    captured = capsys.readouterr()
    for word in ("A  fake@1", "B  fake@1", "A wins", "whole photo", "unknown band", "time, A / B", "max-F"):
        assert word in captured.out
    assert (tmp_path / "sheet.html").read_text("utf-8").startswith("<!doctype html>")
    assert "sheet.html" in captured.err


@pytest.mark.usefixtures("small_model")
def test_compare_json_is_one_object_on_stdout(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "fake", "fake", str(folder), "--json", "--limit", "2", "--threads", "2"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert set(result) == {"a", "b", "difference", "wins", "unknown", "time_ratio", "network_time_ratio"}
    assert (result["a"]["images"], result["a"]["threads"]) == (2, 2)


@pytest.mark.usefixtures("small_model")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["fake", "nope", "SET"], "known: "),
        (["fake", "fake", "SET/image"], "no folder image/"),
        (["fake", "fake", "SET", "--html", "SET/no/such/sheet.html"], "folder that exists"),
        (["fake", "fake", "SET", "--html", "SET"], "folder that exists"),
    ],
    ids=str,
)
def test_a_bad_command_is_2_and_says_why(
    folder: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *(one.replace("SET", str(folder)) for one in arguments)]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""
