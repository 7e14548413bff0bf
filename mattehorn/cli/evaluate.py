"""`mattehorn evaluate` and `mattehorn compare`: arguments in, table or JSON on stdout, progress on stderr.

Added to the command line by main.py, which turns errors into exit codes. The work is in mattehorn/evaluation/.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from mattehorn.errors import OptionError
from mattehorn.models.zoo import DEFAULT, find_card

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from mattehorn.evaluation.evaluate import Entrant
    from mattehorn.evaluation.evaluation_set import EvaluationSet

_SET_HELP = "a folder with image/ and alpha/ or mask/, paired by stem"
_MODEL_HELP = "a card's name, or NAME=PATH: own weights under that card"


def add_commands(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    evaluate = commands.add_parser(
        "evaluate", help="score a model", description="Scores a model's mattes against a set's truth."
    )
    evaluate.add_argument("folder", metavar="SET_DIR", type=Path, help=_SET_HELP)
    evaluate.add_argument("--model", default=DEFAULT, metavar="NAME|NAME=PATH", help=_MODEL_HELP)
    evaluate.set_defaults(command=_evaluate)
    compare = commands.add_parser(
        "compare", help="two models side by side", description="Scores two models on the same photos, taking turns."
    )
    compare.add_argument("a", metavar="A", help=_MODEL_HELP)
    compare.add_argument("b", metavar="B", help=_MODEL_HELP)
    compare.add_argument("folder", metavar="SET_DIR", type=Path, help=_SET_HELP)
    compare.add_argument("--html", type=Path, metavar="FILE", help="also write a page with the most telling photos")
    compare.set_defaults(command=_compare)
    for command in (evaluate, compare):
        command.add_argument("--json", action="store_true", help="print one JSON object on stdout")
        command.add_argument("--limit", type=_positive, metavar="N", help="only the first N pairs by name")
        command.add_argument("--threads", type=_positive, default=1, metavar="N", help="CPU threads (default: 1)")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not 1 or more")
    return value


def _evaluate(parsed: argparse.Namespace) -> int:
    from mattehorn.evaluation.evaluate import document, evaluate
    from mattehorn.evaluation.tables import evaluation_table

    find_card(parsed.model)
    scored = _open(parsed)
    entrant = _entrant(parsed.model, parsed.threads)
    with tqdm(total=len(scored.pairs), unit="photo", file=sys.stderr) as bar:
        evaluation = evaluate(entrant, scored, parsed.threads, lambda _: bar.update())
    print(json.dumps(document(evaluation)) if parsed.json else evaluation_table(evaluation))
    return 0


def _compare(parsed: argparse.Namespace) -> int:
    from mattehorn.evaluation.compare import compare, comparison_document
    from mattehorn.evaluation.sheet import render_sheet
    from mattehorn.evaluation.tables import comparison_table

    find_card(parsed.a)
    find_card(parsed.b)
    if parsed.html is not None and (parsed.html.is_dir() or not parsed.html.parent.is_dir()):
        raise OptionError(f"--html is {parsed.html}; it must be a file in a folder that exists.", field="html")
    scored = _open(parsed)
    a, b = _entrant(parsed.a, parsed.threads), _entrant(parsed.b, parsed.threads)
    with tqdm(total=len(scored.pairs), unit="photo", file=sys.stderr) as bar:
        comparison = compare(a, b, scored, parsed.threads, lambda _: bar.update())
    print(json.dumps(comparison_document(comparison)) if parsed.json else comparison_table(comparison), flush=True)
    if parsed.html is not None:
        with tqdm(unit="photo", desc="sheet", leave=False, file=sys.stderr) as bar:
            page = render_sheet(comparison, bar.update)
        parsed.html.write_text(page, "utf-8")
        print(f"wrote {parsed.html}", file=sys.stderr)
    return 0


def _open(parsed: argparse.Namespace) -> EvaluationSet:
    from mattehorn.evaluation.evaluation_set import open_set

    with tqdm(unit="pair", desc="checking", leave=False, file=sys.stderr) as bar:
        return open_set(parsed.folder, parsed.limit, lambda _: bar.update())


def _entrant(name: str, threads: int) -> Entrant:
    from mattehorn.evaluation.evaluate import Entrant
    from mattehorn.models.registry import load_model

    model = load_model(name, threads=threads)
    _, _, path = name.partition("=")
    if not path:
        return Entrant(model.card.id, model, model.card.sha256)
    digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    print(f"weights of {model.card.name}: sha256 {digest}", file=sys.stderr)
    return Entrant(f"{model.card.id} ({Path(path).name})", model, digest)
