"""`mattehorn evaluate`: the set's folder, the path from photo to alpha, the figures, the command's two outputs."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from mattehorn.cli.main import main
from mattehorn.evaluation.evaluate import Entrant, document, evaluate, predict_alpha
from mattehorn.evaluation.evaluation_set import EvaluationSetError, find_pairs, open_set, read_pair
from mattehorn.evaluation.metrics import METRICS, spearman
from mattehorn.evaluation.tables import evaluation_table
from mattehorn.models import registry
from mattehorn.models.fake import FakeModel
from mattehorn.options import parse_options
from mattehorn.pipeline import run
from mattehorn.quality import assess
from mattehorn.resize import fit, restore_alpha
from mattehorn.settings import Limits
from tests.service import CARD_64, decoded, encoded, photo

Pixels = NDArray[np.uint8]
TRUTH: Pixels = np.zeros((48, 64), np.uint8)
TRUTH[12:36, 16:48] = 255  # where tests.service.photo has its rectangle


class SmallFake(FakeModel):
    """The chroma key with a small input."""

    def __init__(self, *times: float) -> None:
        super().__init__(*times)
        self.card = CARD_64


def save(path: Path, pixels: Pixels, mode: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three photos: one whose matte the chroma key gets right, one missed (a flat photo), one without a subject."""
    root = tmp_path / "set"
    flat = np.full((30, 40, 3), 90, np.uint8)
    half = np.zeros((30, 40), np.uint8)
    half[:, :20] = 255
    for name, image, truth in (
        ("a [1].b", photo(), TRUTH),
        ("missed", flat, half),
        ("nothing", flat, np.zeros((30, 40), np.uint8)),
    ):
        save(root / "image" / f"{name}.png", image)
        save(root / "mask" / f"{name}.png", truth)
    return root


def problems(folder: Path) -> str:
    with pytest.raises(EvaluationSetError) as caught:
        open_set(folder)
    assert caught.value.data["field"] == "SET_DIR"
    return caught.value.message


# the folder


def test_photos_and_truth_are_paired_by_stem_whatever_it_holds(folder: Path) -> None:
    scored = open_set(folder)
    assert scored.kind == "mask"
    assert [pair.name for pair in scored.pairs] == ["a [1].b", "missed", "nothing"]
    image, truth = read_pair(scored.pairs[0])
    assert (image == photo()).all()
    assert truth.dtype == np.float32
    assert (truth == TRUTH / 255).all()


def test_a_matte_is_taken_before_a_mask(folder: Path) -> None:
    for path in (folder / "mask").iterdir():
        save(folder / "alpha" / path.name, np.asarray(Image.open(path)) // 2)
    scored = open_set(folder)
    assert scored.kind == "alpha"
    assert read_pair(scored.pairs[0])[1].max() == np.float32(127 / 255)


def test_extensions_may_differ_and_other_files_are_counted(folder: Path) -> None:
    save(folder / "image" / "late.JPG", photo())
    save(folder / "mask" / "late.tif", TRUTH)
    (folder / "image" / "notes.txt").write_text("x")
    (folder / "mask" / ".hidden").write_text("x")
    scored = open_set(folder)
    assert [pair.name for pair in scored.pairs] == ["a [1].b", "late", "missed", "nothing"]
    assert scored.ignored == 1


def test_only_the_first_pairs_are_read_under_a_limit(folder: Path) -> None:
    (folder / "image" / "nothing.png").write_bytes(b"broken")
    seen: list[str] = []
    scored = open_set(folder, 2, lambda pair: seen.append(pair.name))
    assert [pair.name for pair in scored.pairs] == seen == ["a [1].b", "missed"]


def test_missing_folders_are_named(tmp_path: Path) -> None:
    assert "no such folder" in problems(tmp_path / "not there")
    text = problems(tmp_path)
    assert "2 problems" in text
    assert "no folder image/" in text
    assert "no folder alpha/ or mask/" in text


def test_an_empty_set_is_refused(tmp_path: Path) -> None:
    for kind in ("image", "mask"):
        (tmp_path / kind / "sub").mkdir(parents=True)
    assert "it is empty" in problems(tmp_path)


def test_every_missing_partner_and_double_stem_is_listed_at_once(folder: Path) -> None:
    save(folder / "image" / "lonely.png", photo())
    save(folder / "mask" / "widowed.png", TRUTH)
    save(folder / "image" / "missed.bmp", photo())
    text = problems(folder)
    assert "3 problems" in text
    for line in (
        "image/lonely.png: no mask/lonely.*",
        "mask/widowed.png: no image/widowed.*",
        "image/missed.*: 2 files",
    ):
        assert line in text


def test_every_file_that_cannot_be_scored_is_listed_at_once(folder: Path) -> None:
    save(folder / "image" / "small.png", photo(32, 24))
    save(folder / "mask" / "small.png", TRUTH)
    (folder / "image" / "missed.png").write_bytes(encoded(photo())[:-30])
    (folder / "mask" / "nothing.png").write_bytes(b"not a picture")
    text = problems(folder)
    assert "3 problems" in text
    assert "image/missed.png: " in text
    assert "mask/nothing.png: " in text
    assert "small: the photo is 32 x 24 upright, its truth 64 x 48 pixels" in text


def test_a_photo_turned_by_exif_must_have_upright_truth(folder: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(photo()).save(folder / "image" / "turned.jpg", exif=exif)
    save(folder / "mask" / "turned.png", TRUTH)
    assert "turned: the photo is 48 x 64 upright, its truth 64 x 48 pixels" in problems(folder)


def test_a_long_list_ends_with_how_many_more(folder: Path) -> None:
    for number in range(60):
        save(folder / "image" / f"x{number}.png", photo(2, 2))
    assert "60 problems" in problems(folder)
    assert problems(folder).endswith("and 10 more")


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: Image.fromarray(photo()), "in colour"),
        (lambda: Image.fromarray(np.dstack([photo(), TRUTH])), "transparency"),
        (lambda: Image.fromarray(TRUTH // 255), "0 and 1"),
        (lambda: Image.fromarray(photo()).convert("CMYK"), "CMYK"),
    ],
    ids=["colour", "cutout", "0 and 1", "cmyk"],
)
def test_truth_that_would_be_misread_is_refused(folder: Path, made: Callable[[], Image.Image], said: str) -> None:
    save(folder / "image" / "odd.png", photo())
    made().save(folder / "mask" / "odd.tif")
    text = problems(folder)
    assert "mask/odd.tif" in text
    assert said in text


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "P", "I;16"])
def test_truth_is_read_from_every_grey_kind_of_file(folder: Path, mode: str) -> None:
    save(folder / "image" / "kind.png", photo())
    if mode == "I;16":
        Image.fromarray(TRUTH.astype(np.uint16) * 257).save(folder / "mask" / "kind.png")
    else:
        save(folder / "mask" / "kind.png", TRUTH, mode)
    (pair,) = (pair for pair in open_set(folder).pairs if pair.name == "kind")
    assert (read_pair(pair)[1] == TRUTH / 255).all()


