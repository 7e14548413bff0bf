"""`mattehorn cut | batch | models`: names, exit codes, and what goes to stdout and what to stderr."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mattehorn.cli import main as cli
from mattehorn.cli.main import main
from mattehorn.models import registry
from mattehorn.models.fake import FakeModel
from mattehorn.models.zoo import cards
from mattehorn.options import Options
from tests.service import CARD_64, decoded, encoded, photo

PHOTO = encoded(photo())
EMPTY = encoded(np.full((9, 9, 3), 7, np.uint8))


@pytest.fixture(autouse=True)
def small_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--model fake` with a small input."""

    class Small(FakeModel):
        def __init__(self, *times: float) -> None:
            super().__init__(*times)
            self.card = CARD_64

    monkeypatch.setattr(registry, "FakeModel", Small)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(PHOTO)
    return path


def cut(source: Any, target: Any, *options: str) -> int:
    return main(["cut", str(source), str(target), "--model", "fake", *options])


# cut


def test_cut_writes_a_cutout(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cut(source, tmp_path / "out.png") == 0
    assert decoded((tmp_path / "out.png").read_bytes()).shape == (48, 64, 4)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("name", "options", "magic"),
    [
        ("out.webp", [], b"RIFF"),
        ("out.avif", [], b"\0\0\0"),
        ("OUT.PNG", [], b"\x89PNG"),
        ("out", [], b"\x89PNG"),
        ("out.jpg", ["--output", "alpha"], b"\xff\xd8"),
        ("out.jpeg", ["--background-color", "#fff"], b"\xff\xd8"),
        ("out.zip", [], b"PK"),
        ("out.zip", ["--output", "zip"], b"PK"),
        ("out.bin", ["--format", "webp"], b"RIFF"),
        ("out.gif", ["--format", "png"], b"\x89PNG"),
    ],
)
def test_the_targets_suffix_picks_the_format(
    source: Path, tmp_path: Path, name: str, options: list[str], magic: bytes
) -> None:
    assert cut(source, tmp_path / name, *options) == 0
    assert (tmp_path / name).read_bytes().startswith(magic)


def test_every_option_of_the_api_is_an_option_here(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("cut", "batch"):
        with pytest.raises(SystemExit) as caught:
            main([command, "--help"])
        assert caught.value.code == 0
        text = capsys.readouterr().out
        of_http = {"store", "store_alpha", "store_source", "name", "sku", "include", "inline"}
        for name in set(Options.model_fields) - of_http:
            assert f"--{name.replace('_', '-')}" in text, name
        for name in of_http:
            assert f"--{name.replace('_', '-')} " not in text


def test_options_reach_the_result(source: Path, tmp_path: Path) -> None:
    behind = tmp_path / "behind.png"
    behind.write_bytes(encoded(np.full((5, 5, 3), (0, 0, 255), np.uint8)))
    assert cut(source, tmp_path / "a.png", "--background-file", str(behind), "--shadow-opacity", "3") == 0
    assert tuple(decoded((tmp_path / "a.png").read_bytes())[0, 0]) == (0, 0, 255)
    assert cut(source, tmp_path / "b.png", "--roi", "0 0 32 48", "--output", "alpha") == 0
    assert not decoded((tmp_path / "b.png").read_bytes())[:, 34:].any()


def test_stdin_and_stdout_are_a_dash(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(PHOTO)))
    assert cut("-", "-") == 0
    written = capsysbinary.readouterr()
    assert cut(source, tmp_path / "out.png") == 0
    assert written.out == (tmp_path / "out.png").read_bytes()
    assert written.err == b""


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("out.jpg", [], "transparency"),
        ("out.gif", [], "png, webp"),
        ("out.png", ["--feather-px", "99"], "0 to 50"),
        ("out.png", ["--roi", "90 90 99 99"], "64x48"),
        ("out.png", ["--background-color", "red", "--output", "cutout"], "composite"),
        ("out.png", ["--model", "nope"], "fake@1"),
        ("out.png", ["--model", "mattehorn-slim=/no/such/file"], "weights"),
    ],
    ids=str,
)
def test_a_bad_command_is_2_and_says_what_is_allowed(
    source: Path, tmp_path: Path, name: str, options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if "mattehorn-slim" in str(options) and "mattehorn-slim" not in cards():
        pytest.skip("the packaged card is missing")
    assert cut(source, tmp_path / name, *options) == 2
    error = capsys.readouterr().err
    assert error.startswith("mattehorn: ")
    assert said in error
    assert "Traceback" not in error
    assert not (tmp_path / name).exists()


def test_a_bad_photo_is_1_and_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, data, code in (("a.jpg", b"text", "unsupported_image"), ("b.png", EMPTY, "no_foreground")):
        (tmp_path / name).write_bytes(data)
        assert cut(tmp_path / name, tmp_path / "out.png") == 1
        assert f"mattehorn: {code}: " in capsys.readouterr().err
    assert cut(tmp_path / "missing.jpg", tmp_path / "out.png") == 1
    assert "missing.jpg: No such file" in capsys.readouterr().err
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize("arguments", [[], ["cut"], ["cut", "a"], ["fly"], ["cut", "a", "b", "--no-such"]], ids=str)
def test_usage_errors_are_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


def test_warnings_go_to_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    frames = [Image.fromarray(photo()), Image.fromarray(photo()[:, ::-1, ::-1].copy())]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert cut(tmp_path / "a.gif", tmp_path / "a.png") == 0
    assert "animated_first_frame" in capsys.readouterr().err


# batch


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "in"
    (root / "x").mkdir(parents=True)
    for name, data in (("a.jpg", PHOTO), ("a.webp", PHOTO), ("x/b.png", PHOTO), ("notes.txt", b"hello")):
        (root / name).write_bytes(data)
    return root


def batch(source: Path, target: Path, *options: str) -> int:
    return main(["batch", str(source), str(target), "--model", "fake", *options])


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_batch_writes_a_result_for_every_photo(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert batch(folder, tmp_path / "out") == 0
    assert names(tmp_path / "out") == ["a.jpg.png", "a.webp.png", "x/b.png"]
    assert "3 of 3 photos done, 0 failed, 1 ignored." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "name", "shape"),
    [
        (["--output", "alpha"], "x/b.png", (48, 64)),
        (["--output", "composite"], "x/b.png", (48, 64, 3)),
        (["--output", "composite", "--format", "jpg"], "x/b.jpg", (48, 64, 3)),
        (["--format", "webp"], "x/b.webp", (48, 64, 4)),
        (["--background-color", "#fff8"], "x/b.png", (48, 64, 4)),
    ],
    ids=str,
)
def test_batch_knows_every_output(
    folder: Path, tmp_path: Path, options: list[str], name: str, shape: tuple[int, ...]
) -> None:
    assert batch(folder, tmp_path / "out", *options) == 0
    assert decoded((tmp_path / "out" / name).read_bytes()).shape == shape


