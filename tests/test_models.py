"""Cards, the registry and how weights are found: nothing is loaded that was not asked for, nothing in silence."""

from __future__ import annotations

import dataclasses
import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from mattehorn.errors import ModelError, UnknownModel
from mattehorn.models import registry, zoo
from mattehorn.models.base import ModelCard
from mattehorn.models.fake import CARD, FakeModel
from mattehorn.models.registry import find_weights, load_model
from mattehorn.models.torch_model import TorchModel
from mattehorn.models.unet import SlimHalfUNet
from mattehorn.models.zoo import DEFAULT, cards, find_card

TORCH_CARD = ModelCard(
    name="tiny",
    version="2",
    kind="torch",
    network="slim_half_w32",
    input_size=64,
    fit="pad",
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    licence="Apache-2.0",
    commercial_use="unclear",
    licence_note="untrained",
    training_sets=(),
    weights_file="tiny.safetensors",
)


@pytest.fixture(scope="module")
def weights() -> bytes:
    torch.manual_seed(5)
    state = SlimHalfUNet(width=32).state_dict()
    return safetensors.torch.save({name: value.half() for name, value in state.items()})


@pytest.fixture
def card(weights: bytes, monkeypatch: pytest.MonkeyPatch) -> ModelCard:
    """An untrained network under a known name, with the sum of its weights."""
    card = dataclasses.replace(TORCH_CARD, sha256=hashlib.sha256(weights).hexdigest())
    known = {**cards(), card.name: card}
    monkeypatch.setattr(zoo, "cards", lambda: known)
    return card


# cards


def test_the_default_model_is_packaged_and_comes_first() -> None:
    card = cards()[DEFAULT]
    assert next(iter(cards())) == DEFAULT
    assert (card.kind, card.network, card.input_size, card.fit) == ("torch", "lite2_unet", 384, "pad")
    assert card.commercial_use in ("allowed", "unclear")
    assert card.training_sets
    assert hashlib.sha256(find_weights(card)).hexdigest() == card.sha256


def test_names_are_unique_and_plain() -> None:
    for name, card in cards().items():
        assert name == card.name
        assert not set(name) & set("@=/ ")
        assert card.id == f"{name}@{card.version}"


@pytest.mark.parametrize("name", ["fake", "fake@1", "fake=/some/where.safetensors", "fake@1=x"])
def test_a_card_is_found_by_name_version_and_own_path(name: str) -> None:
    assert find_card(name) is cards()["fake"]


@pytest.mark.parametrize("name", ["", "nope", "fake@2", "Fake", "=x", "@1", "../fake"])
def test_an_unknown_name_is_told_with_what_is_known(name: str) -> None:
    with pytest.raises(UnknownModel, match="fake@1") as caught:
        find_card(name)
    assert caught.value.data["field"] == "model"


# weights


def test_weights_come_from_the_operators_folder_first(card: ModelCard, weights: bytes, tmp_path: Path) -> None:
    (tmp_path / "tiny.safetensors").write_bytes(weights)
    assert find_weights(card, model_dir=str(tmp_path)) == weights


def test_altered_weights_are_refused(card: ModelCard, weights: bytes, tmp_path: Path) -> None:
    (tmp_path / "tiny.safetensors").write_bytes(weights[:-1] + b"x")
    with pytest.raises(ModelError, match="sha256"):
        find_weights(card, model_dir=str(tmp_path))


def test_missing_weights_are_a_model_error(card: ModelCard, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="tiny@2"):
        find_weights(card, model_dir=str(tmp_path))
    with pytest.raises(ModelError, match="tiny=PATH"):
        find_weights(card, path=str(tmp_path / "no-such-file"))
    with pytest.raises(ModelError) as caught:
        find_weights(card, path=str(tmp_path))
    assert str(tmp_path) not in caught.value.message


def test_own_weights_are_taken_as_they_are(card: ModelCard, tmp_path: Path) -> None:
    torch.manual_seed(6)
    own = safetensors.torch.save(SlimHalfUNet(width=32).state_dict())
    (tmp_path / "own.safetensors").write_bytes(own)
    model = load_model(f"tiny={tmp_path}/own.safetensors")
    assert model.card.id == "tiny@2"


def torch_saved(document: object) -> bytes:
    file = io.BytesIO()
    torch.save(document, file)
    return file.getvalue()


def test_a_state_dict_saved_by_torch_is_read_like_safetensors(card: ModelCard, weights: bytes, tmp_path: Path) -> None:
    (tmp_path / "own.pth").write_bytes(torch_saved(safetensors.torch.load(weights)))
    (tmp_path / "own.safetensors").write_bytes(weights)
    images = np.random.default_rng(4).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    models = [load_model(f"tiny={tmp_path}/own{suffix}") for suffix in (".pth", ".safetensors")]
    for model in models:
        assert isinstance(model, TorchModel)
        model.dtype = torch.float32
    assert np.array_equal(models[0].predict(images), models[1].predict(images))


