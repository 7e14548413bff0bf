"""What a photo shows: told by the packaged model with its alpha, for each picture of a batch, in every answer."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import safetensors.torch
import torch
from numpy.typing import NDArray

from deployments.matting.batcher import DrainBatcher
from mattehorn.errors import ModelError
from mattehorn.models.base import SUBJECTS, Subject, predict_with_subjects
from mattehorn.models.fake import FakeModel
from mattehorn.models.registry import find_subject_head, find_weights, load_model
from mattehorn.models.subject import SubjectHead, pooled, read_head
from mattehorn.models.torch_model import TorchModel
from mattehorn.models.zoo import DEFAULT, find_card
from mattehorn.options import Options, parse_options
from mattehorn.pipeline import run
from mattehorn.resize import fit
from mattehorn.settings import Limits
from tests.api_client import JSON, Client, post
from tests.service import InProcessService
from training.sources import read_image
from training.subject import Sample, balanced, confusions, fit_head, report

PHOTOS = Path(__file__).parent / "photos"


@pytest.fixture(scope="module")
def base() -> TorchModel:
    model = load_model(DEFAULT)
    assert isinstance(model, TorchModel)
    return model


def fitted(*names: str) -> NDArray[np.uint8]:
    card = find_card(DEFAULT)
    return np.stack([fit(read_image(PHOTOS / name), card.input_size, card.fit, card.restore).pixels for name in names])


# the packaged head


@pytest.mark.parametrize(
    ("photo", "subject"), [("cat.jpg", "animal"), ("coffee.jpg", "product"), ("rocket.jpg", "other")]
)
def test_the_default_model_tells_what_a_photo_shows(base: TorchModel, photo: str, subject: str) -> None:
    result = run(base, (PHOTOS / photo).read_bytes(), parse_options({}, background_file=False), Limits())
    assert result.subject == subject


def test_a_zip_tells_what_its_photo_shows_and_says_null_where_the_model_does_not(base: TorchModel) -> None:
    for model, subject in ((base, "animal"), (FakeModel(), None)):
        made = run(model, (PHOTOS / "cat.jpg").read_bytes(), Options(output="zip"), Limits())
        with zipfile.ZipFile(io.BytesIO(made.data)) as archive:
            assert json.loads(archive.read("meta.json"))["subject"] == subject == made.subject


def test_each_picture_of_a_batch_has_its_own_subject(base: TorchModel) -> None:
    assert predict_with_subjects(base, fitted("coffee.jpg", "cat.jpg"))[1] == ["product", "animal"]
    assert predict_with_subjects(base, fitted("cat.jpg", "coffee.jpg"))[1] == ["animal", "product"]


def test_telling_subjects_leaves_alpha_as_it_was_to_the_bit(base: TorchModel) -> None:
    pixels = fitted("cat.jpg", "coffee.jpg")
    alone = base.predict(pixels)
    assert np.array_equal(predict_with_subjects(base, pixels)[0], alone)
    with torch.inference_mode():
        batch = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() - base._mean) * base._scale
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=base.dtype == torch.bfloat16):
            features = base._network.features(batch)
            alpha = torch.sigmoid(
                torch.nn.functional.interpolate(
                    base._network.alpha_head(features).float(), batch.shape[2:], mode="bilinear", align_corners=False
                )
            )
    assert np.array_equal(alone, alpha[:, 0].clamp(0, 1).numpy())


def test_models_without_a_head_tell_nothing(tmp_path: Path) -> None:
    pixels = fitted("cat.jpg")
    assert predict_with_subjects(FakeModel(), pixels)[1] == [None]
    assert predict_with_subjects(load_model("mattehorn-slim"), pixels)[1] == [None]


def test_weights_of_ones_own_under_a_packaged_card_get_no_head(tmp_path: Path) -> None:
    own = tmp_path / "own.safetensors"
    own.write_bytes(find_weights(find_card(DEFAULT)))
    assert predict_with_subjects(load_model(f"{DEFAULT}={own}"), fitted("cat.jpg"))[1] == [None]


def test_the_subjects_are_those_that_a_caller_may_name() -> None:
    allowed = get_args(Options.model_fields["subject"].annotation)
    assert set(SUBJECTS) == set(allowed) - {"auto"}


# the head's file


def test_a_head_that_is_another_is_refused_and_a_missing_one_of_a_users_card_is_none(tmp_path: Path) -> None:
    card = find_card(DEFAULT)
    data = find_subject_head(card)
    assert data is not None
    assert hashlib.sha256(data).hexdigest() == card.subject_sha256
    (tmp_path / f"{DEFAULT}.subject.safetensors").write_bytes(data[:-1] + b"x")
    with pytest.raises(ModelError, match="another"):
        find_subject_head(card, model_dir=str(tmp_path))
    assert find_subject_head(dataclasses.replace(card, packaged=False)) is None


@pytest.mark.parametrize("data", [b"", b"no safetensors", safetensors.torch.save({"weight": torch.zeros(6, 4)})])
def test_a_file_that_holds_no_head_is_refused(data: bytes) -> None:
    with pytest.raises(ModelError, match=r"training\.subject"):
        read_head(data, 4)


def test_a_network_without_such_features_takes_no_head() -> None:
    card = find_card("mattehorn-slim")
    with pytest.raises(ModelError, match="subject_sha256"):
        TorchModel(card, find_weights(card), device="cpu", threads=1, subject_head=b"")


# how it tells


def test_features_are_those_of_the_subject_not_of_what_lies_around() -> None:
    deepest, alpha = torch.zeros(1, 2, 2, 2), torch.zeros(1, 1, 8, 8)
    deepest[0, :, 0, 0] = torch.tensor([3.0, 5.0])
    deepest[0, :, 1, 1] = 100.0
    alpha[..., :4, :4] = 1.0
    assert torch.allclose(pooled(deepest, alpha), torch.tensor([[3.0, 5.0]]))
    assert torch.equal(pooled(deepest, alpha * 0), torch.zeros(1, 2))


def test_a_head_in_doubt_says_other() -> None:
    head = SubjectHead(torch.eye(6), torch.zeros(6), torch.tensor(0.5))
    sure, unsure = torch.zeros(6), torch.zeros(6)
    sure[SUBJECTS.index("car")] = 9.0
    unsure[SUBJECTS.index("car")] = 1.0
    assert head.named(torch.stack((sure, unsure))) == ["car", "other"]


# fitting


def test_a_head_learns_what_the_features_tell_apart() -> None:
    chosen, rows = [], []
    random = torch.Generator().manual_seed(1)
    for place, subject in enumerate(SUBJECTS):
        for number in range(20):
            chosen.append(Sample(Path(f"{number}.jpg"), "plain", subject, subject, f"{subject}/{number}"))
            rows.append(torch.randn(6, generator=random) * 0.1 + 3 + torch.eye(6)[place])
    features = torch.stack(rows)
    head = fit_head(features, chosen)
    table = confusions(head, features, chosen)
    assert np.array_equal(table, np.diag([20] * 6))
    assert report(table)["balanced"] == 1.0


def test_few_photos_of_a_subject_count_like_many_of_another() -> None:
    def many(count: int, subject: Subject) -> list[Sample]:
        return [Sample(Path("x.jpg"), "plain", subject, subject, "g") for _ in range(count)]

    shares = balanced(many(90, "animal") + many(10, "person") + many(5, "car"))
    sums = [float(part.sum()) for part in shares.split([90, 10, 5])]
    assert sums == pytest.approx([0.4, 0.4, 0.2])


# in the answers


class Telling(FakeModel):
    """Tells a car from each picture that has a red pixel, a graphic from others."""

    def predict_with_subjects(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], list[Subject | None]]:
        return self.predict(images), ["car" if image[..., 0].max() > 150 else "graphic" for image in images]


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with Client(InProcessService(tmp_path)) as client:
        yield client


def test_an_answer_tells_the_subject_whatever_the_caller_called_it(client: Client) -> None:
    client.service.matting.model = Telling()
    answer = post(client, subject="person", store="true")
    assert answer.headers["x-mattehorn-subject"] == "car"
    stored = client.get(f"/v1/results/{answer.headers['x-mattehorn-result-id']}").json()
    assert (stored["subject"], stored["options"]["subject"]) == ("car", "person")
    assert post(client, headers=JSON).json()["subject"] == "car"


def test_an_answer_of_a_model_that_does_not_tell_has_no_subject(client: Client) -> None:
    assert "x-mattehorn-subject" not in post(client).headers
    assert post(client, headers=JSON).json()["subject"] is None


def test_pictures_that_share_a_batch_keep_their_own_subjects() -> None:

    model = Telling()

    def batch(images: NDArray[np.uint8]) -> list[tuple[NDArray[np.float32], Subject | None]]:
        alphas, subjects = predict_with_subjects(model, images)
        return list(zip(alphas, subjects, strict=True))

    async def story() -> list[tuple[int, str | None]]:
        batcher = DrainBatcher(batch, ThreadPoolExecutor(1), 4)
        pictures = [np.full((2, 2, 3), value, np.uint8) for value in (200, 10, 220, 20)]
        done = await asyncio.gather(*(batcher.submit(picture) for picture in pictures))
        return [(one.batch_size, one.answer[1]) for one in done]

    assert asyncio.run(story()) == [(4, "car"), (4, "graphic"), (4, "car"), (4, "graphic")]
