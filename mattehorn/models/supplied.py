"""The cards without packaged weights: a user brings a file and types NAME=PATH, or puts it into `model_dir`.

Called by zoo.py. What is said of licences holds for the weights that the card is named after, not for every file.
"""

from __future__ import annotations

from mattehorn.models.base import ModelCard

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # RGB in 0..1

ATTN_UNET_R34 = ModelCard(
    name="attn-unet-r34",
    version="1",
    kind="torch",
    network="attn-unet-r34",
    input_size=512,
    fit="pad",
    mean=_IMAGENET_MEAN,
    std=_IMAGENET_STD,
    licence="as its trainer states",
    commercial_use="unclear",
    licence_note="No weights are packaged: train them with the recipe. Your photos' terms decide what they allow.",
    training_sets=(),
    weights_file="attn-unet-r34.safetensors",
)

# Processing and facts as in rembg (MIT), which made this network's ONNX file widely used
U2NETP = ModelCard(
    name="u2netp",
    version="1",
    kind="onnx",
    network="u2netp",
    input_size=320,
    fit="stretch",
    mean=_IMAGENET_MEAN,
    std=_IMAGENET_STD,
    licence="Apache-2.0",
    commercial_use="unclear",
    licence_note=(
        "The author puts the weights under Apache-2.0 (U-2-Net issue 208). They were trained on DUTS, whose terms he "
        "does not control."
    ),
    training_sets=("DUTS-TR: terms not stated by the weights' author",),
    weights_file="u2netp.onnx",
    scale="max",
    output="min_max",
    restore="lanczos",
)

CARDS = (ATTN_UNET_R34, U2NETP)
