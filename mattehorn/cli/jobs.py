"""`mattehorn submit` and `mattehorn jobs`: bulk jobs in a running service, or with --local in this process.

Added to the command line by main.py, which turns errors into exit codes: 0 done, 1 a photo or the job failed, 2 usage;
130 after Ctrl-C. Progress goes to stderr, the summary to stdout.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from mattehorn.errors import MattehornError, OptionError

if TYPE_CHECKING:
    from argparse import _SubParsersAction

    from mattehorn.settings import Settings

Document = Mapping[str, Any]

_SERVER = "http://127.0.0.1:8000"  # client.DEFAULT_SERVER; importing that would cost --help a tenth of a second
_FAILED_SHOWN = 20  # for people; --json has up to 1000, the manifest all
_LISTED = 20
INTERRUPTED = 128 + signal.SIGINT  # as a shell counts
_BAR = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}{postfix}]"


def add_commands(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    submit = commands.add_parser(
        "submit",
        help="a bulk job",
        description="Makes a job of every photo below a prefix, of a manifest or of a list, in a running service.",
    )
    submit.add_argument("prefix", nargs="?", metavar="s3://BUCKET/PREFIX", help="every object below is a photo")
    add_job_flags(submit)
    submit.add_argument("--webhook-url", metavar="URL", help="told when the job has ended")
    submit.add_argument("--wait", action="store_true", help="show progress until the job has ended")
    submit.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    submit.add_argument("--local", action="store_true", help="work in this process; the same call goes on later")
    add_local_flags(submit, "with --local: ")
    submit.set_defaults(command=_submit)
    jobs = commands.add_parser("jobs", help="bulk jobs of a service", description="Lists jobs, or shows one.")
    jobs.add_argument("id", nargs="?", metavar="ID", help="show this one")
    jobs.add_argument("--cancel", action="store_true", help="stop it; what is done stays")
    jobs.add_argument("--wait", action="store_true", help="show progress until it has ended")
    jobs.add_argument("--limit", type=positive, default=_LISTED, metavar="N", help=f"list N (default: {_LISTED})")
    jobs.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    jobs.set_defaults(command=_jobs)
    for command in (submit, jobs):
        command.add_argument("--key-file", type=Path, metavar="FILE", help="holds the API key, where one is needed")
        command.add_argument("--server", default=_SERVER, metavar="URL", help=f"the service (default: {_SERVER})")


def add_job_flags(parser: argparse.ArgumentParser) -> None:
    """What a job is, beside its prefix; read by job_body."""
    manifest = "instead of a prefix: a manifest in the store: CSV, JSON lines, S3's own"
    parser.add_argument("--manifest", metavar="URI", help=manifest)
    parser.add_argument("--keys-file", metavar="FILE", help="instead: a file with one photo's URI a line; - is stdin")
    add_recipe_flags(parser)
    parser.add_argument("--output", metavar="s3://BUCKET/PREFIX", help="default: the results store")


def add_recipe_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--recipe", required=True, metavar="NAME", help="NAME, NAME@VERSION or a FILE.json of your own")
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an option of /v1/mattes over the recipe's own; may be repeated",
    )


def add_local_flags(parser: argparse.ArgumentParser, when: str = "") -> None:
    """What work in this process needs of a service's settings."""
    pair = f"{when}a setting of serve_config.yaml, e.g. model=NAME; may be repeated"
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=pair)
    workers = f"{when}photos at once (default: one a core, up to 4)"
    parser.add_argument("--workers", type=positive, metavar="N", help=workers)


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is not a whole number of 1 or more")
    return int(text)


def recipe_value(text: str) -> str | dict[str, Any]:
    """A recipe's name as it is, or the document in a FILE.json. Raises OptionError, OSError."""
    if not text.endswith(".json"):
        return text
    try:
        document = json.loads(Path(text).read_bytes())
    except ValueError as error:
        raise OptionError(f"--recipe: {text} is no JSON ({error}).", field="recipe") from None
    if not isinstance(document, dict):
        raise OptionError(f"--recipe: {text} holds no object with name, version and options.", field="recipe")
    return document


def option_values(pairs: list[str]) -> dict[str, str]:
    """KEY=VALUE texts as a mapping. Raises OptionError."""
    options = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign or not key:
            raise OptionError(f"--option takes KEY=VALUE, for example format=png; got {pair[:100]!r}.", field="options")
        options[key.replace("-", "_")] = value
    return options