class Callout:
    """What a hostile pickle holds: unpickling it calls a function of its maker's choice."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.touch, (self.target,)


def test_a_pickle_that_would_run_code_is_refused_and_runs_nothing(card: ModelCard, tmp_path: Path) -> None:
    called = tmp_path / "called"
    (tmp_path / "own.pth").write_bytes(torch_saved({"weight": Callout(called)}))
    with pytest.raises(ModelError, match="tiny@2"):
        load_model(f"tiny={tmp_path}/own.pth")
    assert not called.exists()


@pytest.mark.parametrize(
    "document",
    [{"stem.conv.weight": 3.0}, [1, 2], {"average": {"stem.conv.weight": torch.zeros(2)}}, torch.zeros(3), 5],
    ids=["number", "list", "checkpoint", "tensor", "int"],
)
def test_a_torch_file_of_something_else_is_a_model_error(card: ModelCard, document: object) -> None:
    with pytest.raises(ModelError, match="state dict"):
        TorchModel(card, torch_saved(document), device="cpu", threads=1)


def test_half_a_torch_file_is_a_model_error(card: ModelCard, weights: bytes) -> None:
    with pytest.raises(ModelError, match="slim_half_w32"):
        TorchModel(card, torch_saved(safetensors.torch.load(weights))[:5000], device="cpu", threads=1)


@pytest.mark.parametrize("change", [{"scale": "max"}, {"output": "min_max"}])
def test_a_torch_card_with_processing_that_torch_networks_lack_is_refused(
    card: ModelCard, weights: bytes, change: dict[str, Any]
) -> None:
    with pytest.raises(ModelError, match="takes scale 255"):
        TorchModel(dataclasses.replace(card, **change), weights, device="cpu", threads=1)


# loading


def test_the_fake_model_is_loaded_with_its_times() -> None:
    model = load_model("fake", fake_ms=(3.0, 0.5))
    assert isinstance(model, FakeModel)
    assert (model._batch_s, model._image_s) == (0.003, 0.0005)


@pytest.mark.parametrize("name", ["tiny@3", "u2net", ""])
def test_an_unknown_model_is_not_loaded(card: ModelCard, name: str) -> None:
    with pytest.raises(UnknownModel):
        load_model(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_missing_gpu_is_an_error_and_never_the_cpu_in_silence(
    card: ModelCard, weights: bytes, tmp_path: Path
) -> None:
    (tmp_path / "tiny.safetensors").write_bytes(weights)
    with pytest.raises(ModelError, match="CUDA"):
        load_model("tiny", device="cuda", model_dir=str(tmp_path))


@pytest.mark.parametrize("data", [b"", b"not safetensors", b"\x08\0\0\0\0\0\0\0{}      "])
def test_a_file_that_holds_no_such_network_is_a_model_error(card: ModelCard, data: bytes) -> None:
    with pytest.raises(ModelError, match="slim_half_w32"):
        TorchModel(card, data, device="cpu", threads=1)


def test_weights_of_another_shape_are_a_model_error(card: ModelCard) -> None:
    other = safetensors.torch.save(SlimHalfUNet(width=16).state_dict())
    with pytest.raises(ModelError, match="tiny@2"):
        TorchModel(card, other, device="cpu", threads=1)


# predicting


def test_a_torch_model_gives_mattes_in_range_for_every_batch(card: ModelCard, weights: bytes) -> None:
    model = TorchModel(card, weights, device="cpu", threads=1)
    assert model.dtype in (torch.float32, torch.bfloat16)
    images = np.random.default_rng(1).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    alpha = model.predict(images)
    assert (alpha.shape, alpha.dtype) == ((3, 64, 64), np.float32)
    assert alpha.min() >= 0
    assert alpha.max() <= 1
    alone = np.stack([model.predict(image[None])[0] for image in images])
    assert np.abs(alpha - alone).max() < 0.02  # a batch changes nothing but rounding


def test_a_torch_model_equals_the_plain_network_under_its_cards_mean_and_std(card: ModelCard, weights: bytes) -> None:
    model = TorchModel(card, weights, device="cpu", threads=1)
    model.dtype = torch.float32
    image = np.random.default_rng(2).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    network = SlimHalfUNet(width=32)
    network.load_state_dict({k: v.float() for k, v in safetensors.torch.load(weights).items()})
    normal = (torch.from_numpy(image).float() / 255 - torch.tensor(card.mean)) / torch.tensor(card.std)
    with torch.inference_mode():
        expected, _ = network.eval()(normal.permute(0, 3, 1, 2))
    assert np.abs(model.predict(image) - expected[:, 0].clamp(0, 1).numpy()).max() < 1e-3


def test_a_picture_that_is_a_view_is_predicted_like_its_copy(card: ModelCard, weights: bytes) -> None:
    model = TorchModel(card, weights, device="cpu", threads=1)
    images = np.random.default_rng(3).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)[:, ::-1]
    assert np.array_equal(model.predict(images), model.predict(images.copy()))


def test_the_fake_model_keys_out_the_first_pixels_colour() -> None:
    images = np.full((2, 8, 8, 3), 40, np.uint8)
    images[0, 4:, :] = 240
    images[1] = 200
    alpha = FakeModel().predict(images)
    assert (alpha.shape, alpha.dtype) == ((2, 8, 8), np.float32)
    assert (alpha[0, :4] == 0).all()
    assert (alpha[0, 4:] == 1).all()
    assert not alpha[1].any()


def test_the_fake_model_ignores_noise_and_has_soft_steps() -> None:
    ramp = np.zeros((1, 1, 256, 3), np.uint8)
    ramp[0, 0, :, 1] = np.arange(256)
    alpha = FakeModel().predict(ramp)[0, 0]
    assert not alpha[:24].any()
    assert (alpha[72:] == 1).all()
    assert (np.diff(alpha) >= 0).all()
    assert 0.4 < alpha[48] < 0.6


def test_cards_need_no_torch() -> None:
    """`/v1/models` and the compose pool read cards; torch is for the matting pool alone."""
    import subprocess
    import sys

    code = "import sys, mattehorn, mattehorn.models.registry; print('torch' in sys.modules, 'boto3' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
    assert registry.__doc__
    assert CARD.kind == "fake"
