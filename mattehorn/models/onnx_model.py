"""Runs an ONNX network under its card with ONNX Runtime on the CPU. Needs the extra `onnx`.

Called by the registry. For networks that others publish in this form, with the processing that they were made for;
fitting photos to the network and bringing alpha back to full size happen outside, as the card says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mattehorn.errors import ModelError
from mattehorn.models.base import ModelCard

if TYPE_CHECKING:
    import onnxruntime

_NEAR_BLACK = 1e-6  # a picture without a bright pixel is divided by this, as rembg does; 0/0 would be NaN
_ERRORS_ONLY = 3  # ONNX Runtime's log level: its hints on a graph's form are not for those who run it


class OnnxModel:
    """One session on the CPU. Pictures of a batch run one after another: published files often fix a batch of one."""

    def __init__(self, card: ModelCard, weights: bytes, *, device: str, threads: int) -> None:
        self.card = card
        self.device = device
        self.dtype = "float32"
        if device != "cpu":
            raise ModelError(
                f"{device} was asked for and {card.id} runs in ONNX Runtime on the CPU; set num_gpus: 0 for the "
                "Matting deployment, or choose a torch model."
            )
        _require_runtime(card)
        side = card.input_size
        try:
            self._session = _open_session(weights, threads)
            self._input, self._output = _require_shapes(card, self._session)
            self.predict(np.zeros((1, side, side, 3), np.uint8))  # an answer of another shape is found now, at start
        except _runtime_errors() as error:
            raise ModelError(
                f"The file given for {card.id} is no ONNX model that this ONNX Runtime can run; give the published "
                f"{card.weights_file}."
            ) from error

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Alpha mattes float32 [N, H, W] in 0..1 from RGB uint8 [N, H, W, 3] of the card's size."""
        return np.stack([self._run(image) for image in images])

    def _run(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        (answer,) = self._session.run([self._output], {self._input: normalise(image, self.card)[None]})
        if answer.ndim != 4 or answer.shape[0] != 1 or answer.shape[2:] != image.shape[:2]:
            raise ModelError(
                f"{self.card.id} answered {answer.shape} to {image.shape[0]} x {image.shape[1]} pixels; its first "
                "output has to be [1, channels, height, width]."
            )
        first = np.asarray(answer[0, 0], np.float32)
        if not np.isfinite(first).all():
            raise ModelError(f"{self.card.id} answered values that are not finite; check the weights.")
        return stretch_to_full_range(first) if self.card.output == "min_max" else np.clip(first, 0, 1)


def normalise(image: NDArray[np.uint8], card: ModelCard) -> NDArray[np.float32]:
    """uint8 [H, W, 3] -> float32 [3, H, W]: over 255 or the picture's own maximum, minus the card's mean, over std."""
    largest = 255.0 if card.scale == "255" else max(float(image.max()), _NEAR_BLACK)
    values = (image / largest - np.asarray(card.mean)) / np.asarray(card.std)
    return np.ascontiguousarray(values.transpose(2, 0, 1), np.float32)


def stretch_to_full_range(answer: NDArray[np.float32]) -> NDArray[np.float32]:
    """The answer with its smallest value at 0, its largest at 1, cut down to the 256 levels that rembg keeps.

    An even answer shows no subject and becomes 0 everywhere.
    """
    lowest, highest = answer.min(), answer.max()
    if not highest > lowest:
        return np.zeros_like(answer)
    levels = ((answer - lowest) / (highest - lowest) * 255).astype(np.uint8)
    return np.asarray(levels * np.float32(1 / 255), np.float32)


def _require_runtime(card: ModelCard) -> None:
    try:
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise ModelError(f"{card.id} needs ONNX Runtime: pip install 'mattehorn[onnx]'.") from error


def _runtime_errors() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises for a file that it cannot read or run; the classes have no base of their own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return (
        state.Fail,
        state.InvalidArgument,
        state.InvalidGraph,
        state.InvalidProtobuf,
        state.NotImplemented,
        state.RuntimeException,
    )


def _open_session(weights: bytes, threads: int) -> onnxruntime.InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # a waiting thread leaves its core free
    options.log_severity_level = _ERRORS_ONLY
    return onnxruntime.InferenceSession(weights, options, providers=["CPUExecutionProvider"])


def _require_shapes(card: ModelCard, session: onnxruntime.InferenceSession) -> tuple[str, str]:
    """Names of the input and of the first output. Raises ModelError unless the one input is float32 [1, 3, side, side]
    (sizes may be left open) and the output holds floats."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    wanted = (1, 3, card.input_size, card.input_size)
    fits = len(inputs) == 1 and inputs[0].type == "tensor(float)" and _accepts(inputs[0].shape, wanted)
    if not fits or not outputs or not outputs[0].type.startswith("tensor(float"):
        found = "; ".join(f"{entry.name} {entry.type} {entry.shape}" for entry in [*inputs, *outputs[:1]])
        raise ModelError(
            f"{card.id} takes one input tensor(float) {list(wanted)} and answers floats; the file given has {found}."
        )
    return str(inputs[0].name), str(outputs[0].name)


def _accepts(shape: list[int | str | None], wanted: tuple[int, ...]) -> bool:
    if len(shape) != len(wanted):
        return False
    return all(not isinstance(size, int) or size == side for size, side in zip(shape, wanted, strict=True))