def test_finding_pairs_opens_no_file(folder: Path) -> None:
    (folder / "image" / "missed.png").write_bytes(b"")
    assert len(find_pairs(folder).pairs) == 3


# from photo to alpha


@pytest.mark.parametrize(("mode", "restore"), [("pad", "guided"), ("stretch", "lanczos")])
def test_what_is_scored_is_what_the_product_gives_with_its_edge_options_off(mode: str, restore: str) -> None:
    model = SmallFake()
    model.card = replace(CARD_64, fit=mode, restore=restore)  # type: ignore[arg-type]
    rng = np.random.default_rng(1)
    image = np.clip(photo(200, 150).astype(int) + rng.integers(-20, 20, (150, 200, 3)), 0, 255).astype(np.uint8)
    off = {"alpha_threshold": 0, "erode_px": 0, "feather_px": 0}
    product = decoded(run(model, encoded(image), parse_options({"output": "alpha", **off}), Limits()).data)
    prediction = predict_alpha(model, image)
    assert (np.floor(prediction.alpha * 255 + 0.5).astype(np.uint8) == product).all()
    assert 0 < prediction.network_seconds <= prediction.seconds


def test_a_lanczos_card_is_fitted_and_restored_as_rembg_does() -> None:
    """Pillow's Lanczos both ways, the matte cut off to 8 bits at the network's size."""
    rng = np.random.default_rng(2)
    image = rng.integers(0, 256, (90, 130, 3), dtype=np.uint8)
    fitted = fit(image, 64, "stretch", "lanczos")
    assert (fitted.pixels == np.asarray(Image.fromarray(image).resize((64, 64), Image.Resampling.LANCZOS))).all()
    answer = rng.random((64, 64), dtype=np.float32)
    small = Image.fromarray((answer * 255).astype(np.uint8))
    wanted = np.asarray(small.resize((130, 90), Image.Resampling.LANCZOS))
    restored = restore_alpha(image, fitted, answer)
    assert restored.dtype == np.float32
    assert (np.rint(restored * 255) == wanted).all()


def test_a_matte_that_is_in_8_bits_already_survives_lanczos_at_equal_size() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    fitted = fit(np.zeros((16, 16, 3), np.uint8), 16, "stretch", "lanczos")
    for answer in (levels, (levels / 255).astype(np.float32), levels * np.float32(1 / 255)):
        assert (np.rint(restore_alpha(np.zeros((16, 16, 3), np.uint8), fitted, answer) * 255) == levels).all()


def test_another_refinement_that_was_asked_for_is_given_on_a_lanczos_card() -> None:
    image = photo()
    answer = np.linspace(0, 1, 64 * 64, dtype=np.float32).reshape(64, 64)
    own, other = (fit(image, 64, "stretch", restore) for restore in ("lanczos", "guided"))
    own = replace(own, pixels=other.pixels)
    for method in ("none", "matting"):
        assert (restore_alpha(image, own, answer, method) == restore_alpha(image, other, answer, method)).all()


