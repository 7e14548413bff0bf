"""The soak's arithmetic with known answers, and one short run of the whole of it in this machine's own processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from loadtests.processes import Life, Lives, role_of
from loadtests.soak import SIZE, make_photos

ROOT = Path(__file__).parent.parent
WITHIN_S = 300


def life(rss_mb: list[float], done: list[int] | None = None) -> Life:
    return Life("x", done or [100 * look for look in range(len(rss_mb))], rss_mb, [mb / 2 for mb in rss_mb])


def test_the_slope_is_what_a_thousand_photos_add() -> None:
    grows = life([200 + 0.5 * look for look in range(11)])  # 0.5 MB for 100 photos
    assert grows.slope(1000, 11) == pytest.approx(5.0)
    assert grows.slope(1000, 11, private=True) == pytest.approx(2.5)
    assert life([200.0] * 11).slope(1000, 11) == pytest.approx(0)


def test_what_fills_during_the_warm_up_is_no_slope() -> None:
    assert life([100, 400] + [500.0] * 9).slope(1000, 11) == pytest.approx(0)


def test_too_little_to_draw_a_line_through_is_none() -> None:
    assert life([1, 2, 3, 4]).slope(300, 4) is None  # four looks
    assert life([1.0] * 11).slope(1000, 20) is None  # it lived half of the time
    assert life([1.0] * 11, [1000] * 11).slope(1000, 11) is None  # no photo went by


def test_processes_are_called_by_what_they_do() -> None:
    assert role_of(["ray::ServeReplica:mattehorn:Compose.cut_out"]) == "Compose"
    assert role_of(["ray::ServeController.listen_for_change"]) == "ServeController"
    assert role_of(["/usr/bin/haproxy", "-f", "x"]) == "haproxy"
    assert role_of(["/usr/bin/python", "-m", "deployments", "--port", "1"]) == "deployments"
    assert role_of(["/usr/bin/python", "-u", "/x/ray/dashboard/agent.py"]) == "agent.py"
    assert role_of([]) == "?"


def test_a_look_sees_this_process_and_its_children() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        lives = Lives(os.getpid())
        lives.look(0)
        lives.look(7)
        child.communicate(b"\n")
    assert {tuple(entry.done) for entry in lives.lives()} == {(0, 7)}
    assert len(lives.lives()) >= 2
    assert all(entry.private_mb[0] <= entry.rss_mb[0] for entry in lives.lives())


def test_photos_are_small_all_different_and_the_same_at_every_call(tmp_path: Path) -> None:
    for name in ("a", "b"):
        make_photos(tmp_path / name, 12)
    first, again = ([path.read_bytes() for path in sorted((tmp_path / name).rglob("*.jpg"))] for name in "ab")
    assert first == again
    assert len(set(first)) == 12
    with Image.open(tmp_path / "a" / "000" / "000000.jpg") as image:
        assert image.size == SIZE


@pytest.mark.slow
def test_a_short_soak_counts_every_photo_once_and_prints_its_figures() -> None:
    command = [sys.executable, "-m", "loadtests.soak", "--photos", "8", "--in-process", "--set", "model=fake"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=WITHIN_S)
    assert done.returncode == 0, done.stderr
    assert "share of batch's throughput: " in done.stdout
    assert "FAULT" not in done.stdout
