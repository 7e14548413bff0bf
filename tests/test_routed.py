"""Two models in one process: `mattehorn cut` and `batch` with a gate, bulk work's own, and what a key follows from."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from deployments.bulk.shard_actor import Matter
from deployments.config import load_config
from mattehorn.bulk.embedded import OwnModel
from mattehorn.cli import main as cli
from mattehorn.cli.main import main
from mattehorn.errors import LowQuality
from mattehorn.models import registry
from mattehorn.models.base import Model
from mattehorn.models.fake import FakeModel
from mattehorn.models.zoo import find_card
from mattehorn.options import Options
from mattehorn.recipe.gate import Gate, Wish
from mattehorn.recipe.result_keys import model_digest, service_digest
from mattehorn.settings import Settings
from tests.ray.running import ROOT
from tests.service import encoded, photo

PHOTO = encoded(photo())


class Hazy(FakeModel):
    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.asarray(super().predict(images) * 0.5, np.float32)


class Clear(FakeModel):
    def __init__(self) -> None:
        super().__init__()
        self.card = find_card("mattehorn-base")


@pytest.fixture(autouse=True)
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the models that were loaded: `fake` is hazy, the other one is not."""
    names: list[str] = []

    def load(name: str, **_: object) -> Model:
        names.append(name)
        return Hazy() if name == "fake" else Clear()

    for module in (registry, "mattehorn.bulk.embedded", "deployments.bulk.shard_actor"):
        target = module if isinstance(module, str) else module.__name__
        monkeypatch.setattr(f"{target}.load_model", load)
    return names


def recipe(folder: Path, **quality: object) -> str:
    path = folder / "mine.json"
    path.write_text(json.dumps({"name": "mine", "version": 1, "quality": quality}))
    return str(path)


def source(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "photo.png").write_bytes(PHOTO)
    return folder


def highest(path: Path) -> int:
    """The largest alpha of a result: the hazy model reaches half."""
    return int(Image.open(io.BytesIO(path.read_bytes())).getchannel("A").getextrema()[1])


def cut(folder: Path, *more: str) -> int:
    return main(["cut", str(source(folder) / "photo.png"), str(folder / "out.png"), "--model", "fake", *more])


def test_cut_loads_the_stronger_model_only_when_a_photo_needs_it(tmp_path: Path, loaded: list[str]) -> None:
    assert cut(tmp_path, "--strong-model", "mattehorn-base", "--tier", "fast") == 0
    assert (loaded, highest(tmp_path / "out.png") < 200) == (["fake"], True)
    assert cut(tmp_path, "--strong-model", "mattehorn-base") == 0
    assert (loaded, highest(tmp_path / "out.png")) == (["fake", "fake", "mattehorn-base"], 255)


def test_cut_says_what_is_to_be_reviewed_and_refuses_what_the_gate_rejects(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cut(tmp_path, "--recipe", recipe(tmp_path, accept=0.9)) == 0
    assert "to be reviewed: score 0." in capsys.readouterr().err
    assert cut(tmp_path, "--recipe", recipe(tmp_path, accept=0.9, otherwise="reject")) == 1
    assert "low_quality" in capsys.readouterr().err


def test_batch_puts_what_is_to_be_reviewed_into_a_folder_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["batch", str(source(tmp_path / "in" / "a").parent), str(tmp_path / "out"), "--model", "fake", "--json"]
    assert main([*command, "--recipe", recipe(tmp_path, accept=0.9)]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["success"], summary["review"], summary["failed"]) == (1, 1, [])
    assert [path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png")] == [
        "review/a/photo.png"
    ]
    assert main([*command, "--recipe", recipe(tmp_path, accept=0.9), "--strong-model", "mattehorn-base"]) == 0
    assert "review" not in json.loads(capsys.readouterr().out)
    assert highest(tmp_path / "out/a/photo.png") == 255


def test_a_folder_of_recipes_is_known_to_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe(tmp_path, accept=0.1)
    assert main(["recipes", "mine", "--recipes-dir", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out)["quality"] == {"accept": 0.1}
    assert main(["recipes", "--recipes-dir", str(tmp_path)]) == 0
    assert "mine@1" in capsys.readouterr().out
    assert cut(tmp_path, "--recipe", "mine", "--recipes-dir", str(tmp_path)) == 0


@pytest.mark.parametrize(
    "make", [lambda s: OwnModel(s, 1), lambda s: Matter(s, "cpu").cut_out], ids=["own", "ray data"]
)
def test_bulk_work_with_its_own_models_goes_by_the_same_gate(make) -> None:
    cut_out = make(Settings(model="fake", strong_model="mattehorn-base"))

    async def check() -> None:
        gate = Gate(accept=0.9)
        weak = await cut_out(PHOTO, Wish(Options(tier="fast"), gate, "mine@1;0"))
        assert (weak.route, weak.model, weak.recipe) == ("review", "fake@1", "mine@1;0")
        retried = await cut_out(PHOTO, Wish(Options(), gate))
        assert (retried.route, retried.model) == ("accept", "mattehorn-base@1")
        best = await cut_out(PHOTO, Wish(Options(tier="best", check_stability=True)))
        assert (best.route, best.model) == (None, "mattehorn-base@1")
        with pytest.raises(LowQuality):
            await cut_out(PHOTO, Wish(Options(model="fake"), Gate(accept=0.9, otherwise="reject")))

    asyncio.run(check())


def test_keys_follow_from_both_models_and_from_one_as_they_always_did() -> None:
    assert service_digest("fake", None) == model_digest("fake")
    assert len({service_digest("fake", "mattehorn-slim"), service_digest("fake", None), model_digest("fake")}) == 2


def test_a_service_without_a_stronger_model_has_no_pool_for_one() -> None:
    def names(*settings: str) -> list[str]:
        config = load_config(ROOT / "serve_config.yaml", list(settings))
        return [entry["name"] for entry in config["applications"][0]["deployments"]]

    assert "MattingStrong" not in names()
    assert "MattingStrong" in names("strong_model=mattehorn-slim")
    with pytest.raises(ValueError, match="name a stronger one"):
        names("strong_model=mattehorn-base")


def test_a_bad_folder_of_recipes_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"name": "minimal", "version": 2}')
    with pytest.raises(ValueError, match=r"a\.json.*preset"):
        load_config(ROOT / "serve_config.yaml", [f"recipes_dir={tmp_path}"])
    (tmp_path / "a.json").write_text('{"name": "mine", "version": 2}')
    config = load_config(ROOT / "serve_config.yaml", [f"recipes_dir={tmp_path}"])
    assert config["applications"][0]["args"]["recipes_dir"] == str(tmp_path.resolve())
    assert cli.main(["recipes", "mine@2", "--recipes-dir", str(tmp_path)]) == 0
