"""Models whose weights a user brings: cards without weights, and own cards beside own weights in `model_dir`."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from deployments.calls import Readiness
from deployments.ingress.jobs import require_model
from deployments.ingress.schemas import model_entries
from mattehorn.errors import ModelError, UnknownModel
from mattehorn.models.networks import build_network
from mattehorn.models.registry import find_weights, load_model
from mattehorn.models.torch_model import TorchModel
from mattehorn.models.zoo import DEFAULT, cards, find_card
from mattehorn.settings import Settings


@pytest.fixture(scope="module")
def weights() -> bytes:
    torch.manual_seed(5)
    state = build_network(cards()[DEFAULT].network).state_dict()
    return safetensors.torch.save({name: value.half() for name, value in state.items()})


@pytest.mark.parametrize("name", ["attn-unet-r34", "u2netp"])
def test_a_card_without_weights_says_so_and_what_to_type(name: str, tmp_path: Path) -> None:
    card = cards()[name]
    assert not card.packaged
    for model_dir in (None, str(tmp_path)):
        with pytest.raises(ModelError, match=f"{name}@1 comes without weights") as caught:
            load_model(name, model_dir=model_dir)
        assert f"{name}=PATH" in caught.value.message
        assert str(card.weights_file) in caught.value.message
        assert str(tmp_path) not in caught.value.message


def test_all_other_cards_are_packaged() -> None:
    assert {name for name, card in cards().items() if not card.packaged} == {"attn-unet-r34", "u2netp"}


def test_the_large_network_loads_a_users_weights_by_name(tmp_path: Path) -> None:
    torch.manual_seed(7)
    network = build_network("attn-unet-r34").eval()
    data = safetensors.torch.save({key: value.half() for key, value in network.state_dict().items()})
    (tmp_path / "attn-unet-r34.safetensors").write_bytes(data)
    card = dataclasses.replace(find_card("attn-unet-r34"), input_size=64)
    by_folder = TorchModel(card, find_weights(card, model_dir=str(tmp_path)), device="cpu", threads=1)
    by_path = find_weights(card, path=str(tmp_path / "attn-unet-r34.safetensors"))
    assert by_path == data
    by_folder.dtype = torch.float32
    image = np.random.default_rng(5).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    normal = (torch.from_numpy(image).float() / 255 - torch.tensor(card.mean)) / torch.tensor(card.std)
    with torch.inference_mode():
        expected = network.alpha(normal.permute(0, 3, 1, 2))
    assert np.abs(by_folder.predict(image) - expected[:, 0].numpy()).max() < 0.01  # float16 weights


def own_model(folder: Path, weights: bytes, name: str = "my-model", changes: dict[str, Any] | None = None) -> None:
    """Weights and card as the training export writes them, under a user's own name."""
    document = json.loads((resources.files("mattehorn.models") / "weights" / f"{DEFAULT}.json").read_text("utf-8"))
    own = {"name": name, "version": "3", "input_size": 64, "sha256": hashlib.sha256(weights).hexdigest()}
    (folder / f"{name}.safetensors").write_bytes(weights)
    (folder / f"{name}.json").write_text(json.dumps({**document, **own, **(changes or {})}), "utf-8")


@pytest.mark.parametrize("name", ["my-model", "my-model@3"])
def test_a_card_beside_own_weights_makes_its_name_loadable(name: str, weights: bytes, tmp_path: Path) -> None:
    own_model(tmp_path, weights)
    model = load_model(name, model_dir=str(tmp_path))
    assert (model.card.id, model.card.input_size, model.card.packaged) == ("my-model@3", 64, False)
    alpha = model.predict(np.zeros((1, 64, 64, 3), np.uint8))
    assert alpha.shape == (1, 64, 64)


def test_an_own_model_is_what_the_api_shows_and_takes(weights: bytes, tmp_path: Path) -> None:
    own_model(tmp_path, weights, changes={"licence": "own photos"})
    settings = Settings(model="my-model", model_dir=str(tmp_path))
    (entry,) = model_entries(settings, Readiness(ready=False))
    assert (entry["name"], entry["state"], entry["licence"]) == ("my-model", "loading", "own photos")
    require_model("my-model@3", settings)
    with pytest.raises(UnknownModel, match="this service runs my-model@3"):
        require_model("attn-unet-r34", settings)


def test_altered_own_weights_are_refused(weights: bytes, tmp_path: Path) -> None:
    own_model(tmp_path, weights)
    (tmp_path / "my-model.safetensors").write_bytes(weights + b" ")
    with pytest.raises(ModelError, match="sha256"):
        load_model("my-model", model_dir=str(tmp_path))


@pytest.mark.parametrize("name", [DEFAULT, "fake"])
def test_an_own_card_never_takes_a_packaged_models_name(name: str, weights: bytes, tmp_path: Path) -> None:
    own_model(tmp_path, weights, name)
    with pytest.raises(ModelError, match=f"{name}@1 is packaged; give your model another name"):
        load_model(name, model_dir=str(tmp_path))


def test_an_own_card_goes_before_the_one_that_has_no_weights(weights: bytes, tmp_path: Path) -> None:
    own_model(tmp_path, weights, "attn-unet-r34", {"network": cards()[DEFAULT].network})
    assert load_model("attn-unet-r34", model_dir=str(tmp_path)).card.id == "attn-unet-r34@3"


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"name": "other"}, "has name other"),
        ({"kind": "fake"}, "kind fake"),
        ({"kind": ["torch"]}, "no model card"),
        ({"input_size": 0}, "input_size"),
        ({"input_size": 500}, "input_size"),
        ({"std": [0.2, 0, 0.2]}, "std.1"),
        ({"mean": [0.5]}, "mean"),
        ({"fit": "squeeze"}, "fit"),
        ({"order": "bgr"}, "order"),
        ({"network": None}, "network"),
    ],
)
def test_a_card_that_cannot_hold_is_refused_with_its_field(
    changes: dict[str, Any], wanted: str, weights: bytes, tmp_path: Path
) -> None:
    own_model(tmp_path, weights, changes=changes)
    with pytest.raises(ModelError, match=wanted) as caught:
        load_model("my-model", model_dir=str(tmp_path))
    assert str(tmp_path) not in caught.value.message


def test_a_card_of_an_unknown_network_is_refused(weights: bytes, tmp_path: Path) -> None:
    own_model(tmp_path, weights, changes={"network": "resnet"})
    with pytest.raises(ModelError, match="network is resnet; known: slim_half_w32"):
        load_model("my-model", model_dir=str(tmp_path))


@pytest.mark.parametrize("text", ["", "[1]", "{", '"x"', "\x00"])
def test_a_file_that_is_no_card_is_a_model_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "my-model.json").write_text(text, "utf-8")
    with pytest.raises(ModelError, match=r"my-model\.json is no model card"):
        find_card("my-model", str(tmp_path))


@pytest.mark.parametrize("name", ["../my-model", "sub/my-model", ".my-model", "my-model.json", "my-model@4"])
def test_a_name_never_leads_out_of_the_folder(name: str, weights: bytes, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    own_model(tmp_path, weights)
    own_model(tmp_path / "in", weights)
    with pytest.raises(UnknownModel, match=r"any card NAME\.json in model_dir"):
        find_card(name, str(tmp_path / "in"))
