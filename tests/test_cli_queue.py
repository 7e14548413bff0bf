"""`mattehorn dead-letters` and `mattehorn redrive`: what they print and how they end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mattehorn.cli.main import main
from mattehorn.queue.open import open_queue


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A queue with one message ready and two dead letters, one of which would steer a terminal."""
    url = f"sqlite:///{tmp_path}/queue.db"
    queue = open_queue(url, lease_s=60, max_receive=1)
    queue.send_many(["x" * 300, '{"key": "\x1b[31mred"}'])
    for message in queue.receive(2):
        queue.fail(message, reason=f"404 \x1b]0;title{message.id}")
    queue.send_many(["ready"])
    queue.close()
    return url


def test_dead_letters_are_listed_one_a_line_with_their_reasons(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dead-letters", "--queue", url]) == 0
    first, second, last = capsys.readouterr().out.splitlines()
    assert "1 attempts" in first
    assert "x" * 100 + "…" in first
    assert "x" * 101 not in first
    assert "404" in second
    assert "\x1b" not in first + second
    assert last == "2 dead letters, 1 messages ready, 0 leased or delayed."


def test_as_json_they_are_whole(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dead-letters", "--queue", url, "--json", "--limit", "1"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["depth"] == {"ready": 1, "leased": 0, "dead": 2}
    (letter,) = document["dead_letters"]
    assert (letter["body"], letter["attempt"]) == ("x" * 300, 1)
    assert letter["reason"].startswith("404")
    assert letter["enqueued_at"].endswith("+00:00")


def test_redrive_gives_them_back_and_says_how_many(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["redrive", "--queue", url, "--limit", "1"]) == 0
    assert main(["redrive", "--queue", url]) == 0
    assert main(["redrive", "--queue", url]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["1", "1", "0"]
    queue = open_queue(url, lease_s=60, max_receive=1)
    assert len(queue.receive(10)) == 3
    queue.close()


@pytest.mark.parametrize("command", ["dead-letters", "redrive"])
def test_a_file_that_is_not_there_is_not_made(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([command]) == 2
    assert "There is no queue file" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["queue.db", "sqs://key:secret@host/1/name"])
def test_a_wrong_url_is_a_usage_error(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["redrive", "--queue", url]) == 2
    said = capsys.readouterr().err
    assert "--queue" in said
    assert "secret@" not in said


def test_a_limit_below_one_is_a_usage_error(url: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["redrive", "--queue", url, "--limit", "0"])
    assert ended.value.code == 2
