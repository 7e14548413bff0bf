"""One behaviour for every kind of queue: a SQLite file (fast) and SQS in moto's server (marked s3)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from mattehorn.queue.interface import BODY_BYTES, Depth, Queue, QueueMessageError
from mattehorn.queue.open import absolute_queue_url, open_queue
from mattehorn.settings import QueueSettings
from tests.s3.conftest import SetKeys, moto_s3, set_keys  # noqa: F401  fixtures
from tests.s3.sqs import made_queue

LONG_S = 600  # a lease that outlives any test
SHORT_S = 1  # the shortest that SQS knows
BRIEF_S = 2  # where a busy machine must get through two calls before it is over
PAST_BRIEF_S = 2.3
HARD_BODIES = ['{"key": "a b+c%20.png"}', "商品/红色 🦊", 'two\nlines\tand "quotes" <&>', " outer blanks ", "0"]

Open = Callable[..., Queue]


@dataclass
class Place:
    """Where one test's queues are: every `open` is another worker's look at the same messages."""

    kind: str
    address: Callable[[int], str]
    opened: list[Queue]

    def open(self, *, lease_s: float = LONG_S, max_receive: int = 3) -> Queue:
        self.opened.append(open_queue(self.address(max_receive), lease_s=lease_s, max_receive=max_receive))
        return self.opened[-1]


@pytest.fixture(params=["sqlite", pytest.param("sqs", marks=pytest.mark.s3)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    opened: list[Queue] = []
    if request.param == "sqlite":
        yield Place("sqlite", lambda _: f"sqlite:///{tmp_path}/queue.db", opened)
    else:
        server = request.getfixturevalue("moto_s3")
        request.getfixturevalue("set_keys")(server)
        made: dict[int, str] = {}

        def address(max_receive: int) -> str:
            if max_receive not in made:
                made[max_receive] = "sqs://" + made_queue(server, max_receive=max_receive)
            return made[max_receive]

        yield Place("sqs", address, opened)
    for queue in opened:
        queue.close()


def bodies(queue: Queue, limit: int = 10) -> list[str]:
    return sorted(message.body for message in queue.receive(limit))


@pytest.mark.parametrize("body", HARD_BODIES)
def test_what_is_sent_comes_back_equal_as_a_first_attempt(place: Place, body: str) -> None:
    queue = place.open()
    queue.send_many([body])
    (message,) = queue.receive(10)
    assert (message.body, message.attempt, message.leases, message.came_back) == (body, 1, 1, False)
    assert message.id
    assert message.receipt


def test_a_leased_message_is_nobody_elses(place: Place) -> None:
    ours, theirs = place.open(), place.open()
    ours.send_many(["a", "b", "c"])
    mine = [message.body for message in ours.receive(2)]
    assert len(mine) == 2
    assert sorted([*mine, *bodies(theirs)]) == ["a", "b", "c"]
    assert theirs.receive(10) == []


def test_an_acked_message_is_gone(place: Place) -> None:
    queue = place.open()
    queue.send_many(["a"])
    (message,) = queue.receive(1)
    assert queue.ack(message) is True
    assert queue.depth() == Depth(ready=0, leased=0, dead=0)
    assert (queue.ack(message), queue.extend(message, 9), queue.fail(message)) == (False, False, False)


def test_a_failed_message_comes_back_as_another_attempt_with_another_receipt(place: Place) -> None:
    queue = place.open()
    queue.send_many(["a"])
    (first,) = queue.receive(1)
    assert queue.fail(first, reason="busy") is True
    (second,) = queue.receive(1)
    assert (second.id, second.body, second.attempt) == (first.id, "a", 2)
    assert second.receipt != first.receipt
    assert (queue.ack(first), queue.extend(first, 9), queue.fail(first)) == (False, False, False)
    assert queue.ack(second) is True


def test_a_failed_message_waits_out_its_delay(place: Place) -> None:
    queue = place.open()
    queue.send_many(["a"])
    (message,) = queue.receive(1)
    assert queue.fail(message, delay_s=BRIEF_S)
    assert queue.receive(1) == []
    assert queue.depth() == Depth(ready=0, leased=1, dead=0)
    (again,) = queue.receive(1, wait_s=10)
    assert again.attempt == 2


def test_a_lease_that_ran_out_is_somebody_elses_and_its_receipt_does_nothing(place: Place) -> None:
    slow, quick = place.open(lease_s=SHORT_S), place.open()
    slow.send_many(["a"])
    (stale,) = slow.receive(1)
    (taken,) = quick.receive(1, wait_s=10)
    assert (taken.body, taken.leases, taken.came_back) == ("a", 2, True)
    assert taken.attempt == (1 if place.kind == "sqlite" else 2)  # a lost lease is no failure where they can be told
    assert (slow.ack(stale), slow.extend(stale, LONG_S), slow.fail(stale)) == (False, False, False)
    assert quick.depth() == Depth(ready=0, leased=1, dead=0)
    assert quick.ack(taken) is True


def test_an_extended_lease_holds_past_its_first_end(place: Place) -> None:
    holder, other = place.open(lease_s=BRIEF_S), place.open()
    holder.send_many(["a"])
    (message,) = holder.receive(1)
    assert holder.extend(message, LONG_S) is True
    time.sleep(PAST_BRIEF_S)
    assert other.receive(1) == []
    assert holder.ack(message) is True


def test_a_message_that_failed_on_its_last_attempt_is_a_dead_letter(place: Place) -> None:
    queue = place.open(max_receive=2)
    before = time.time()
    queue.send_many(["poison"])
    for attempt in (1, 2):
        (message,) = queue.receive(1)
        assert message.attempt == attempt
        assert queue.fail(message, reason=f"reason {attempt}")
    assert queue.receive(1) == []
    assert queue.depth() == Depth(ready=0, leased=0, dead=1)
    (letter,) = queue.dead_letters(10)
    assert letter.body == "poison"
    assert letter.attempt >= 2
    assert letter.reason == ("reason 2" if place.kind == "sqlite" else "")
    assert before - 1 <= letter.enqueued_at <= time.time() + 1


def test_a_released_message_is_anybodys_at_once_and_has_not_failed(place: Place) -> None:
    queue = place.open()
    queue.send_many(["a"])
    (first,) = queue.receive(1)
    assert queue.release(first) is True
    (second,) = queue.receive(1)
    assert (second.id, second.body) == (first.id, "a")
    if place.kind == "sqlite":
        assert second.came_back is False
    assert (queue.release(first), queue.ack(first), queue.fail(first)) == (False, False, False)
    assert queue.ack(second) is True


def kill(queue: Queue, *sent: str) -> None:
    """Makes dead letters in a queue that allows one attempt."""
    queue.send_many(sent)
    for message in queue.receive(len(sent)):
        queue.fail(message)
    assert queue.receive(1) == []


def test_looking_at_dead_letters_leaves_them(place: Place) -> None:
    queue = place.open(max_receive=1)
    kill(queue, *(f"m{n:02d}" for n in range(12)))
    for _ in range(2):
        assert sorted(letter.body for letter in queue.dead_letters(100)) == [f"m{n:02d}" for n in range(12)]
    assert len(queue.dead_letters(3)) == 3
    assert queue.depth().dead == 12


def test_redriven_messages_have_all_their_attempts_again(place: Place) -> None:
    queue = place.open(max_receive=2)
    queue.send_many(["a"])
    for _ in range(2):
        queue.fail(queue.receive(1)[0])
    assert queue.receive(1) == []
    assert queue.redrive() == 1
    assert queue.dead_letters(10) == []
    for attempt in (1, 2):
        (message,) = queue.receive(1)
        assert (message.body, message.attempt) == ("a", attempt)
        queue.fail(message)
    assert queue.receive(1) == []
    assert queue.depth().dead == 1


def test_redrive_moves_at_most_its_limit(place: Place) -> None:
    queue = place.open(max_receive=1)
    sent = [f"m{n:02d}" for n in range(15)]
    kill(queue, *sent)
    assert queue.redrive(limit=12) == 12
    assert queue.depth() == Depth(ready=12, leased=0, dead=3)
    assert queue.redrive() == 3
    assert queue.redrive() == 0
    assert bodies(queue, 20) == sent


def test_a_receive_takes_as_many_as_it_may(place: Place) -> None:
    queue = place.open()
    sent = [f"m{n:02d}" for n in range(27)]
    queue.send_many(sent)
    first = bodies(queue, 15)
    assert len(first) == 15
    assert sorted(first + bodies(queue, 100)) == sent


def test_a_waiting_receive_gets_what_is_sent_meanwhile(place: Place) -> None:
    waiting, sending = place.open(), place.open()
    timer = threading.Timer(0.3, sending.send_many, (["late"],))
    timer.start()
    began = time.monotonic()
    assert [message.body for message in waiting.receive(10, wait_s=20)] == ["late"]
    assert time.monotonic() - began < 15  # it did not sleep through
    timer.join()


def test_a_waiting_receive_ends_empty(place: Place) -> None:
    assert place.open().receive(10, wait_s=0.2) == []


def test_nothing_is_sent_when_one_body_is_too_long(place: Place) -> None:
    queue = place.open()
    with pytest.raises(QueueMessageError, match="Message 1 has 262145 bytes"):
        queue.send_many(["fits", "x" * (BODY_BYTES - 1) + "é"])
    with pytest.raises(QueueMessageError, match="Unicode"):
        queue.send_many(["fits", "\ud800"])
    assert queue.depth() == Depth(ready=0, leased=0, dead=0)


def test_long_bodies_travel_in_several_requests(place: Place) -> None:
    queue = place.open()
    sent = ["x" * BODY_BYTES, *(f"{n}" + "y" * 100_000 for n in range(5)), "short"]
    queue.send_many(sent)
    assert bodies(queue, 20) == sorted(sent)


def test_sending_nothing_is_no_error(place: Place) -> None:
    queue = place.open()
    queue.send_many([])
    assert queue.receive(1) == []


def test_depth_counts_what_is_ready_leased_and_dead(place: Place) -> None:
    queue = place.open(max_receive=1)
    kill(queue, "dead")
    queue.send_many(["a", "b", "c"])
    queue.receive(1)
    assert queue.depth() == Depth(ready=2, leased=1, dead=1)


def test_threads_that_share_a_queue_do_every_message(place: Place) -> None:
    queue = place.open()
    sent = [f"m{n:03d}" for n in range(80)]
    queue.send_many(sent)

    def work(_: int) -> list[str]:
        done = []
        while messages := queue.receive(5):
            done += [message.body for message in messages if queue.ack(message)]
        return done

    with ThreadPoolExecutor(8) as pool:
        done = [body for some in pool.map(work, range(8)) for body in some]
    if place.kind == "sqs":  # at least once is what SQS promises, and moto's receive is not atomic
        done = list(set(done))
    assert sorted(done) == sent
    assert queue.depth() == Depth(ready=0, leased=0, dead=0)


def test_values_that_make_no_sense_are_refused(place: Place) -> None:
    queue = place.open()
    queue.send_many(["a"])
    (message,) = queue.receive(1)
    with pytest.raises(ValueError, match="limit is 0"):
        queue.receive(0)
    for seconds in (0, -1, 43_201):
        with pytest.raises(ValueError, match="seconds is"):
            queue.extend(message, seconds)
        with pytest.raises(ValueError, match="lease_s is"):
            place.open(lease_s=seconds)


def test_a_queue_may_be_closed_twice(place: Place) -> None:
    queue = place.open()
    queue.close()
    queue.close()


# URLs


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("queue.db", "no scheme"),
        ("redis://host/0", "begins with redis://"),
        ("sqlite://queue.db", "two slashes"),
        ("sqlite:///", "names no file"),
        ("sqlite:///folder/", "names no file"),
        ("sqs://", "sqs://host/account/name"),
        ("sqs://sqs.eu-west-1.amazonaws.com", "sqs://host/account/name"),
        ("sqs://key:secret@host/1/name", "AWS_SECRET_ACCESS_KEY"),
        ("sqs://sqs.eu-west-1.amazonaws.com/1/name.fifo", "FIFO"),
    ],
)
def test_a_url_of_another_form_is_refused_without_repeating_it(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as refused:
        open_queue(url, lease_s=60, max_receive=5)
    assert "key:secret" not in str(refused.value)


def test_a_sqlite_file_is_relative_to_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute_queue_url("sqlite:///queue.db") == f"sqlite:///{tmp_path}/queue.db"
    assert absolute_queue_url("sqlite:////data/queue.db") == "sqlite:////data/queue.db"
    assert absolute_queue_url("sqs://host/1/name") == "sqs://host/1/name"
    open_queue("sqlite:///queue.db", lease_s=60, max_receive=5).close()
    assert (tmp_path / "queue.db").is_file()


def test_the_settings_are_the_arguments_of_opening(tmp_path: Path) -> None:
    settings = QueueSettings(url=f"sqlite:///{tmp_path}/queue.db")
    queue = open_queue(**settings.model_dump())
    queue.send_many(["a"])
    assert bodies(queue) == ["a"]
    queue.close()
