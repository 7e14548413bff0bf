"""Runs a torch network under its card: channels_last, fused batch norm, and the faster of bf16 and fp32.

On the CPU bf16 is about twice as fast with avx512_bf16 or AMX and slower without, so a timing at start decides
(docs/performance.md has figures). Called by the registry; networks.py knows the networks.
"""

from __future__ import annotations

import io
import pickle
import time

import numpy as np
import safetensors
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from mattehorn.errors import ModelError
from mattehorn.models.base import ModelCard, Subject
from mattehorn.models.efficient_unet import EfficientUNet
from mattehorn.models.networks import Network, build_network, fuse
from mattehorn.models.subject import SubjectHead, pooled, read_head

_ZIP = b"PK\x03\x04"  # how a file of torch.save begins; safetensors begins with a length
# what the two readers and load_state_dict raise for bytes that are no weights of the network
_UNREADABLE = (
    safetensors.SafetensorError,
    pickle.UnpicklingError,
    RuntimeError,
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    EOFError,
)
_TIMED_RUNS = 2  # after one warm-up each; enough to tell a factor of two apart


class TorchModel:
    """One network on one device. Not thread-safe: the caller runs one batch at a time."""

    def __init__(
        self, card: ModelCard, weights: bytes, *, device: str, threads: int, subject_head: bytes | None = None
    ) -> None:
        """`subject_head`: the file that tells subjects from these very weights. Raises ModelError for unfit files."""
        self.card = card
        self.device = device
        self._device = _require_device(device)
        if self._device.type == "cpu":
            torch.set_num_threads(threads)
        network = _load_network(card, weights).to(self._device)
        self._network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._head = _load_head(card, network, subject_head)
        shape = (1, 3, 1, 1)
        self._mean = torch.tensor(card.mean, device=self._device).view(shape) * 255
        self._scale = 1 / (torch.tensor(card.std, device=self._device).view(shape) * 255)
        self.dtype = self._faster_dtype()

    @torch.inference_mode()
    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Alpha mattes float32 [N, H, W] in 0..1 from RGB uint8 [N, H, W, 3]."""
        return self._run(images, self.dtype)[0][:, 0].cpu().numpy()

    @torch.inference_mode()
    def predict_with_subjects(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], list[Subject | None]]:
        """The same alpha mattes, and each picture's subject; None without a subject head."""
        alpha, deepest = self._run(images, self.dtype)
        subjects: list[Subject | None] = [None] * len(images)
        if self._head is not None and deepest is not None:
            subjects[:] = self._head.tell(deepest, alpha)
        return alpha[:, 0].cpu().numpy(), subjects

    @torch.inference_mode()
    def subject_features(self, images: NDArray[np.uint8]) -> Tensor:
        """What a subject head reads, float32 [N, C] on the CPU. Raises ModelError for a network without it."""
        alpha, deepest = self._run(images, self.dtype)
        if deepest is None:
            raise ModelError(f"{self.card.network} has no features that tell a subject; take a model on lite2_unet.")
        return pooled(deepest, alpha).cpu()

    def _run(self, images: NDArray[np.uint8], dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        return self.forward(self.upload(images), dtype)

    def upload(self, images: NDArray[np.uint8]) -> Tensor:
        """RGB uint8 [N, H, W, 3] on the device, as uint8 [N, 3, H, W]; channels_last already, so no other copy."""
        return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).to(self._device)

    @torch.inference_mode()
    def forward(self, batch: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        """Of what `upload` gave: alpha float32 [N, 1, H, W] in 0..1, and the encoder's last map where the network
        gives it. Both are on the device, which may still be at work."""
        batch = (batch.float() - self._mean) * self._scale
        with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            alpha, deepest = _alpha_and_deepest(self._network, batch)
        return alpha.float().clamp_(0, 1), deepest

    @torch.inference_mode()
    def _faster_dtype(self) -> torch.dtype:
        side = self.card.input_size
        sample = np.zeros((1, side, side, 3), np.uint8)
        took = {}
        for dtype in (torch.float32, torch.bfloat16):
            self._run(sample, dtype)[0].cpu()  # a GPU is waited for
            started = time.perf_counter()
            for _ in range(_TIMED_RUNS):
                self._run(sample, dtype)[0].cpu()
            took[dtype] = time.perf_counter() - started
        return min(took, key=lambda dtype: took[dtype])


def _require_device(name: str) -> torch.device:
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError(
            f"{name} was asked for and this torch ({torch.__version__}) sees no CUDA device; "
            "install a CUDA build of torch and a driver, or set num_gpus: 0 for the Matting deployment."
        )
    return torch.device(name)


def _load_network(card: ModelCard, weights: bytes) -> Network:
    if card.scale != "255" or card.output != "alpha":
        raise ModelError(
            f"The card of {card.id} has scale {card.scale} and output {card.output}; a torch network takes scale 255 "
            "and output alpha. Correct the card."
        )
    network = build_network(card.network)
    try:
        network.load_state_dict({key: value.float() for key, value in _read_state(weights).items()})
    except _UNREADABLE as error:
        raise ModelError(
            f"The file given for {card.id} does not hold weights of {card.network}; "
            "give a safetensors file written by the training export, or a .pth file of a plain state dict."
        ) from error
    return fuse(network)


def _alpha_and_deepest(network: Network, batch: Tensor) -> tuple[Tensor, Tensor | None]:
    return network.alpha_and_deepest(batch) if isinstance(network, EfficientUNet) else (network.alpha(batch), None)


def _load_head(card: ModelCard, network: Network, data: bytes | None) -> SubjectHead | None:
    if data is None:
        return None
    if not isinstance(network, EfficientUNet):
        raise ModelError(
            f"The card of {card.id} names a subject head, and {card.network} has no features for one; take "
            "subject_sha256 off the card."
        )
    device = next(network.parameters()).device
    return read_head(data, network.encoder.channels[-1]).to(device)


def _read_state(weights: bytes) -> dict[str, Tensor]:
    """Tensors by name from the bytes of a safetensors file or of a `torch.save`, which may hold nothing but data.

    Raises one of `_UNREADABLE` for anything else.
    """
    if not weights.startswith(_ZIP):
        return dict(safetensors.torch.load(weights))
    state = torch.load(io.BytesIO(weights), map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise TypeError("a state dict holds tensors by name")
    return state
