"""Reads a recipe (TOML) into frozen values; an unknown or missing key is refused by its full name."""

from __future__ import annotations

import dataclasses
import hashlib
import tomllib
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Kind = Literal["matte", "mask", "teacher"]
Role = Literal["matte", "real", "backdrop", "noise"]


@dataclass(frozen=True)
class Pack:
    """How photos are stored and split."""

    long_side: int
    validation_modulus: int
    hash_distance: int
    sharpen_teacher: bool


@dataclass(frozen=True)
class Gates:
    """When a photo or its label is dropped or put under review; see `training/gates.py`."""

    min_photos: int
    min_side: int
    clipped_max: float
    sharpness_min: float
    trust_floor: float
    drop_floor: float
    review_weight: float
    certain_floor: float
    cover_min: float
    cover_max: float


@dataclass(frozen=True)
class SetChoice:
    """One folder of the data directory: its kind of label, its class, how often that class draws it."""

    kind: Kind
    weight: float
    terms: str
    role: Literal["matte", "real"] = "real"
    balance: float = 1.0
    exclude: tuple[str, ...] = ()
    group_by_hash: bool = False


@dataclass(frozen=True)
class Augment:
    """Probabilities and strengths of what is done to a photo; see `training/augment.py`."""

    fit: float
    zoom_max: float
    aspect: float
    rotate: float
    rotate_max: float
    made_up: float
    photo_backdrop: float
    colour: float
    grey: float
    jpeg: float
    jpeg_min: int
    blur: float
    blur_max: float
    noise: float
    noise_max: float
    occlude: float


@dataclass(frozen=True)
class Noise:
    """AugMix and RealBlur of the fourth class; see `training/degrade.py`."""

    chains: int
    depth: int
    real_blur: float
    motion: float
    motion_min: float
    motion_max: float
    defocus_max: float
    label_sharp_to: float


@dataclass(frozen=True)
class Loss:
    """Weights of the losses and of doubtful pixels; see `training/losses.py`."""

    cross_entropy: float
    l1: float
    unknown: float
    overlap: float
    laplacian: float
    gradient: float
    trimap: float
    composition: float
    closure: float
    pair: float
    divergence: float
    mask_band: int
    teacher_doubt: float


@dataclass(frozen=True)
class Optimiser:
    """AdamW with linear warm-up and cosine decay over all stages, counted in samples."""

    rate: float
    weight_decay: float
    warmup: int
    floor: float
    clip: float
    ema: float


@dataclass(frozen=True)
class Run:
    """How often the run looks at itself, in samples, and how often its processes agree, in steps."""

    evaluate_every: int
    validation_photos: int
    checkpoint_every: int
    synchronise_every: int


@dataclass(frozen=True)
class Stage:
    """A stretch of training at one side; `fit` and `classes` replace the recipe's where given.

    `clear` draws only photos that the recipe's table of that name calls so. `restart` begins the cosine of the learning
    rate anew, at that share of it; the cosine before it then ends where this stage begins.
    """

    side: int
    batch: int
    samples: int
    fit: float | None = None
    classes: dict[Role, float] | None = None
    clear: bool = False
    restart: float | None = None


@dataclass(frozen=True)
class Card:
    """What the exported model is called and says of itself; `notes` go behind the licence note."""

    name: str
    version: str
    notes: str = ""


@dataclass(frozen=True)
class Clear:
    """Which photos a stage with `clear = true` draws: subjects well lit, sharp, neither tiny nor filling the photo."""

    luminance_min: float
    luminance_max: float
    sharpness_min: float
    area_min: float
    area_max: float


@dataclass(frozen=True)
class Encoder:
    """Published weights that the encoder starts from, and how much of it still learns; see `training/networks.py`."""

    package: str
    file: str
    sha256: str
    frozen_rows: int
    rate_share: float
    terms: str


@dataclass(frozen=True)
class Recipe:
    """Everything a run depends on besides the pictures."""

    name: str
    network: str
    seed: int
    input_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    pack: Pack
    card: Card
    gates: Gates
    classes: dict[Role, float]
    pairs: float
    clear: Clear
    sets: dict[str, SetChoice]
    augment: Augment
    noise: Noise
    loss: Loss
    optimiser: Optimiser
    run: Run
    stages: tuple[Stage, ...]
    encoder: Encoder | None = None

    @property
    def samples(self) -> int:
        """Samples of all stages together."""
        return sum(stage.samples for stage in self.stages)


class RecipeError(ValueError):
    """A recipe names a key that does not exist, lacks one, or gives the wrong kind of value."""


def load_recipe(path: Path) -> Recipe:
    """The recipe of a TOML file; raises RecipeError with the full name of the offending key."""
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    recipe: Recipe = _build(Recipe, document, "")
    return recipe


def recipe_sha256(path: Path) -> str:
    """sha256 of the recipe file's bytes, as the model card states it."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _build(kind: type[Any], table: Any, where: str) -> Any:
    if not isinstance(table, dict):
        raise RecipeError(f"{where or 'the recipe'} must be a table, not {type(table).__name__}")
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    unknown = sorted(set(table) - set(fields))
    if unknown:
        raise RecipeError(f"unknown key {where}{unknown[0]!r}; allowed here: {', '.join(fields)}")
    required = [name for name, field in fields.items() if field.default is dataclasses.MISSING]
    missing = [name for name in required if name not in table]
    if missing:
        raise RecipeError(f"missing key {where}{missing[0]!r}")
    return kind(**{name: _value(hints[name], value, f"{where}{name}") for name, value in table.items()})


def _value(hint: Any, value: Any, where: str) -> Any:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return _build(typing.cast(type[Any], hint), value, f"{where}.")
    if origin is dict:
        if not isinstance(value, dict):
            raise RecipeError(f"{where} must be a table, not {type(value).__name__}")
        return {
            _value(inner[0], key, f"a key of {where}"): _value(inner[1], item, f"{where}.{key}")
            for key, item in value.items()
        }
    if origin is tuple:
        return tuple(_value(inner[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is Literal and value not in inner:
        raise RecipeError(f"{where} is {value!r}; allowed: {', '.join(map(str, inner))}")
    if origin is types.UnionType:
        return _value(inner[0], value, where)
    if hint is float and type(value) is int:
        return float(value)
    if isinstance(hint, type) and type(value) is not hint:
        raise RecipeError(f"{where} must be {hint.__name__}, not {value!r}")
    return value
