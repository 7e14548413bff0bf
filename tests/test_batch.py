"""A folder in, a folder out: which files are photos, what results are called, and that one bad photo stops nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mattehorn.cli.batch import Photo, Summary, find_photos, run_batch
from mattehorn.models.fake import FakeModel
from mattehorn.options import Options
from mattehorn.recipe.gate import Wish
from mattehorn.routed import Models
from mattehorn.settings import Limits
from tests.service import CARD_64, decoded, encoded, photo

PHOTO = encoded(photo())


def folder_of(root: Path, *names: str, data: bytes = PHOTO) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def targets(folder: Path, out: Path, extension: str = "png") -> dict[str, str]:
    photos, _ = find_photos(folder, out, extension)
    return {photo.name: photo.target.relative_to(out).as_posix() for photo in photos}


def model() -> FakeModel:
    fake = FakeModel()
    fake.card = CARD_64
    return fake


def process(folder: Path, out: Path, options: Options | None = None) -> Summary:
    photos, ignored = find_photos(folder, out, "png")
    summary = Summary(ignored=ignored)
    run_batch(Models(model()), photos, Wish(options or Options(format="png")), Limits(), summary)
    return summary


def test_photos_are_told_by_their_extension_and_the_rest_is_counted(tmp_path: Path) -> None:
    folder_of(tmp_path / "in", "a.jpg", "B.PNG", "c.heic", "notes.txt", "thumbs.db", "noext", ".hidden")
    photos, ignored = find_photos(tmp_path / "in", tmp_path / "out", "png")
    assert {photo.name for photo in photos} == {"a.jpg", "B.PNG", "c.heic"}
    assert ignored == 4


def test_subfolders_are_kept_and_the_extension_is_the_results(tmp_path: Path) -> None:
    folder_of(tmp_path / "in", "a.jpg", "x/a.jpg", "x/y/b.tiff")
    assert targets(tmp_path / "in", tmp_path / "out", "webp") == {
        "a.jpg": "a.webp",
        "x/a.jpg": "x/a.webp",
        "x/y/b.tiff": "x/y/b.webp",
    }


def test_equal_stems_keep_their_source_extension(tmp_path: Path) -> None:
    folder_of(tmp_path / "in", "a.jpg", "a.webp", "b.jpg", "x/a.png")
    assert targets(tmp_path / "in", tmp_path / "out") == {
        "a.jpg": "a.jpg.png",
        "a.webp": "a.webp.png",
        "b.jpg": "b.png",
        "x/a.png": "x/a.png",
    }


def test_results_inside_the_input_folder_are_no_photos_of_the_next_run(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "in", "a.jpg", "out/a.png", "out/x/b.png", "outer/c.jpg")
    assert set(targets(folder, folder / "out")) == {"a.jpg", "outer/c.jpg"}


def test_results_inside_the_input_folder_are_left_aside_however_it_is_written(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "in", "a.jpg", "out/a.png")
    photos, _ = find_photos(folder, tmp_path / "in" / ".." / "in" / "out", "png")
    assert [photo.name for photo in photos] == ["a.jpg"]


def test_an_output_folder_above_the_input_hides_no_photos(tmp_path: Path) -> None:
    folder_of(tmp_path / "photos", "a.jpg")
    photos, _ = find_photos(tmp_path / "photos", tmp_path, "png")
    assert [photo.name for photo in photos] == ["a.jpg"]


def test_every_photo_becomes_a_result(tmp_path: Path) -> None:
    folder_of(tmp_path / "in", "a.png", "x/b.png")
    summary = process(tmp_path / "in", tmp_path / "out")
    assert (summary.total, summary.success, summary.failed) == (2, 2, [])
    for name in ("a.png", "x/b.png"):
        assert decoded((tmp_path / "out" / name).read_bytes()).shape == (48, 64, 4)


def test_bad_photos_are_named_with_their_reason_and_stop_nothing(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "in", "a.png", "z.png")
    folder_of(folder, "b.jpg", data=b"just text")
    folder_of(folder, "c.png", data=PHOTO[: len(PHOTO) // 2])
    folder_of(folder, "d.png", data=encoded(np.full((9, 9, 3), 7, np.uint8)))
    folder_of(folder, "e.png", data=b"")
    summary = process(folder, tmp_path / "out")
    assert (summary.total, summary.success) == (6, 2)
    assert {file: error.partition(":")[0] for file, error in summary.failed} == {
        "b.jpg": "unsupported_image",
        "c.png": "corrupt_image",
        "d.png": "no_foreground",
        "e.png": "missing_image",
    }
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "z.png"]


def test_a_photo_that_cannot_be_read_or_written_is_one_failure(tmp_path: Path) -> None:
    folder_of(tmp_path / "in", "a.png", "x/b.png", "y/c.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "x").write_text("a file where a folder should be")
    photos, _ = find_photos(tmp_path / "in", tmp_path / "out", "png")
    photos.append(
        Photo(tmp_path / "gone.png", tmp_path / "out" / "gone.png", "gone.png", tmp_path / "out/review/gone.png")
    )
    summary = Summary()
    run_batch(Models(model()), photos, Wish(Options()), Limits(), summary)
    assert (summary.total, summary.success) == (4, 2)
    assert [file for file, _ in summary.failed] == ["x/b.png", "gone.png"]
    assert str(tmp_path) not in summary.failed[1][1]


def test_progress_hears_of_every_photo_once(tmp_path: Path) -> None:
    folder_of(tmp_path / "in", "a.png", "b.png")
    folder_of(tmp_path / "in", "c.png", data=b"x")
    photos, _ = find_photos(tmp_path / "in", tmp_path / "out", "png")
    heard: list[str] = []
    run_batch(
        Models(model()), photos, Wish(Options()), Limits(), Summary(), on_done=lambda photo: heard.append(photo.name)
    )
    assert heard == ["a.png", "b.png", "c.png"]


def test_a_background_goes_behind_every_photo(tmp_path: Path) -> None:
    folder_of(tmp_path / "in", "a.png")
    photos, _ = find_photos(tmp_path / "in", tmp_path / "out", "png")
    behind = encoded(np.full((5, 5, 3), (0, 0, 255), np.uint8))
    wish = Wish(Options(output="composite", format="png"))
    run_batch(Models(model()), photos, wish, Limits(), Summary(), behind)
    assert tuple(decoded((tmp_path / "out" / "a.png").read_bytes())[0, 0]) == (0, 0, 255)


def test_the_summarys_document_is_the_one_that_was_decided() -> None:
    summary = Summary(total=3, success=2, ignored=1, seconds=6.0, failed=[("x/a.jpg", "corrupt_image: cut short")])
    assert summary.document() == {
        "total": 3,
        "success": 2,
        "failed": [{"file": "x/a.jpg", "error": "corrupt_image: cut short"}],
        "seconds_per_image": 2.0,
        "ignored": 1,
    }
    assert Summary().document()["seconds_per_image"] is None


def test_a_photo_named_like_anothers_result_keeps_its_whole_name(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.webp", "a.jpg.png"):
        (tmp_path / name).write_bytes(b"x")
    photos, _ = find_photos(tmp_path, tmp_path / "out", "png")
    assert sorted(photo.target.name for photo in photos) == ["a.jpg.png", "a.jpg.png.png", "a.webp.png"]
