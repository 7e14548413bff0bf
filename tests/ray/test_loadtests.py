"""One short run of the load test, from its command line to its figures."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ray.running import ROOT

pytestmark = [pytest.mark.ray, pytest.mark.slow]

WHOLE_RUN_S = 400  # the service may take 240 s to start on a busy machine


def test_a_short_run_prints_its_rows_and_leaves_no_service_behind(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    command = [sys.executable, "-m", "loadtests", "--model", "fake", "--set", "max_batch=8", "--clients", "1,4"]
    done = subprocess.run(
        [*command, "--seconds", "2", "--json", str(file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=WHOLE_RUN_S,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"^\| 1 .*x 200 \|", done.stdout, re.MULTILINE)
    assert re.search(r"^\| 4 .*x 200 \|", done.stdout, re.MULTILINE)
    steps = json.loads(file.read_text("utf-8"))
    assert [step["clients"] for step in steps] == [1, 4]
    for step in steps:
        assert set(step["statuses"]) == {"200"}
        assert step["mean_batch"] >= 1
        assert step["cpu_ms_per_image"] > 0
        assert step["stages_ms"]["infer"] > 0
    port = re.search(r"on port (\d+)", done.stderr)
    assert port
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(port[1]))) != 0
