"""Where a run says it stands, its log of a line an evaluation, and the picture of one or several logs."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from training import curves
from training.curves import curves_of, draw, loss_parts, names_of, stage_spans
from training.progress import (
    LINE_EVERY,
    WINDOW,
    Progress,
    append_row,
    evaluation_row,
    pixels,
    read_log,
    rewind_log,
    stage_number,
)
from training.recipe import Stage

STAGES = (Stage(side=10, batch=4, samples=1000), Stage(side=20, batch=4, samples=250))  # 100,000 pixels each


class Clock:
    """Seconds that pass when told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_runs_share_is_counted_in_pixels() -> None:
    assert pixels(1250, STAGES) == 200_000
    assert pixels(1000, STAGES) == 100_000
    assert pixels(1125, STAGES) == 150_000
    assert pixels(0, STAGES) == 0
    assert pixels(9999, STAGES) == 200_000


def test_a_sample_belongs_to_the_stage_that_draws_it_next() -> None:
    assert [stage_number(samples, STAGES) for samples in (0, 999, 1000, 1249, 1250)] == [0, 0, 1, 1, 1]


def test_speed_and_time_left_are_of_the_last_minutes_and_later_samples_cost_more() -> None:
    clock = Clock()
    progress = Progress(STAGES, 0, io.StringIO(), clock)
    assert str(progress.standing(0, 2.0)) == "0.0% stage 1/2 (10 px) 0 samples ?/s loss 2.000 ETA ?"
    for _ in range(10):
        clock.now += WINDOW
        samples = int(clock.now / WINDOW) * 50
        standing = progress.standing(samples, 1.5)
    assert standing.per_second == pytest.approx(50 / WINDOW)
    assert standing.done == pytest.approx(0.25)
    # Three times the pixels done are left, but at the same pixels a second.
    assert standing.seconds_left == pytest.approx(3 * clock.now)
    clock.now += WINDOW
    faster = progress.standing(samples + 500, 1.5)
    assert faster.per_second == pytest.approx(500 / WINDOW)
    assert (faster.stage, faster.side) == (2, 20)


def test_a_resumed_run_does_not_count_what_it_did_not_do() -> None:
    clock = Clock()
    progress = Progress(STAGES, 900, io.StringIO(), clock)
    clock.now = 10.0
    standing = progress.standing(1000, 1.0)
    assert standing.per_second == pytest.approx(10)
    assert standing.seconds_left == pytest.approx(100)


def test_there_is_a_line_a_minute_and_the_loss_is_read_only_for_it() -> None:
    class Loss:
        read = 0

        def __float__(self) -> float:
            Loss.read += 1
            return 0.25

    clock, out = Clock(), io.StringIO()
    progress = Progress(STAGES, 0, out, clock)
    for second in range(int(3 * LINE_EVERY) + 1):
        clock.now = float(second)
        progress.tick(second, Loss())
    progress.close()
    lines = out.getvalue().splitlines()
    assert len(lines) == Loss.read == 3
    assert lines[0] == "3.0% stage 1/2 (10 px) 60 samples 1.0/s loss 0.250 ETA 0:32:20"


def test_a_terminal_gets_a_bar() -> None:
    clock, out = Clock(), Terminal()
    progress = Progress(STAGES, 0, out, clock)
    clock.now = 1.0
    progress.tick(500, 0.5)
    progress.close()
    assert "25.0% stage 1/2 (10 px) 500 samples 500.0/s loss 0.500 ETA 0:00:03 |#####" in out.getvalue()


def row(samples: int, **more: Any) -> dict[str, Any]:
    return {"samples": samples} | more


def test_an_evaluation_is_one_line_of_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = evaluation_row(640, STAGES[0], {"l1": 0.123456}, seconds=12.34, seen=320)
    assert written == row(640, stage=10, seconds=12, per_second=25.9, losses={"l1": 0.1235})
    append_row(tmp_path / "log.jsonl", written)
    append_row(tmp_path / "log.jsonl", row(960))
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == read_log(tmp_path / "log.jsonl")
    assert read_log(tmp_path / "log.jsonl") == [written, row(960)]


def test_a_resumed_run_takes_back_what_was_logged_after_its_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    rewind_log(path, 0)
    assert not path.exists()
    path.write_text('{"samples": 10}\n{"samples": 20}\n{"samples": 30}\n{"sampl')
    assert read_log(path) == [row(10), row(20), row(30)]
    rewind_log(path, 20)
    assert path.read_text() == '{"samples": 10}\n{"samples": 20}\n'
    append_row(path, row(30))
    assert read_log(path) == [row(10), row(20), row(30)]


def scored(samples: int, stage: int, loss: Any, iou: float) -> dict[str, Any]:
    sets = {"cats": iou, "people": 1.0}
    return row(samples, stage=stage, losses=loss, iou=iou, mae=1 - iou, missed=2, side=stage, iou_by_set=sets)


def write_log(folder: Path, rows: list[dict[str, Any]]) -> Path:
    folder.mkdir()
    path = folder / "log.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return path


def test_curves_follow_the_resumed_run_and_its_last_validation(tmp_path: Path) -> None:
    rows = [scored(n, 64, {"l1": 1 / n}, n / 100) for n in (10, 20, 30)]
    again = [scored(n, 64, {"l1": 2 / n}, n / 50) for n in (20, 30)]
    last = {key: value for key, value in scored(30, 128, None, 0.9).items() if key not in ("losses", "stage")}
    run = curves_of(write_log(tmp_path / "run", [*rows, *again, last]), "run")
    assert [one["losses"]["l1"] for one in run.trained] == [0.1, 0.1, 2 / 30]
    assert [one["iou"] for one in run.scored] == [0.1, 0.4, 0.9]


def test_stages_are_stretches_of_one_side() -> None:
    rows = [row(10, stage=64), row(20, stage=64), row(30, stage=96), row(40, stage=64)]
    assert stage_spans(rows) == [(0, 20, 64), (20, 30, 96), (30, 40, 64)]


def test_losses_without_names_are_numbered() -> None:
    assert loss_parts(row(1, losses=[0.5, 0.25])) == {"part 1": 0.5, "part 2": 0.25}
    assert loss_parts(row(1, losses={"l1": 0.5})) == {"l1": 0.5}


def test_runs_are_named_by_their_folders_unless_these_are_alike() -> None:
    assert names_of([Path("a/log.jsonl"), Path("b/log.jsonl")]) == ["a", "b"]
    assert names_of([Path("x/a/log.jsonl"), Path("y/a/log.jsonl")]) == ["x/a/log.jsonl", "y/a/log.jsonl"]


def test_the_picture_shows_both_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = write_log(tmp_path / "old", [scored(n, 64, [1 / n, 0.0], n / 100) for n in (10, 20, 30)])
    new = write_log(tmp_path / "new", [scored(n, 96, {"l1": 2 / n}, n / 80) for n in (10, 20)])
    out = tmp_path / "curves.png"
    monkeypatch.setattr("sys.argv", ["curves", str(old), str(new), "-o", str(out)])
    curves.main()
    both = np.asarray(Image.open(out).convert("RGB"))
    draw([curves_of(new, "new")], out)
    alone = np.asarray(Image.open(out).convert("RGB"))
    assert both.shape == alone.shape == (720, 1350, 3)
    assert not np.array_equal(both, alone)


def test_a_run_that_has_logged_nothing_yet_is_an_empty_picture(tmp_path: Path) -> None:
    draw([curves_of(write_log(tmp_path / "run", []), "run")], tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 0