def local_settings(parsed: argparse.Namespace) -> Settings:
    """Settings from --set, the rest default. Raises OptionError."""
    from mattehorn.read_settings import read_settings
    from mattehorn.settings import apply_overrides

    try:
        return read_settings(apply_overrides({}, parsed.set))
    except ValueError as error:
        raise OptionError(str(error), field="set") from None


class ProgressBar:
    """A job on stderr: done of listed, the rest of the time as the service measures it."""

    def __init__(self) -> None:
        self._bar = tqdm(total=0, unit="photo", file=sys.stderr, bar_format=_BAR)

    def show(self, document: Document) -> None:
        self._bar.total = document["total"]
        self._bar.n = document["done"]
        failed = document["done"] - document["success"] - document["skipped"]
        left = document["eta_s"]
        said = [document["state"], *([f"{failed} failed"] if failed else [])]
        said += [f"{tqdm.format_interval(left)} left"] if left else []
        self._bar.set_postfix_str(", ".join(said))

    def waits(self, error: MattehornError) -> None:
        """Says that the service is away, and is waited for."""
        self._bar.write(f"mattehorn: {error.message} Waiting for it; Ctrl-C leaves the job running.", file=sys.stderr)

    def close(self) -> None:
        self._bar.close()


def summarise(document: Document, as_json: bool) -> int:
    """Prints how a job is, or ended; the exit code."""
    failed = document["done"] - document["success"] - document["skipped"]
    if as_json:
        print(json.dumps(document))
    else:
        took, left = document["seconds_per_image"], document["eta_s"]
        print(
            f"job {document['id']} {document['state']}: {document['total']} photos, {document['success']} done, "
            f"{document['skipped']} skipped, {failed} failed"
            + (f", {took:g} s each" if took is not None else "")
            + (f", about {tqdm.format_interval(left)} left." if left else ".")
        )
        if document["state"] == "succeeded" and not document["total"]:
            print("No photo was found. Is the prefix, or the manifest, the right one?", file=sys.stderr)
        for entry in document["failed"][:_FAILED_SHOWN]:
            print(f"  {_plain(entry['file'])}: {_plain(entry['error'])}")
        if failed > _FAILED_SHOWN:
            print(f"  .. and {failed - _FAILED_SHOWN} more; the job's manifest names all.")
    return 1 if failed or document["state"] in ("failed", "cancelled") else 0


def _plain(text: str) -> str:
    """A text of others, so that it cannot steer a terminal."""
    return text if text.isprintable() else json.dumps(text)


def _key(parsed: argparse.Namespace) -> str | None:
    """From a file: a command line is seen by everybody on the machine. Raises OSError, OptionError."""
    if parsed.key_file is None:
        return None
    key = parsed.key_file.read_text("utf-8").strip()
    if not key.isascii() or not key.isprintable() or not key:
        raise OptionError(f"{parsed.key_file.name} holds no API key; it is one line as `mattehorn keys add` prints it.")
    return str(key)


def _submit(parsed: argparse.Namespace) -> int:
    body = job_body(parsed)
    if parsed.local:
        return _local(parsed, body)
    if parsed.set or parsed.workers:
        raise OptionError("--set and --workers are about --local; a service has its own settings.", field="local")
    from mattehorn.client import Client

    with Client(parsed.server, key=_key(parsed)) as client:
        try:
            made = client.submit(body)
        except KeyboardInterrupt:
            print("\nNo answer yet: `mattehorn jobs` shows whether the job was made.", file=sys.stderr)
            return INTERRUPTED
        if not parsed.wait:
            print(json.dumps(made) if parsed.json else f"job {made['id']} {made['state']}")
            if not parsed.json:
                print(f"Follow it: {_command(parsed, made['id'])} --wait", file=sys.stderr)
            return 0
        return _follow(parsed, client, made["id"])


def job_body(parsed: argparse.Namespace) -> dict[str, Any]:
    """The JSON of `POST /v1/jobs`; `parsed` has prefix, manifest, keys_file, recipe, option, output and webhook_url.

    Raises OptionError, OSError.
    """
    given = [name for name in ("prefix", "manifest", "keys_file") if getattr(parsed, name)]
    if len(given) != 1:
        raise OptionError(
            "Name the photos once: s3://BUCKET/PREFIX, --manifest URI or --keys-file FILE.", field="input"
        )
    is_file = given == ["keys_file"]
    source = {"keys": _lines(parsed.keys_file)} if is_file else {given[0]: getattr(parsed, given[0])}
    body = {"input": source, "recipe": recipe_value(parsed.recipe), "options": option_values(parsed.option)}
    more = {"output": parsed.output, "webhook_url": parsed.webhook_url}
    return body | {name: value for name, value in more.items() if value}


