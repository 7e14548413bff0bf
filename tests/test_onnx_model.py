"""ONNX networks: rembg's processing by known answers, and every file that is not the network asked for.

The networks here are made with the package `onnx`: one that gives back the first channel of its input.
"""

from __future__ import annotations

import dataclasses
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from PIL import Image

from mattehorn.errors import ModelError
from mattehorn.models.onnx_model import OnnxModel, normalise, stretch_to_full_range
from mattehorn.models.registry import load_model
from mattehorn.models.zoo import find_card
from mattehorn.options import Options
from mattehorn.pipeline import run
from mattehorn.settings import Limits

SIDE = 32
U2NETP = find_card("u2netp")
CARD = dataclasses.replace(U2NETP, input_size=SIDE)
SHARED = Path(__file__).parent.parent.parent / "shared"
SHARED_WEIGHTS = SHARED / "weights" / "u2netp-fp16.onnx"
needs_weights = pytest.mark.skipif(not SHARED_WEIGHTS.exists(), reason="u2netp-fp16.onnx is not at hand")

Shape = tuple[int | str, ...]


def network(
    shape: Shape = (1, 3, SIDE, SIDE),
    *,
    kind: int = TensorProto.FLOAT,
    rows: int = SIDE,
    times: float = 1.0,
    inputs: int = 1,
) -> bytes:
    """A file whose answer [1, 1, rows, SIDE] is the input's red channel times `times`."""
    names = [f"input.{number}" for number in range(inputs)]
    answer = TensorProto.FLOAT
    nodes = [
        helper.make_node("Cast", [names[0]], ["float"], to=answer),
        helper.make_node("Slice", ["float", "starts", "ends", "axes"], ["red"]),
        helper.make_node("Mul", ["red", "times"], ["output"]),
        helper.make_node("Identity", ["red"], ["side"]),
    ]
    constants = [
        helper.make_tensor("starts", TensorProto.INT64, [2], [0, 0]),
        helper.make_tensor("ends", TensorProto.INT64, [2], [1, rows]),
        helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2]),
        helper.make_tensor("times", answer, [], [times]),
    ]
    graph = helper.make_graph(
        nodes,
        "red",
        [helper.make_tensor_value_info(name, kind, list(shape)) for name in names],
        [helper.make_tensor_value_info(name, answer, ["n", "c", "h", "w"]) for name in ("output", "side")],
        constants,
    )
    # versions that every ONNX Runtime of these years reads
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def opened(data: bytes, *, threads: int = 1) -> OnnxModel:
    return OnnxModel(CARD, data, device="cpu", threads=threads)


def ramp() -> np.ndarray:
    """Red runs from 20 to 144 in steps of 4 from left to right, green and blue are 10: uint8 [SIDE, SIDE, 3]."""
    image = np.full((SIDE, SIDE, 3), 10, np.uint8)
    image[..., 0] = 20 + 4 * np.arange(SIDE, dtype=np.uint8)
    return image


# processing


def test_a_picture_is_divided_by_its_own_largest_value() -> None:
    image = np.array([[[0, 50, 100]]], np.uint8)
    values = normalise(image, CARD)[:, 0, 0]
    assert values.tolist() == pytest.approx([-0.485 / 0.229, (0.5 - 0.456) / 0.224, (1 - 0.406) / 0.225], abs=1e-6)


def test_a_card_with_scale_255_divides_by_255() -> None:
    card = dataclasses.replace(CARD, scale="255", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 0.5))
    assert normalise(np.array([[[0, 51, 102]]], np.uint8), card)[:, 0, 0].tolist() == pytest.approx([0, 0.2, 0.8])


def test_a_black_picture_is_finite() -> None:
    assert np.isfinite(normalise(np.zeros((4, 4, 3), np.uint8), CARD)).all()


def test_the_smallest_answer_becomes_0_the_largest_1_and_between_are_256_levels_cut_off() -> None:
    answer = np.array([[0.2, 0.32, 0.45, 0.7]], np.float32)
    assert stretch_to_full_range(answer).tolist() == [pytest.approx([0, 61 / 255, 127 / 255, 1])]  # 61.2, 127.5


def test_an_even_answer_has_no_subject() -> None:
    assert not stretch_to_full_range(np.full((3, 3), 0.7, np.float32)).any()


def test_alpha_is_the_first_output_stretched_over_its_range() -> None:
    alpha = opened(network(times=0.01)).predict(ramp()[None])
    assert (alpha.shape, alpha.dtype) == ((1, SIDE, SIDE), np.float32)
    wanted = np.arange(SIDE) / (SIDE - 1)
    assert np.abs(alpha[0] - wanted).max() < 1.01 / 255
    assert (alpha[0, :, 0] == 0).all()
    assert (alpha[0, :, -1] == 1).all()


