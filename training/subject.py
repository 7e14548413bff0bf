"""Fits the head that tells what a photo shows to a packaged model's features, and writes it beside the weights.

`python -m training.subject --data-dir DATA --work-dir WORK` runs the model once over some 4,000 photos (WORK keeps
their features; run it again to finish a run cut short), fits a multinomial logistic regression (L-BFGS), prints
the confusions on the validation split, and writes NAME.subject.safetensors and its worth into the card NAME.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from mattehorn.models.base import SUBJECTS, Subject
from mattehorn.models.registry import load_model
from mattehorn.models.subject import SubjectHead
from mattehorn.models.torch_model import TorchModel
from mattehorn.resize import fit
from training.sources import Pixels, image_folder, read_image
from training.split import difference_hash, group_name, is_validation, merge_alike

View = Literal["plain", "grey", "mirrored"]

# photos taken of a set; the largest would only say the same again
SETS: dict[str, tuple[Subject, int]] = {
    "ccp_people": ("person", 350),
    "ccp_people_unlabelled": ("person", 100),
    "p3m_demo": ("person", 12),
    "feral_cat": ("animal", 200),
    "butterfly": ("animal", 80),
    "am2k_demo": ("animal", 13),
}
CALTECH, CALTECH_MOST = "caltech101_unlabelled", 45  # photos a class; car_side, the only cars, all of them
# Left out: photos mixed with drawings (both dinosaurs), and what is two of the six at once (dollar_bill)
CALTECH_CLASSES: dict[Subject, str] = {
    "person": "Faces Faces_easy",
    "animal": (
        "ant bass beaver butterfly cougar_body cougar_face crab crayfish crocodile crocodile_head dalmatian dolphin "
        "dragonfly elephant emu flamingo flamingo_head gerenuk hawksbill hedgehog ibis kangaroo llama lobster mayfly "
        "nautilus octopus okapi panda pigeon platypus rhino rooster scorpion sea_horse starfish tick wild_cat"
    ),
    "product": (
        "accordion barrel binocular camera ceiling_fan cellphone chair chandelier cup electric_guitar euphonium ewer "
        "gramophone grand_piano headphone inline_skate lamp laptop mandolin menorah metronome revolver saxophone "
        "scissors soccer_ball stapler umbrella watch wheelchair windsor_chair wrench"
    ),
    "car": "car_side",
    "graphic": "garfield snoopy yin_yang",
    "other": (
        "airplanes anchor bonsai brain buddha cannon ferry helicopter joshua_tree ketch lotus minaret Motorbikes "
        "pagoda pizza pyramid schooner stop_sign strawberry sunflower trilobite water_lilly"
    ),
}
GREY_SHARE = 3  # one photo in three is also shown grey: all cars are, and grey must not come to mean car
SHARES = {"car": 0.5, "graphic": 0.5}  # of the loss, 1 for the others: 79 and 64 photos must not outvote thousands
DECAY = 0.01  # on squared weights of standardised features: best of 3e-4 to 1e-2 on classes that were held out whole
LEAST = 0.5  # below half, the head itself expects something else
MODULUS, HASH_DISTANCE = 20, 5  # the split of the matting recipes
SAVE_EVERY = 100  # photos: what a run cut short loses


@dataclass(frozen=True)
class Sample:
    """One view of a photo, its subject, and `kind`, the set or class that it stands for."""

    path: Path
    view: View
    subject: Subject
    kind: str
    group: str

    @property
    def key(self) -> str:
        return f"{self.group}|{self.path.name}|{self.view}"


def samples(data: Path) -> list[Sample]:
    """What the head is fitted to and checked on, the same for every run."""
    found: list[Sample] = []
    for name, (subject, most) in SETS.items():
        paths = _draw(list(image_folder(data / name).iterdir()), most)
        groups = [group_name(name, path.stem) for path in paths]
        if name == "feral_cat":  # series of one camera recur under several names
            groups = merge_alike(groups, [difference_hash(read_image(path)) for path in paths], HASH_DISTANCE)
        for path, group in zip(paths, groups, strict=True):
            found += _views(path, subject, name, group)
    for subject, names in CALTECH_CLASSES.items():
        for kind in names.split():
            most = CALTECH_MOST if subject != "car" else 10**6
            for path in _draw(list(image_folder(data / CALTECH).glob(f"{kind}__*")), most):
                found += _views(path, subject, kind, group_name(CALTECH, path.stem))
    return found


def _draw(paths: list[Path], most: int) -> list[Path]:
    """`most` photos, drawn by the sum of their names."""
    return sorted(paths, key=lambda path: _number(path.name))[:most]


def _number(text: str) -> int:
    return int(hashlib.sha1(text.encode()).hexdigest()[:8], 16)


def _views(path: Path, subject: Subject, kind: str, group: str) -> Iterator[Sample]:
    yield Sample(path, "plain", subject, kind, group)
    if subject == "car":  # too few; all face one way
        yield Sample(path, "mirrored", subject, kind, group)
    elif _number(f"grey {path.name}") % GREY_SHARE == 0:
        yield Sample(path, "grey", subject, kind, group)


def seen(sample: Sample) -> Pixels:
    image = read_image(sample.path)
    if sample.view == "mirrored":
        return np.ascontiguousarray(image[:, ::-1])
    if sample.view == "grey":
        return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB).astype(np.uint8)
    return image


def features(model: TorchModel, chosen: list[Sample], cache: Path) -> Tensor:
    """The features of each sample, [N, C] float32; those in `cache`, a file of `torch.save`, are not made again."""
    known: dict[str, Tensor] = torch.load(cache, weights_only=True) if cache.exists() else {}
    for sample in tqdm([sample for sample in chosen if sample.key not in known], unit="photo"):
        fitted = fit(seen(sample), model.card.input_size, model.card.fit, model.card.restore)
        known[sample.key] = model.subject_features(fitted.pixels[None])[0]
        if len(known) % SAVE_EVERY == 0:
            _save(known, cache)
    _save(known, cache)
    return torch.stack([known[sample.key] for sample in chosen])


def _save(known: dict[str, Tensor], cache: Path) -> None:
    part = cache.with_suffix(".part")
    torch.save(known, part)
    part.rename(cache)


def balanced(chosen: list[Sample]) -> Tensor:
    """Each sample's share of the loss: subjects as SHARES says, and within one, kinds by the root of their size."""
    sizes = Counter(sample.kind for sample in chosen)
    weights = [sizes[sample.kind] ** -0.5 for sample in chosen]
    sums: Counter[str] = Counter()
    for sample, weight in zip(chosen, weights, strict=True):
        sums[sample.subject] += weight
    shares = [
        weight / sums[sample.subject] * SHARES.get(sample.subject, 1.0)
        for sample, weight in zip(chosen, weights, strict=True)
    ]
    return torch.tensor(shares) / sum(shares)