def test_batch_writes_zips(folder: Path, tmp_path: Path) -> None:
    assert batch(folder, tmp_path / "out", "--output", "zip") == 0
    with zipfile.ZipFile(tmp_path / "out" / "x" / "b.zip") as archive:
        assert "alpha.png" in archive.namelist()


def test_batch_json_is_one_object_on_stdout(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "x" / "bad.png").write_bytes(PHOTO[:50])
    assert batch(folder, tmp_path / "out", "--json") == 1
    captured = capsys.readouterr()
    document = json.loads(captured.out)
    assert set(document) == {"total", "success", "failed", "seconds_per_image", "ignored"}
    assert (document["total"], document["success"], document["ignored"]) == (4, 3, 1)
    (failed,) = document["failed"]
    assert failed["file"] == "x/bad.png"
    assert failed["error"].startswith("corrupt_image: ")
    assert document["seconds_per_image"] >= 0
    assert "photo" in captured.err  # the progress bar


def test_batch_lists_failures_for_people(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "bad.png").write_bytes(EMPTY)
    assert batch(folder, tmp_path / "out") == 1
    text = capsys.readouterr().out
    assert "3 of 4 photos done, 1 failed" in text
    assert "bad.png: no_foreground" in text


def test_batch_over_an_empty_folder_is_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    assert batch(tmp_path / "in", tmp_path / "out") == 0
    assert "0 of 0" in capsys.readouterr().out


@pytest.mark.parametrize("options", [["--output", "mask"], ["--format", "jpg"], ["--erode-px", "x"]], ids=str)
def test_batch_refuses_bad_options_before_any_work(folder: Path, tmp_path: Path, options: list[str]) -> None:
    try:
        code = batch(folder, tmp_path / "out", *options)
    except SystemExit as exit_:
        code = int(str(exit_.code))
    assert code == 2
    assert not (tmp_path / "out").exists()


def test_batch_refuses_a_file_and_its_own_input_folder(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert batch(folder / "a.jpg", tmp_path / "out") == 2
    assert batch(folder, folder / "x" / "..") == 2
    assert "OUT_DIR" in capsys.readouterr().err
    assert names(folder) == ["a.jpg", "a.webp", "notes.txt", "x/b.png"]


# models and serve


def test_models_lists_every_card_with_its_licence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    text = capsys.readouterr().out
    for card in cards().values():
        assert card.id in text
    assert main(["models", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["models"]
    assert {row["name"] for row in rows} == set(cards())
    wanted = {
        "name",
        "version",
        "default",
        "packaged",
        "input_size",
        "licence",
        "commercial_use",
        "sha256",
        "training_sets",
    }
    assert set(rows[0]) == wanted


def test_serve_hands_its_arguments_and_its_signals_to_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    class Child:
        """Stands for the service: notes how it was started, and ends when it is told to."""

        def __init__(self, command: list[str]) -> None:
            self.command, self.terminated = command, 0
            started.append(self)

        def terminate(self) -> None:
            self.terminated += 1

        def wait(self) -> int:
            signal.raise_signal(signal.SIGTERM)
            return 7

    started: list[Child] = []
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(cli.subprocess, "Popen", Child)
    try:
        assert main(["serve", "--port", "8123", "--set", "store.url=s3://b/p"]) == 7
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGTERM, before[1])
    (child,) = started
    assert child.command == [sys.executable, "-m", "deployments", "--port", "8123", "--set", "store.url=s3://b/p"]
    assert child.terminated == 1


def test_the_command_line_needs_no_ray() -> None:
    code = (
        "import sys, mattehorn.cli.main; print('ray' in sys.modules, 'fastapi' in sys.modules, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False", "False"]
