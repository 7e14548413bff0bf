"""The load test's arithmetic and command line with known answers."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from loadtests import ledger, photos
from loadtests.__main__ import main, parse
from loadtests.outward import specked
from loadtests.report import (
    Answer,
    Costs,
    parse_answers,
    parse_server_timing,
    percentile,
    refusals,
    stages_table,
    steps_table,
    summarise,
    table,
)
from loadtests.service import ServiceError, batches, batches_after, wait_until_ready
from loadtests.stages import Stage, Timing, made_alpha
from loadtests.stages import stages_table as library_table
from loadtests.usage import Usage
from mattehorn.resize import fit

ROOT = Path(__file__).parent.parent


def good(began: float, ms: float, **stages: float) -> Answer:
    return Answer(began, ms, 200, image=True, stages_ms=stages)


def test_a_percentile_is_the_smallest_value_that_enough_values_do_not_exceed() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert [percentile(values, share) for share in (0.01, 0.5, 0.95, 0.99, 1.0)] == [1, 50, 95, 99, 100]
    assert percentile([7.0], 0.5) == percentile([7.0], 0.99) == 7.0
    assert percentile([1.0, 2.0], 0.5) == 1.0
    assert percentile([], 0.5) is None


def test_server_timing_is_read_as_milliseconds_by_stage() -> None:
    assert parse_server_timing("decode;dur=1.5, infer;desc=net;dur=40, cache") == {"decode": 1.5, "infer": 40.0}
    assert parse_server_timing("") == {}


def test_answers_are_read_from_the_lines_that_the_scenario_writes() -> None:
    line = {"began": 5.5, "ms": 20, "status": 200, "image": True, "retry_after": None, "server_timing": "total;dur=19"}
    refusal = {"began": 6, "ms": 3, "status": 429, "image": False, "retry_after": "2", "server_timing": ""}
    assert parse_answers([json.dumps(line), "\n", json.dumps(refusal)]) == [
        Answer(5.5, 20.0, 200, True, None, {"total": 19.0}),
        Answer(6.0, 3.0, 429, False, "2", {}),
    ]


def test_a_step_counts_pictures_from_the_first_post_to_the_last_answer() -> None:
    answers = [good(100.0, 1000), good(101.0, 500, infer=10), good(101.5, 2500, infer=30)]
    step = summarise(2, answers, Costs(mean_batch=1.5, cpu_s=0.6, peak_mb=900.4, replicas="1 Matting"))
    assert step.requests == 3
    assert step.images_s == pytest.approx(3 / 4)
    assert (step.p50_ms, step.p95_ms, step.p99_ms) == (1000, 2500, 2500)
    assert step.cpu_ms_per_image == pytest.approx(200)
    assert step.stages_ms == {"infer": 20}
    assert step.faults == []
    assert steps_table([step]).splitlines()[2] == (
        "| 2       |        3 |     0.75 |  1,000 |  2,500 |  2,500 |  3 x 200 |       1.50 |          200 |"
        "     900 | 1 Matting |"
    )


def test_refusals_are_counted_apart_from_the_answered() -> None:
    refused = [Answer(100.0, 4 + number, 429, retry_after="2") for number in range(10)]
    step = summarise(128, [good(100.0, 2000), *refused], Costs(cpu_s=1.0))
    assert step.statuses == {200: 1, 429: 10}
    assert (step.images_s, step.p99_ms, step.cpu_ms_per_image) == (0.5, 2000, 1000)
    assert step.faults == []
    assert refusals([step]) == ["128 clients: 10 refused with 429, half of them within 8 ms, 95 % within 13 ms."]


def test_every_other_answer_is_a_fault() -> None:
    answers = [Answer(1, 1, 500), Answer(1, 1, 0), Answer(1, 1, 0), Answer(1, 1, 200), Answer(1, 1, 429)]
    assert summarise(1, answers, Costs()).faults == [
        "2 x no answer",
        "1 x 500",
        "1 x 200 without a picture",
        "1 x 429 without Retry-After",
    ]
    assert summarise(1, [], Costs()).faults == ["no request was answered"]


def test_a_step_of_errors_has_a_row_without_times() -> None:
    row = steps_table([summarise(1, [Answer(1, 1, 503)], Costs())]).splitlines()[2]
    assert [cell.strip() for cell in row.strip("|").split("|")] == (
        ["1", "1", "0.00", "-", "-", "-", "1 x 503", "-", "-", "-", "-"]
    )


def test_stages_of_all_steps_share_one_table() -> None:
    steps = [
        summarise(1, [good(1, 1, decode=2.04)], Costs()),
        summarise(8, [good(1, 1, decode=3, queue=4)], Costs()),
    ]
    assert stages_table(steps).splitlines() == [
        "| clients | decode ms | queue ms |",
        "|:--------|----------:|---------:|",
        "| 1       |       2.0 |        - |",
        "| 8       |       3.0 |      4.0 |",
    ]


def test_a_table_without_rows_is_its_head() -> None:
    assert table(["a", "bc"], []).splitlines() == ["| a | bc |", "|:--|---:|"]


def test_the_command_line_has_defaults_and_adds_the_overload_step() -> None:
    plan = parse(["--overload", "--model", "fake", "--set", "max_batch=8"])
    assert plan.clients == (1, 8, 32, 128)
    assert plan.settings == ("model=fake", "max_batch=8")
    assert (plan.url, plan.seconds, plan.photos) == (None, 10.0, "small")
    assert parse(["--url", "http://127.0.0.1:8000/"]).url == "http://127.0.0.1:8000"
    assert parse(["--clients", "1,4"]).clients == (1, 4)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--clients", "1,x"], "numbers from 1 to 1000"),
        (["--clients", "0"], "numbers from 1 to 1000"),
        (["--seconds", "0"], "1 to 600"),
        (["--seconds", "nan"], "1 to 600"),
        (["--photos", "huge"], "small"),
        (["--url", "http://example.com"], "only a service on this machine"),
        (["--url", "http://127.0.0.1:1", "--model", "fake"], "runs already"),
    ],
)
def test_a_wrong_command_line_ends_with_what_is_allowed(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(arguments)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_without_locust_the_message_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main([]) == 2
    assert "make load" in capsys.readouterr().err


def test_photos_are_the_same_at_every_call_and_as_large_as_they_say() -> None:
    photo = photos.made("2 MP")
    assert photo == photos.made("2 MP")
    for one in (photo, *photos.small()):
        with Image.open(io.BytesIO(one.data)) as picture:
            assert (picture.format, picture.size) == ("JPEG", (one.width, one.height))
    assert len(photo.data) > 0.2 * photo.width * photo.height  # as heavy as a camera's


def test_the_made_matte_is_opaque_in_the_middle_soft_at_its_edge_and_empty_in_the_padding() -> None:
    alpha = made_alpha(fit(np.zeros((300, 400, 3), np.uint8), 512, "pad"))
    assert alpha.shape == (512, 512)
    assert alpha[192, 256] == 255
    assert alpha[0, 0] == alpha[383, 511] == 0
    assert not alpha[384:].any()
    assert 0.37 < (alpha[:384] >= 128).mean() < 0.385  # pi x 0.3 x 0.4 = 0.377
    assert 0.01 < ((alpha > 0) & (alpha < 255))[:384].mean() < 0.1


def test_specks_lie_all_over_the_matte_and_leave_the_subject_as_it_is() -> None:
    alpha = np.zeros((1200, 1600), np.uint8)
    alpha[300:900, 400:1200] = 255
    dotted = specked(alpha)
    assert np.array_equal(dotted, specked(alpha))
    assert (dotted[alpha > 0] == 255).all()
    for part in (dotted[:300, :400], dotted[900:, 1200:]):
        assert 0.05 < (part == 25).mean() < 0.5
        assert set(np.unique(part)) == {0, 25}


def test_the_library_table_shows_wall_and_cpu_time_of_each_photo() -> None:
    stages = (Stage("decode", 10.04, 9.0), Stage("encode png cutout", 1200.0, 30.5, 2_340_000))
    timing = Timing("2 MP", 1632, 1224, 700_000, 0.3, 0.1, 300.0, 400.0, stages)
    assert library_table([timing]).splitlines()[2:] == [
        "| decode            |         10.0 |         9.0 |             |",
        "| encode png cutout |      1,200.0 |        30.5 |        2.34 |",
    ]


def test_the_ledger_does_its_photos_both_ways(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ledger.main(["--photos", "3", "--folder", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" photos, ")[0] for line in lines] == ["messages: 3", "job: 3"]


def test_replicas_are_counted_by_their_process_titles() -> None:
    titles = ["ray::ServeReplica:mattehorn:Matting", "ray::ServeReplica:mattehorn:Compose.cut_out()"] * 2 + ["other"]
    children = [
        subprocess.Popen([sys.executable, "-c", "input()", title], stdin=subprocess.PIPE) for title in titles[1:]
    ]
    try:
        with Usage(os.getpid()) as usage:
            assert usage.replicas() == "2 Compose, 1 Matting"
        assert usage.peak_mb(0, 1) > 10  # this process with numpy alone is larger
    finally:
        for child in children:
            child.communicate()


class _Answers(BaseHTTPRequestHandler):
    """/metrics of two replicas, and never ready."""

    def do_GET(self) -> None:
        metrics = self.path == "/metrics"
        lines = [
            "# TYPE mattehorn_batch_size histogram",
            *(f'mattehorn_batch_size_bucket{{replica="{name}",le="+Inf"}} {count}' for name, count in REPLICAS),
            *(f'mattehorn_batch_size_sum{{replica="{name}"}} {2 * count}' for name, count in REPLICAS),
            *(f'mattehorn_batch_size_count{{replica="{name}"}} {count}' for name, count in REPLICAS),
        ]
        self.send_response(200 if metrics else 503)
        self.end_headers()
        self.wfile.write(("\n".join(lines) + "\n").encode() if metrics else b"the pool is loading")

    def log_message(self, format: str, *args: object) -> None:
        """Keeps the test's output clean."""


REPLICAS = (("a", 10), ("b", 5))


@pytest.fixture
def url() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_batches_are_summed_over_replicas(url: str) -> None:
    assert batches(url) == (30.0, 15.0)
    assert batches_after(url, 30.0) == (30.0, 15.0)


def test_a_service_that_is_not_ready_is_named_with_its_reason(url: str) -> None:
    with pytest.raises(ServiceError, match="503 the pool is loading"):
        wait_until_ready(url, within_s=0.1)
    with pytest.raises(ServiceError, match="it ended"):
        wait_until_ready(url, lambda: "it ended")
