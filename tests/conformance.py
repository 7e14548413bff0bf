"""Runs schemathesis, by its own command line, on a service's own OpenAPI document.

Whatever the document holds is asked; no path is listed here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import httpx

from tests.schemathesis_hooks import PHOTO

ROOT = Path(__file__).parent.parent
ENDED = ("succeeded", "failed", "cancelled")
JOB_ENDS_S = 60.0  # one made-up photo, on a busy machine
RUN_S = 300.0  # several times what a run takes

# Not among them: not_a_server_error, which lets no 503 pass; positive_data_acceptance, for options exclude each other
# in ways that a schema cannot say; negative_data_rejection, for forms take what a schema calls wrong (`yes` for true;
# unknown fields in the shims).
CHECKS = (
    "fails_only_without_a_bucket",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
    "names_its_request",
    "tells_when_to_come_back",
)
CONFIG = """
max-stream-events = 1  # a job that waits for a worker has no second one
hooks = "tests.schemathesis_hooks"
[dictionaries.known]
values = {known}
[dictionaries.doomed]
values = {doomed}
[parameters]
"path.result_id" = {{ dictionary = "known", probability = 0.5 }}
"path.job_id" = {{ dictionary = "known", probability = 0.5 }}
[[operations]]
include-method = "DELETE"
include-path = "/v1/results/{{result_id}}"
parameters = {{ "path.result_id" = {{ dictionary = "doomed", probability = 0.5 }} }}
"""
KEPT = dict.fromkeys(("store", "store_alpha", "store_source"), "true")


def known_ids(url: str) -> list[str]:
    """The ids of a stored result, with matte and source, and of a job that has ended."""
    stored = stored_id(url)
    with httpx.Client(base_url=url, timeout=60) as client:
        job = client.post("/v1/jobs", files={"files": ("a.png", PHOTO)}, data={"recipe": "transparent-web"})
        path = job.raise_for_status().headers["location"]
        client.post(f"{path}/cancel").raise_for_status()
        deadline = time.monotonic() + JOB_ENDS_S
        while client.get(path).json()["state"] not in ENDED:
            assert time.monotonic() < deadline, "a cancelled job did not end"
            time.sleep(0.1)
    return [stored, path.rpartition("/")[2]]


def stored_id(url: str) -> str:
    """The id of a result that is stored now, with matte and source."""
    asked = httpx.post(f"{url}/v1/mattes", files={"file": ("a.png", PHOTO)}, data=KEPT, timeout=60)
    return str(asked.raise_for_status().headers["x-mattehorn-result-id"])


def check(
    url: str, folder: Path, examples: int, phases: str = "examples,coverage,fuzzing", known: list[str] | None = None
) -> None:
    """Fails with schemathesis's own words when an answer of the service at `url` is not as its document says.

    `examples` made-up requests per operation are asked, the same in every run; among their ids are `known`, by default
    those of known_ids; of what is deleted another, so that the known one stays.
    """
    doomed = known or [stored_id(url)]
    config = folder / "schemathesis.toml"
    config.write_text(CONFIG.format(known=json.dumps(known or known_ids(url)), doomed=json.dumps(doomed)), "utf-8")
    command = [str(Path(sys.executable).parent / "schemathesis"), "--config-file", str(config), "--no-color", "run"]
    # one worker: with two, ast.parse now and then raised "AST constructor recursion depth mismatch" (Python 3.11.7)
    command += [f"{url}/openapi.json", "--checks", ",".join(CHECKS), "--phases", phases, "--workers", "1"]
    command += ["--max-examples", str(examples), "--generation-deterministic"]
    command += ["--seed", "1", "--no-shrink", "--request-timeout", "60", "--warnings", "off"]
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, timeout=RUN_S
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
