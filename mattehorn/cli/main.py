"""`mattehorn cut | batch | models | recipes | evaluate | compare | serve`, and what its neighbours add.

All but serve and bulk run in this process and need no Ray. Every option of the API is an option here, made from
`Options`. Exit codes: 0 done, 1 a photo failed, 2 usage.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import cv2
from tqdm import tqdm

from mattehorn.cli import evaluate as cli_evaluate
from mattehorn.cli import jobs as cli_jobs
from mattehorn.cli import keys as cli_keys
from mattehorn.cli import migrate as cli_migrate
from mattehorn.cli import queue as cli_queue
from mattehorn.cli import recipes as cli_recipes
from mattehorn.cli import watch as cli_watch
from mattehorn.cli.batch import EXTENSIONS, Summary, find_photos, run_batch
from mattehorn.errors import MattehornError, ModelError, OptionError
from mattehorn.models.base import Model
from mattehorn.models.zoo import DEFAULT, cards, find_card
from mattehorn.options import Options, Output, parse_options
from mattehorn.quality import Quality
from mattehorn.recipe.gate import Wish
from mattehorn.recipe.result_keys import REVIEW
from mattehorn.routed import Models, run_routed
from mattehorn.settings import Limits

_HTTP_ONLY = frozenset(("store", "store_alpha", "store_source", "name", "sku", "include", "inline", "model", "output"))


def main(argv: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["serve"]:
        return _child("deployments", arguments[1:])
    if arguments[:1] == ["bulk"]:
        return _child("deployments.bulk.ray_data", arguments[1:])
    parsed = _parser().parse_args(arguments)
    cv2.setNumThreads(1)
    return exit_code("mattehorn", lambda: int(parsed.command(parsed)))


def exit_code(program: str, run: Callable[[], int]) -> int:
    """What `run` gives; a known fault is said on stderr: 2 for one of usage, 1 for another."""
    try:
        return run()
    except (OptionError, ModelError) as error:
        print(f"{program}: {error.message}", file=sys.stderr)
        return 2
    except MattehornError as error:
        print(f"{program}: {error.code}: {error.message}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{program}: {error.filename or ''}: {error.strerror}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mattehorn", description="Image matting: photos in, cutouts out.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    cut = commands.add_parser("cut", help="one photo", description="Cuts out one photo; - is stdin or stdout.")
    cut.add_argument("source", metavar="IN")
    cut.add_argument("target", metavar="OUT")
    cut.set_defaults(command=_cut)
    batch = commands.add_parser("batch", help="a folder of photos", description="Cuts out every photo of a folder.")
    batch.add_argument("source", metavar="IN_DIR", type=Path)
    batch.add_argument("target", metavar="OUT_DIR", type=Path)
    batch.add_argument("--json", action="store_true", help="print the summary as one JSON object on stdout")
    batch.set_defaults(command=_batch)
    for command in (cut, batch):
        _add_options(command)
    models = commands.add_parser("models", help="what can run", description="Lists the models and their licences.")
    models.add_argument("--json", action="store_true", help="as JSON")
    models.set_defaults(command=_models)
    cli_recipes.add_commands(commands)
    cli_evaluate.add_commands(commands)
    cli_migrate.add_commands(commands)
    cli_queue.add_commands(commands)
    cli_jobs.add_commands(commands)
    cli_watch.add_commands(commands)
    cli_keys.add_commands(commands)
    commands.add_parser("bulk", help="a giant job on a Ray cluster (see mattehorn bulk --help)")
    commands.add_parser("serve", help="the HTTP service and the page (see mattehorn serve --help)")
    return parser


def _add_options(parser: argparse.ArgumentParser) -> None:
    cli_recipes.add_flag(parser)
    own = "NAME=PATH: own weights under that card"
    parser.add_argument("--model", help=f"a card's name, or {own} (default: the recipe's, or {DEFAULT})")
    stronger = "another one, for --tier best and for photos whose quality score is low"
    parser.add_argument("--strong-model", metavar="MODEL", help=stronger)
    parser.add_argument("--output", choices=get_args(Output), help=Options.model_fields["output"].description)
    parser.add_argument("--background-file", type=Path, metavar="FILE", help="a background picture, for a composite")
    for name, info in Options.model_fields.items():
        if name not in _HTTP_ONLY:
            flag = f"--{name.replace('_', '-')}"
            text = str(info.description).replace("%", "%%")
            if info.annotation is bool:
                parser.add_argument(flag, action="store_true", default=None, help=text)
            else:
                parser.add_argument(flag, metavar="VALUE", help=f"{text} (default: {info.default})")


def _wish(parsed: argparse.Namespace, target: str = "") -> Wish:
    """What is asked for, options given over the recipe's; the target's suffix picks the format where none is given."""
    names = [name for name in Options.model_fields if name not in _HTTP_ONLY or name == "output"]
    fields = {name: value for name in names if (value := getattr(parsed, name)) not in (None, "")}
    has_file = parsed.background_file is not None
    recipe = cli_recipes.chosen(parsed.recipe, parsed.recipes_dir) if parsed.recipe else None
    output = fields.get("output") or (recipe.options.get("output") if recipe else None)
    suffix = Path(target).suffix.lower().removeprefix(".")
    if suffix == "zip":
        fields.setdefault("output", "zip")
    elif "format" not in fields and suffix in EXTENSIONS and output != "zip":
        fields["format"] = suffix  # one that cannot be written is refused there
    if recipe:
        return recipe.wish(fields, background_file=has_file)
    return Wish(parse_options(fields, background_file=has_file))


def _load(parsed: argparse.Namespace, options: Options) -> Models:
    """The model; the stronger one is loaded when a photo needs it. Raises UnknownModel, ModelError."""
    fast = _load_one(parsed.model or (DEFAULT if options.model == "auto" else options.model))
    strong = parsed.strong_model
    if strong is None:
        return Models(fast)
    return Models(fast, find_card(strong), functools.cache(lambda: _load_one(strong)))


def _load_one(name: str) -> Model:
    from mattehorn.models.registry import load_model

    model = load_model(name)
    if "=" in name:
        digest = hashlib.sha256(Path(name.partition("=")[2]).read_bytes()).hexdigest()
        print(f"weights of {model.card.name}: sha256 {digest}", file=sys.stderr)
    return model


def _background(parsed: argparse.Namespace) -> bytes | None:
    return parsed.background_file.read_bytes() if parsed.background_file else None


def _cut(parsed: argparse.Namespace) -> int:
    wish = _wish(parsed, parsed.target)
    data = sys.stdin.buffer.read() if parsed.source == "-" else Path(parsed.source).read_bytes()
    result = run_routed(_load(parsed, wish.options), data, wish, Limits(), _background(parsed))
    if parsed.target == "-":
        sys.stdout.buffer.write(result.data)
    else:
        result.save(parsed.target)
    for warning in result.warnings:
        print(f"mattehorn: warning: {warning}", file=sys.stderr)
    if result.route == "review":
        print(f"mattehorn: to be reviewed: {_judged(result.quality)}", file=sys.stderr)
    return 0


def _judged(quality: Quality) -> str:
    return f"score {quality.score:.3f}" + (f" ({', '.join(quality.reasons)})" if quality.reasons else "")


def _batch(parsed: argparse.Namespace) -> int:
    if not parsed.source.is_dir():
        print(f"mattehorn: {parsed.source} is not a folder.", file=sys.stderr)
        return 2
    if parsed.source.resolve() == parsed.target.resolve():
        print("mattehorn: OUT_DIR is IN_DIR; results would replace photos. Name another folder.", file=sys.stderr)
        return 2
    wish = _wish(parsed)
    options = wish.options
    if options.kind != "zip" and options.format is None:
        options = options.model_copy(update={"format": "png"})  # names come before results; png holds every kind
    extension = options.format or "zip"
    photos, ignored = find_photos(parsed.source, parsed.target, extension)
    models, wish = _load(parsed, options), replace(wish, options=options)
    summary = Summary(ignored=ignored)
    with tqdm(total=len(photos), unit="photo", file=sys.stderr) as bar:
        run_batch(models, photos, wish, Limits(), summary, _background(parsed), lambda _: bar.update())
    document = summary.document()
    if parsed.json:
        print(json.dumps(document))
    else:
        print(f"{summary.success} of {summary.total} photos done, {len(summary.failed)} failed, {ignored} ignored.")
        if summary.review:
            print(f"{summary.review} of them are to be reviewed; they lie in {parsed.target / REVIEW}.")
        for file, error in summary.failed:
            print(f"  {file}: {error}")
    return 1 if summary.failed else 0


def _models(parsed: argparse.Namespace) -> int:
    rows = [
        {
            "name": card.name,
            "version": card.version,
            "default": card.name == DEFAULT,
            "packaged": card.packaged,
            "input_size": card.input_size,
            "licence": card.licence,
            "commercial_use": card.commercial_use,
            "sha256": card.sha256,
            "training_sets": list(card.training_sets),
        }
        for card in cards().values()
    ]
    if parsed.json:
        print(json.dumps({"models": rows}, indent=1))
        return 0
    for row in rows:
        mark = " (default)" if row["default"] else ""
        print(
            f"{row['name']}@{row['version']}{mark}: {row['input_size']} px, {row['licence']}, "
            f"commercial use {row['commercial_use']}"
            + ("" if row["packaged"] or row["name"] == "fake" else f"; bring weights: {row['name']}=PATH")
        )
    return 0


def _child(module: str, arguments: list[str]) -> int:
    """Runs `python -m MODULE` in the foreground and hands it our signals: the library itself imports no Ray."""
    child = subprocess.Popen([sys.executable, "-m", module, *arguments])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to the child as well
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    return child.wait()