def test_a_card_with_output_alpha_gets_the_answer_clipped() -> None:
    card = dataclasses.replace(CARD, output="alpha", scale="255", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    alpha = OnnxModel(card, network(times=2.0), device="cpu", threads=1).predict(ramp()[None])[0]
    assert alpha[5].tolist() == pytest.approx(np.minimum(1, 2 * (ramp()[5, :, 0] / 255)).tolist(), abs=1e-5)


def test_a_batch_gives_what_its_pictures_give_alone_whatever_batch_the_file_fixes() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)
    images[1] //= 2  # its largest value is its own
    for shape in ((1, 3, SIDE, SIDE), ("n", 3, "h", "w")):
        model = opened(network(shape))
        alone = np.concatenate([model.predict(image[None]) for image in images])
        assert np.array_equal(model.predict(images), alone)


# files and machines


def test_the_session_keeps_to_the_threads_it_was_given_and_does_not_spin() -> None:
    options = opened(network(), threads=2)._session.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 1)
    assert options.execution_mode == onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


@pytest.mark.parametrize("data", [b"", b"not onnx", b"PK\x03\x04" + bytes(64), b"\x08\x09"])
def test_a_file_that_is_no_onnx_model_is_a_model_error(data: bytes) -> None:
    with pytest.raises(ModelError, match=r"no ONNX model.*u2netp\.onnx"):
        opened(data)


def test_half_a_file_is_a_model_error() -> None:
    with pytest.raises(ModelError, match="no ONNX model"):
        opened(network()[:150])


@pytest.mark.parametrize(
    "form",
    [
        {"shape": (1, 3, 64, 64)},
        {"shape": (2, 3, SIDE, SIDE)},
        {"shape": (1, SIDE, SIDE, 3)},
        {"shape": (3, SIDE, SIDE)},
        {"kind": TensorProto.UINT8},
        {"inputs": 2},
    ],
    ids=["side", "batch", "channels last", "no batch", "uint8", "two inputs"],
)
def test_another_input_is_a_model_error_that_says_both(form: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match=r"\[1, 3, 32, 32\].*has input\.0 tensor"):
        opened(network(**form))


def test_an_answer_of_another_size_is_found_at_start() -> None:
    with pytest.raises(ModelError, match=r"answered \(1, 1, 16, 32\) to 32 x 32"):
        opened(network(rows=SIDE // 2))


def test_an_answer_that_is_not_finite_is_never_a_matte() -> None:
    with pytest.raises(ModelError, match="not finite"):
        opened(network(times=float("nan")))


def test_a_gpu_is_refused_rather_than_ignored() -> None:
    with pytest.raises(ModelError, match="cuda"):
        OnnxModel(CARD, network(), device="cuda", threads=1)


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModelError, match=r"pip install 'mattehorn\[onnx\]'"):
        opened(network())


def test_onnx_runtime_is_loaded_only_with_a_model() -> None:
    code = "import sys, mattehorn.models.onnx_model, mattehorn.models.registry; sys.exit('onnxruntime' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# by name


def test_u2netp_is_loaded_from_a_path_and_from_the_operators_folder(tmp_path: Path) -> None:
    (tmp_path / "u2netp.onnx").write_bytes(network((1, 3, 320, 320), rows=320))
    by_path = load_model(f"u2netp={tmp_path}/u2netp.onnx", threads=1)
    by_folder = load_model("u2netp", model_dir=str(tmp_path))
    assert isinstance(by_path, OnnxModel)
    image = np.random.default_rng(1).integers(0, 256, (1, 320, 320, 3), dtype=np.uint8)
    assert np.array_equal(by_path.predict(image), by_folder.predict(image))


@needs_weights
def test_u2netp_answers_as_rembgs_processing_does() -> None:
    """The whole way of a photo, against its few lines written out here."""
    session = onnxruntime.InferenceSession(str(SHARED_WEIGHTS), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(4)
    photo = np.asarray(Image.fromarray(rng.integers(0, 90, (12, 16, 3), dtype=np.uint8)).resize((240, 180)))
    photo = photo.copy()
    photo[50:140, 80:170] = (200, 60, 40)
    small = np.asarray(Image.fromarray(photo).resize((320, 320), Image.Resampling.LANCZOS)) / 1.0
    scaled = (small / small.max() - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    answer = session.run(None, {"input.1": scaled.transpose(2, 0, 1)[None].astype(np.float32)})[0][0, 0]
    answer = (answer - answer.min()) / (answer.max() - answer.min())
    mask = Image.fromarray((answer * 255).astype(np.uint8)).resize((240, 180), Image.Resampling.LANCZOS)
    model = load_model(f"u2netp={SHARED_WEIGHTS}")
    options = Options(output="alpha", alpha_threshold=0, erode_px=0, feather_px=0)
    file = io.BytesIO()
    Image.fromarray(photo).save(file, "PNG")
    found = np.asarray(Image.open(io.BytesIO(run(model, file.getvalue(), options, Limits()).data)))
    assert np.abs(found.astype(int) - np.asarray(mask)).max() <= 1