def fit_head(found: Tensor, chosen: list[Sample]) -> SubjectHead:
    """Multinomial logistic regression on standardised features; the standardisation is folded into the weights."""
    mean, spread = found.mean(dim=0), found.std(dim=0) + 1e-4  # a feature that never fires is left alone
    standard = (found - mean) / spread
    answers = torch.tensor([SUBJECTS.index(sample.subject) for sample in chosen])
    shares = balanced(chosen)
    weight = torch.zeros(len(SUBJECTS), found.shape[1], requires_grad=True)
    bias = torch.zeros(len(SUBJECTS), requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        each = F.cross_entropy(F.linear(standard, weight, bias), answers, reduction="none")
        total = (each * shares).sum() + DECAY * weight.square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimiser.step(loss)
    own = weight.detach() / spread
    return SubjectHead(own, bias.detach() - own @ mean, torch.tensor(LEAST))


def confusions(head: SubjectHead, found: Tensor, chosen: list[Sample]) -> NDArray[np.int64]:
    """Photos by true subject (rows) and told subject (columns)."""
    table = np.zeros((len(SUBJECTS), len(SUBJECTS)), np.int64)
    for sample, told in zip(chosen, head.named(found), strict=True):
        table[SUBJECTS.index(sample.subject), SUBJECTS.index(told)] += 1
    return table


def report(table: NDArray[np.int64]) -> dict[str, Any]:
    """What the card says: photos and the share told right, by subject, and the mean of those shares."""
    right = {name: round(float(table[i, i] / table[i].sum()), 3) for i, name in enumerate(SUBJECTS) if table[i].any()}
    photos = {name: int(table[i].sum()) for i, name in enumerate(SUBJECTS)}
    return {"photos": photos, "right": right, "balanced": round(sum(right.values()) / len(right), 3)}


def write(head: SubjectHead, folder: Path, name: str, scores: dict[str, Any]) -> None:
    """NAME.subject.safetensors, and its sum, its sets and its scores in the card NAME.json."""
    path = folder / f"{name}.subject.safetensors"
    save_file({key: value.contiguous() for key, value in head.state_dict().items()}, path)
    path.chmod(0o644)  # save_file keeps it to its owner, who is not who serves it
    place = folder / f"{name}.json"
    card = json.loads(place.read_text(encoding="utf-8"))
    card["subject_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    card["subject"] = {"training_sets": [*SETS, CALTECH], "validation": scores}
    place.write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mattehorn-base", help="a packaged model with an EfficientNet encoder")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--work-dir", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("mattehorn/models/weights"))
    arguments = parser.parse_args()
    arguments.work_dir.mkdir(parents=True, exist_ok=True)
    model = load_model(arguments.model)
    chosen = samples(arguments.data_dir)
    found = features(model, chosen, arguments.work_dir / f"{arguments.model}.features.pt")
    held = torch.tensor([is_validation(sample.group, MODULUS) for sample in chosen])
    head = fit_head(found[~held], [sample for sample, out in zip(chosen, held, strict=True) if not out])
    plain = torch.tensor([sample.view == "plain" for sample in chosen]) & held
    table = confusions(head, found[plain], [sample for sample, kept in zip(chosen, plain, strict=True) if kept])
    scores = report(table)
    print("true \\ told ", *(f"{name:>8}" for name in SUBJECTS))
    for name, row in zip(SUBJECTS, table, strict=True):
        print(f"{name:12}", *(f"{count:8}" for count in row))
    print(json.dumps(scores))
    write(head, arguments.out, arguments.model, scores)


if __name__ == "__main__":
    main()
