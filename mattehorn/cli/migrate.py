"""`mattehorn migrate-check`: the same photos to two services, side by side on one page.

The work is in mattehorn/migration/.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from mattehorn.cli.batch import EXTENSIONS
from mattehorn.errors import OptionError

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from mattehorn.migration.compare import Pair

_KEY_HELP = "a file that holds its API key and nothing else: a key on the command line is seen by others"


def add_commands(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    check = commands.add_parser(
        "migrate-check",
        help="the same photos through two services",
        description="Sends each photo to two services, one request at a time, and shows both results on one page. "
        "Addresses are whole ones, such as https://api.remove.bg/v1.0/removebg or http://localhost:7000/api/remove.",
    )
    check.add_argument("photos", nargs="+", type=Path, metavar="PHOTO", help="photos, or folders of them")
    for name in ("ours", "theirs"):
        check.add_argument(f"--{name}", required=True, metavar="URL", help="an endpoint of remove.bg's or rembg's kind")
        check.add_argument(f"--{name}-key-file", type=Path, metavar="FILE", help=_KEY_HELP)
    check.add_argument(
        "--size", default="preview", help="remove.bg's size, which its price hangs on (default: preview)"
    )
    check.add_argument("--html", type=Path, default=Path("migrate-check.html"), metavar="FILE", help="the page")
    check.set_defaults(command=_check)


def _check(parsed: argparse.Namespace) -> int:
    from mattehorn.migration.ask import endpoint
    from mattehorn.migration.compare import compare
    from mattehorn.migration.sheet import render_sheet

    ours = endpoint(parsed.ours, _key(parsed.ours_key_file), parsed.size)
    theirs = endpoint(parsed.theirs, _key(parsed.theirs_key_file), parsed.size)
    photos = _photos(parsed.photos)
    pairs = list(tqdm(compare(photos, ours, theirs, _waiting), total=len(photos), unit="photo", disable=None))
    parsed.html.write_text(render_sheet(pairs, ours, theirs), "utf-8")
    for pair in pairs:
        print(_line(pair))
    print(f"The page: {parsed.html}")
    return int(any(pair.difference is None for pair in pairs))


def _waiting(seconds: float) -> None:
    tqdm.write(f"429: waiting {seconds:.0f} s, as the service asks", file=sys.stderr)


def _key(file: Path | None) -> str | None:
    return file.read_text("utf-8").strip() if file else None


def _photos(named: Iterable[Path]) -> list[Path]:
    """The files named, and of folders what looks like a photo, by name. Raises OptionError where there is none."""
    found: list[Path] = []
    for path in named:
        inside = sorted(path.iterdir()) if path.is_dir() else [path]
        found += [one for one in inside if one == path or one.suffix.lower().removeprefix(".") in EXTENSIONS]
    if not found:
        raise OptionError("There is no photo in what was named.")
    return found


def _line(pair: Pair) -> str:
    if pair.difference is None:
        told: dict[str, Any] = {"ours": pair.ours, "theirs": pair.theirs}
        return f"{pair.photo.name}: " + "; ".join(
            f"{name}: {text}" for name, text in told.items() if isinstance(text, str)
        )
    found = pair.difference
    dark = "".join(f", dark edge: {name}" for name in found.premultiplied)
    return f"{pair.photo.name}: alpha differs by {found.alpha_mean * 100:.2f} %, IoU {found.iou:.3f}{dark}"
