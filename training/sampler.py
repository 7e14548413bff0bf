"""Draws training samples by number: which class, which photo, which backdrop, and what happened to it on the way.

The four classes are those of the recipe: clean mattes, real photos, new backdrops, noise. Samples 2k and 2k + 1 are a
couple; a couple that is *paired* shows one subject twice, so that the losses can ask for one answer. All draws come
from generators seeded by (recipe seed, number): a resumed run sees the same samples. Called by `training/train.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from training.augment import Layers, composite, free_strip, made_up_backdrop, occlude, photometric, view
from training.dataset import Entry, PackedSet
from training.degrade import augmix, real_blur
from training.procedural import made_up_alpha
from training.recipe import Clear, Kind, Recipe, Role, Stage

Pixels = NDArray[np.uint8]
KINDS: tuple[Kind, ...] = ("matte", "mask", "teacher")
ALONE, TWO_BACKDROPS, TWO_VIEWS = 0, 1, 2  # what a sample's couple shares


@dataclass(frozen=True)
class Sample:
    """One training sample: image uint8 [S, S, 3], label uint8 [S, S, 2], kind index, what its couple shares.

    label[..., 0] is alpha * 255; label[..., 1] the mean contrast |F - B| of a composite (0 where F and B are unknown).
    """

    image: Pixels
    label: Pixels
    kind: int
    couple: int


class Sampler:
    """Sample number -> Sample, by the recipe's classes, sets and augmentation."""

    def __init__(self, sets: Sequence[PackedSet], recipe: Recipe) -> None:
        self.recipe = recipe
        self.sets = sets
        self.cumulative = {
            clear: [_cumulative(packed, recipe.clear, clear) for packed in sets] for clear in (False, True)
        }
        self.weights = {role: self._set_weights(role) for role in ("matte", "real")}

    def draw(self, number: int, stage: Stage) -> Sample:
        """The sample of that number under a stage's side, fit and classes."""
        couple = np.random.default_rng((self.recipe.seed, number // 2, 0))
        own = np.random.default_rng((self.recipe.seed, number, 1))
        role = choose(stage.classes or self.recipe.classes, couple)
        noisy = role == "noise"
        if noisy:
            role = choose({name: w for name, w in self.recipe.classes.items() if name != "noise"}, couple)
        shared = (noisy or role == "backdrop") and couple.random() < self.recipe.pairs
        shape = couple if shared else own
        fit = self.recipe.augment.fit if stage.fit is None else stage.fit
        layers, kind = self._subject(role, stage, fit, shape)
        if role == "backdrop" or layers.made_up:
            layers = composite(layers, self._backdrop(stage.side, shape if noisy else own), kind, shape)
        elif shape.random() < self.recipe.augment.occlude:
            layers = occlude(layers, shape)
        if noisy:
            layers = self._degrade(layers, shape, own)
        image = photometric(layers.image, self.recipe.augment, own)
        label = np.dstack((layers.alpha, layers.contrast))
        return Sample(image, label, KINDS.index(kind), shared * (TWO_VIEWS if noisy else TWO_BACKDROPS))

    def _subject(self, role: Role, stage: Stage, fit: float, rng: Generator) -> tuple[Layers, Kind]:
        """A photo's view and its label, or for some clean mattes a made-up one; a backdrop's subject is any of both."""
        augment, side = self.recipe.augment, stage.side
        if role == "backdrop":
            role = choose({name: self.recipe.classes[name] for name in ("matte", "real")}, rng)
        if role == "matte" and rng.random() < augment.made_up:
            alpha = (made_up_alpha(side, rng) * 255 + 0.5).astype(np.uint8)
            packed, place = self.pick("real", rng)
            texture = view(packed.rgba(packed.train[place]), side, 0.0, augment, rng)[..., :3]
            return Layers(texture, alpha, np.zeros_like(alpha), made_up=True), "matte"
        packed, place = self.pick(role, rng, stage.clear)
        entry = packed.train[place]
        sample = view(packed.rgba(entry), side, fit, augment, rng)
        alpha = np.ascontiguousarray(sample[..., 3])
        return Layers(sample[..., :3], alpha, np.zeros_like(alpha)), entry.kind

    def _degrade(self, layers: Layers, shape: Generator, own: Generator) -> Layers:
        """Class 4: a blur that both of a couple share, then each its own AugMix."""
        image, alpha, contrast = layers.image, layers.alpha, layers.contrast
        if shape.random() < self.recipe.noise.real_blur:
            image, alpha = real_blur(image, alpha, self.recipe.noise, shape)
            contrast = np.zeros_like(contrast)  # F and B are blurred unseen
        return Layers(augmix(image, self.recipe.noise, own), alpha, contrast)

    def pick(self, role: Role, rng: Generator, clear: bool = False) -> tuple[PackedSet, int]:
        """A set by its weight within the class, and the place of one of its photos."""
        index = int(rng.choice(len(self.sets), p=self.weights[role]))
        place = int(np.searchsorted(self.cumulative[clear][index], rng.random()))
        return self.sets[index], min(place, len(self.sets[index].train) - 1)

    def _backdrop(self, side: int, rng: Generator) -> Pixels:
        """A backdrop [S, S, 3]: mostly the part of another photo beside its subject, else made up."""
        if rng.random() < self.recipe.augment.photo_backdrop:
            packed, place = self.pick("real", rng)
            strip = free_strip(packed.rgba(packed.train[place]))
            if strip is not None:
                return view(strip, side, 0.0, self.recipe.augment, rng)[..., :3]
        return made_up_backdrop(side, rng)

    def _set_weights(self, role: str) -> NDArray[np.float64]:
        """Draw probability of each set within a role; a role without photos falls back to all sets."""
        choices = [self.recipe.sets[packed.name] for packed in self.sets]
        own = np.array([choice.weight * (choice.role == role) for choice in choices])
        own = own if own.sum() > 0 else np.array([choice.weight for choice in choices])
        return np.asarray(own / own.sum(), np.float64)


def choose(weights: Mapping[Role, float], rng: Generator) -> Role:
    """A class drawn by weight."""
    names = list(weights)
    values = np.array([weights[name] for name in names])
    return names[int(rng.choice(len(names), p=values / values.sum()))]


def _cumulative(packed: PackedSet, limits: Clear, clear: bool) -> NDArray[np.float64]:
    """Running sum of a set's draw probabilities, of its clear photos alone where asked and where it has any."""
    wanted = np.array([not clear or is_clear(entry, limits) for entry in packed.train])
    chosen = packed.probabilities * wanted
    chosen = chosen if chosen.sum() > 0 else packed.probabilities
    return np.asarray(np.cumsum(chosen / chosen.sum()), np.float64)


def is_clear(entry: Entry, limits: Clear) -> bool:
    """Whether a photo's subject is well lit, sharp, neither tiny nor filling the photo, as measured when packed."""
    return (
        limits.luminance_min <= entry.luminance <= limits.luminance_max
        and entry.sharpness >= limits.sharpness_min
        and limits.area_min <= entry.area <= limits.area_max
    )