def _lines(file: str) -> list[str]:
    """The lines of a file of URIs, empty ones left out. Raises OptionError, OSError."""
    data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    try:
        return [line.strip() for line in data.decode("utf-8-sig").split("\n") if line.strip()]
    except UnicodeDecodeError:
        raise OptionError(f"--keys-file: {file} is no UTF-8 text.", field="keys_file") from None


def _follow(parsed: argparse.Namespace, client: Any, job: str) -> int:
    """Shows a job until its end; Ctrl-C leaves it running."""
    bar = ProgressBar()
    document: Document = {}
    try:
        for document in client.follow(job, on_wait=bar.waits):
            bar.show(document)
    except KeyboardInterrupt:
        bar.close()
        print(
            f"\nThe job goes on in the service. Follow it: {_command(parsed, job)} --wait\n"
            f"Cancel it: {_command(parsed, job)} --cancel",
            file=sys.stderr,
        )
        return INTERRUPTED
    finally:
        bar.close()
    return summarise(document, parsed.json)


def _command(parsed: argparse.Namespace, job: str) -> str:
    return f"mattehorn jobs {job}" + (f" --server {parsed.server}" if parsed.server != _SERVER else "")


def _jobs(parsed: argparse.Namespace) -> int:
    from mattehorn.client import Client

    if parsed.id is None and (parsed.cancel or parsed.wait):
        raise OptionError("--cancel and --wait need a job's ID; `mattehorn jobs` lists them.", field="id")
    with Client(parsed.server, key=_key(parsed)) as client:
        if parsed.id is None:
            return _list(client.jobs(parsed.limit), parsed.json)
        if parsed.cancel:
            client.cancel(parsed.id)
        if parsed.wait:
            return _follow(parsed, client, parsed.id)
        document = client.job(parsed.id)
        code = summarise(document, parsed.json)
        return 0 if parsed.cancel else code


def _list(documents: list[dict[str, Any]], as_json: bool) -> int:
    if as_json:
        print(json.dumps({"jobs": documents}))
        return 0
    for document in documents:
        print(
            f"{document['id']}  {document['created_at'][:19]}Z  {document['state']:<9}  "
            f"{document['done']} of {document['total']}"
            + (f", about {tqdm.format_interval(document['eta_s'])} left" if document["eta_s"] else "")
        )
    print(f"{len(documents)} jobs.", file=sys.stderr)
    return 0


def _local(parsed: argparse.Namespace, body: dict[str, Any]) -> int:
    """The job in this process. Its state is in the results store: after Ctrl-C or a kill the same command goes on."""
    from mattehorn.bulk.embedded import LocalJob, own_queue, usual_workers
    from mattehorn.bulk.places import Places
    from mattehorn.bulk.reach import require_buckets

    if parsed.webhook_url or parsed.server != _SERVER:
        raise OptionError("--webhook-url and --server are a service's; leave them out with --local.", field="local")
    settings = local_settings(parsed)
    require_buckets(Places(settings.store), body)
    with own_queue() as queue:
        job = LocalJob(settings, body, queue, parsed.workers or usual_workers())
        print(f"job {job.spec.id} {'goes on' if job.resumed else 'begins'} in this process", file=sys.stderr)
        stopped, document = asyncio.run(_work(job))
    if document["state"] not in ("succeeded", "failed", "cancelled"):
        why = "Stopped" if stopped else "Not done, for the store or the photos failed again and again"
        print(f"{why}: {document['done']} of {document['total']}. The same command goes on.", file=sys.stderr)
        return INTERRUPTED if stopped else 1
    return summarise(document, parsed.json)


async def _work(job: Any) -> tuple[bool, Document]:
    """(whether a signal stopped it, the job's last body)."""
    bar = ProgressBar()
    stopped = False

    def stop() -> None:
        nonlocal stopped
        stopped = True
        print("\nending what is in work; a second Ctrl-C does not wait for it", file=sys.stderr)
        release_signals()
        job.stop()

    catch_signals(stop)
    try:
        progress = await job.run(lambda progress: bar.show(progress.document()))
        bar.show(progress.document())
        return stopped, progress.document()
    finally:
        bar.close()
        release_signals()


def catch_signals(stop: Any) -> None:
    """`stop()` on Ctrl-C or SIGTERM, on the running event loop."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)


def release_signals() -> None:
    """The next one ends the process at once: the state is such that a kill does no harm."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_DFL)
