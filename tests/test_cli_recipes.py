"""`mattehorn recipes`, and `--recipe` of cut and batch: whose value counts, files of one's own, clear errors."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mattehorn.cli import main as cli
from mattehorn.cli.main import main
from mattehorn.models import registry
from mattehorn.models.fake import FakeModel
from mattehorn.models.zoo import DEFAULT
from mattehorn.options import Options
from mattehorn.recipe.gate import Wish
from mattehorn.recipe.recipe import PRESETS, catalogue, find_recipe
from tests.service import encoded, photo


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded(photo()))
    return path


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "mine.json"
    path.write_text(
        '{"name": "mine", "version": 3, "options": {"background_color": "#102030", "output_size": "90x80"}}'
    )
    return path


def cut(source: Path, target: Path, *more: str) -> int:
    return main(["cut", str(source), str(target), "--model", "fake", *more])


def asked(monkeypatch: pytest.MonkeyPatch, source: Path, target: Path, *more: str) -> Options:
    """The options that reach the pipeline."""
    seen: list[Options] = []
    actual = cli.run_routed

    def record(models: Any, data: bytes, wish: Wish, *rest: Any) -> Any:
        seen.append(wish.options)
        return actual(models, data, wish, *rest)

    monkeypatch.setattr(cli, "run_routed", record)
    assert cut(source, target, *more) == 0
    return seen[0]


def picture(path: Path) -> Image.Image:
    return Image.open(io.BytesIO(path.read_bytes()))


# recipes


def test_the_table_has_a_line_for_each_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(PRESETS)
    for line, recipe in zip(lines, PRESETS, strict=True):
        assert line.split()[:2] == [recipe.id, recipe.hash[:12]]
        assert line.endswith(recipe.description)


def test_json_is_what_the_api_gives(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == catalogue()


def test_a_printed_recipe_is_a_file_to_start_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "gradient@2"]) == 0
    path = tmp_path / "mine.json"
    path.write_text(capsys.readouterr().out)
    assert main(["recipes", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == find_recipe("gradient").entry()


# whose value counts


def test_a_recipes_values_replace_the_defaults(monkeypatch: pytest.MonkeyPatch, source: Path, tmp_path: Path) -> None:
    options = asked(monkeypatch, source, tmp_path / "out.jpg", "--recipe", "id-photo")
    assert options == find_recipe("id-photo").bulk_options()
    assert picture(tmp_path / "out.jpg").size == (413, 531)


def test_what_is_given_replaces_the_recipes_values(
    monkeypatch: pytest.MonkeyPatch, source: Path, tmp_path: Path
) -> None:
    given = ("--output-size", "80x60", "--encode-quality", "70", "--allow-empty")
    options = asked(monkeypatch, source, tmp_path / "out.jpg", "--recipe", "gradient@2", *given)
    changed = {"output_size": "80x60", "encode_quality": 70, "allow_empty": True}
    assert options.model_dump() == find_recipe("gradient").bulk_options().model_dump() | changed


@pytest.mark.parametrize(
    ("recipe", "name", "format"),
    [
        ("transparent-web", "out.png", "PNG"),
        ("transparent-web", "out", "WEBP"),
        ("obs-asset", "out.webp", "WEBP"),
        ("marketplace-white", "out.png", "PNG"),
        ("marketplace-white", "out.bin", "JPEG"),
    ],
)
def test_a_targets_suffix_counts_more_than_the_recipes_format(
    source: Path, tmp_path: Path, recipe: str, name: str, format: str
) -> None:
    assert cut(source, tmp_path / name, "--recipe", recipe) == 0
    assert picture(tmp_path / name).format == format


def test_a_zip_is_made_of_a_recipe_with_a_format(source: Path, tmp_path: Path) -> None:
    assert cut(source, tmp_path / "out.zip", "--recipe", "transparent-web") == 0
    assert (tmp_path / "out.zip").read_bytes().startswith(b"PK")


def test_a_background_given_takes_the_place_of_the_recipes(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.png"
    assert cut(source, target, "--recipe", "marketplace-white", "--background-gradient", "90deg #00f #00f") == 0
    assert picture(target).convert("RGB").getpixel((0, 0)) == (0, 0, 255)
    backdrop = tmp_path / "green.png"
    Image.new("RGB", (8, 8), (0, 255, 0)).save(backdrop)
    assert cut(source, target, "--recipe", "gradient", "--background-file", str(backdrop)) == 0
    assert picture(target).convert("RGB").getpixel((0, 0)) == (0, 255, 0)


def test_the_model_is_the_given_one_the_recipes_or_the_default(
    monkeypatch: pytest.MonkeyPatch, source: Path, tmp_path: Path
) -> None:
    loaded: list[str] = []

    def load(name: str) -> FakeModel:
        loaded.append(name)
        return FakeModel()

    monkeypatch.setattr(registry, "load_model", load)
    (tmp_path / "m.json").write_text('{"name": "m", "version": 1, "options": {"model": "mattehorn-slim"}}')
    mine = ["--recipe", str(tmp_path / "m.json")]
    for more in (mine, [*mine, "--model", "fake"], ["--recipe", "minimal"], []):
        assert main(["cut", str(source), str(tmp_path / "out.png"), *more]) == 0
    assert loaded == ["mattehorn-slim", "fake", DEFAULT, DEFAULT]


def test_a_folder_takes_a_recipe_and_its_format(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    source.rename(folder / "a.jpg")
    arguments = ["batch", str(folder), str(tmp_path / "out"), "--model", "fake", "--recipe", "transparent-web"]
    assert main(arguments) == 0
    assert [path.suffix for path in (tmp_path / "out").iterdir()] == [".webp"]
    assert main([*arguments, "--format", "png"]) == 0
    assert sorted(path.suffix for path in (tmp_path / "out").iterdir()) == [".png", ".webp"]


def test_a_file_of_ones_own_is_a_recipe(source: Path, own: Path, tmp_path: Path) -> None:
    assert cut(source, tmp_path / "out.png", "--recipe", str(own)) == 0
    made = picture(tmp_path / "out.png").convert("RGB")
    assert (made.size, made.getpixel((0, 0))) == ((90, 80), (16, 32, 48))


# errors


@pytest.mark.parametrize("command", ["cut", "recipes"])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "holds no object"),
        ("{", "is no JSON"),
        ("{}", "has no name"),
        ('{"name": "a", "version": 1, "options": {"feather_px": 99}}', "feather_px is 99"),
        ('{"name": "a", "version": 1, "options": {"backgrund": 1}}', "backgrund is not an option"),
        ('{"name": "a", "version": 1, "options": {"store": true}}', "store has no meaning"),
        ('{"name": "a", "version": 1, "option": {}}', "has no option"),
    ],
)
def test_a_file_that_is_no_recipe_is_a_fault_of_usage(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, text: str, message: str
) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    target = tmp_path / "out.png"
    assert (cut(source, target, "--recipe", str(path)) if command == "cut" else main(["recipes", str(path)])) == 2
    assert message in capsys.readouterr().err
    assert not target.exists()


def test_an_unknown_name_is_told_with_those_there_are(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cut(source, tmp_path / "out.png", "--recipe", "passport") == 2
    assert "id-photo@1" in capsys.readouterr().err
    assert main(["recipes", "passport"]) == 2
    assert "id-photo@1" in capsys.readouterr().err


def test_a_file_that_is_not_there_is_a_fault_of_the_run(source: Path, tmp_path: Path) -> None:
    assert cut(source, tmp_path / "out.png", "--recipe", str(tmp_path / "gone.json")) == 1
    assert main(["recipes", str(tmp_path / "gone.json")]) == 1


@pytest.mark.parametrize(
    ("recipe", "name", "more", "message"),
    [
        ("transparent-web", "out.jpg", [], "cannot hold a cutout's transparency"),
        ("minimal", "out.jpg", ["--output", "cutout"], "cannot hold a cutout's transparency"),
        ("minimal", "out.png", ["--crop", "--max-width", "70", "--output-size", "90x80"], "crop and output_size"),
    ],
)
def test_what_cannot_hold_together_with_the_recipe_is_refused(
    source: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    recipe: str,
    name: str,
    more: list[str],
    message: str,
) -> None:
    assert cut(source, tmp_path / name, "--recipe", recipe, *more) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("recipe", "name", "more"),
    [
        ("marketplace-white", "out.png", ["--output", "alpha"]),
        ("minimal", "out.jpg", ["--crop"]),
        ("gradient", "out.zip", []),
    ],
)
def test_what_excludes_values_of_the_recipe_takes_their_place(
    source: Path, tmp_path: Path, recipe: str, name: str, more: list[str]
) -> None:
    assert cut(source, tmp_path / name, "--recipe", recipe, *more) == 0
    assert (tmp_path / name).stat().st_size > 0