# the figures


def test_figures_are_means_and_medians_over_photos(folder: Path) -> None:
    result = document(evaluate(Entrant("fake@1", SmallFake(), None), open_set(folder), 1))
    ious = [row["iou"] for row in result["per_image"]]  # type: ignore[attr-defined]
    assert ious[1:] == [0.0, 1.0]
    assert ious[0] > 0.95
    assert result["iou"] == {"mean": pytest.approx(sum(ious) / 3, abs=1e-6), "median": sorted(ious)[1]}
    assert (result["failures"], result["failed_images"], result["images"]) == (1, ["missed"], 3)


def test_the_quality_score_is_the_products_own_and_is_ranked_against_the_errors(folder: Path) -> None:
    evaluation = evaluate(Entrant("fake@1", SmallFake(), None), open_set(folder), 1)
    result = document(evaluation)
    for one, pair in zip(evaluation.photos, evaluation.scored.pairs, strict=True):
        image, _ = read_pair(pair)
        assert one.quality == assess(predict_alpha(SmallFake(), image).alpha, image).score
    quality = [row["quality"] for row in result["per_image"]]  # type: ignore[attr-defined]
    errors = [row["mad"] for row in result["per_image"]]  # type: ignore[attr-defined]
    found = result["quality"]
    assert isinstance(found, dict)
    assert found["spearman_mad"] == spearman(quality, errors)
    assert "quality score: median" in evaluation_table(evaluation)


def test_a_photo_without_an_edge_is_left_out_of_the_unknown_band(folder: Path) -> None:
    result = document(evaluate(Entrant("fake@1", SmallFake(), None), open_set(folder), 1))
    unknown = result["unknown"]
    assert isinstance(unknown, dict)
    assert unknown["images"] == 2
    assert [row["unknown"] is None for row in result["per_image"]] == [False, False, True]  # type: ignore[attr-defined]


def test_a_set_without_any_edge_has_no_figures_for_the_band(folder: Path) -> None:
    for name in ("a [1].b", "missed"):
        for kind in ("image", "mask"):
            (folder / kind / f"{name}.png").unlink()
    evaluation = evaluate(Entrant("fake@1", SmallFake(), None), open_set(folder), 1)
    unknown = document(evaluation)["unknown"]
    assert isinstance(unknown, dict)
    assert unknown["sad"] == {"mean": None, "median": None}
    assert "without a band: 1" in evaluation_table(evaluation)


# the command


@pytest.fixture
def small_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "FakeModel", SmallFake)


@pytest.mark.usefixtures("small_model")
def test_evaluate_json_is_one_object_on_stdout_with_the_promised_keys(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(folder), "--model", "fake", "--json"]) == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert set(METRICS) == {"sad", "mse", "mad", "grad", "conn", "iou", "dice", "max_f"}
    for part in (result, result["unknown"]):
        for metric in METRICS:
            assert set(part[metric]) == {"mean", "median"}
            assert all(math.isfinite(value) for value in part[metric].values())
    assert (result["model"], result["sha256"], result["threads"]) == ("fake@1", None, 1)
    assert result["seconds_per_image"] >= result["network_seconds_per_image"] > 0
    assert "fit, network and restore" in result["timed"]
    assert "photo" in captured.err  # the progress bar


@pytest.mark.usefixtures("small_model")
def test_evaluate_prints_a_table_for_people(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(folder), "--model", "fake", "--limit", "2", "--threads", "2"]) == 0
    text = capsys.readouterr().out
    for word in ("SAD", "MSE", "MAD", "Grad", "Conn", "IoU", "Dice", "max-F", "unknown band", "median", "ms per image"):
        assert word in text
    assert "2 photos with mask/, 2 threads" in text
    assert "missed subjects (IoU < .3): 1 (missed)" in text


@pytest.mark.usefixtures("small_model")
def test_a_bad_set_is_2_with_every_problem_on_stderr(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(folder / "image" / "lonely.png", photo())
    save(folder / "mask" / "widowed.png", TRUTH)
    assert main(["evaluate", str(folder), "--model", "fake", "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "lonely" in captured.err
    assert "widowed" in captured.err
    assert "Traceback" not in captured.err


@pytest.mark.parametrize(
    "arguments",
    [["--model", "nope"], ["--model", "mattehorn-slim=/no/such/file"], ["--limit", "0"], ["--threads", "x"]],
    ids=str,
)
def test_a_bad_command_is_2(folder: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = main(["evaluate", str(folder), *arguments])
    except SystemExit as exit_:
        code = int(str(exit_.code))
    assert code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_an_unknown_model_is_refused_before_the_set_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(tmp_path / "not there"), "--model", "nope"]) == 2
    assert "known: " in capsys.readouterr().err
