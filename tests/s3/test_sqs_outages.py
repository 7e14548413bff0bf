"""SQS that is missing, away, silent or closed to us: each is QueueUnavailable and says what to look at."""

from __future__ import annotations

import socket

import pytest

from mattehorn.errors import QueueUnavailable
from mattehorn.ports import free_ports

from .conftest import SetKeys
from .sqs import made_queue, opened
from .swift import S3Server


@pytest.mark.s3
def test_a_missing_queue_is_unavailable_and_names_the_setting(moto: S3Server) -> None:
    queue = opened(f"{moto.endpoint_url}/123456789012/none")
    for call in (queue.depth, lambda: queue.receive(1), lambda: queue.send_many(["a"]), queue.redrive):
        with pytest.raises(QueueUnavailable, match=r"NonExistentQueue|QueueDoesNotExist") as missing:
            call()
        assert "queue.url" in missing.value.message
        assert missing.value.retry_after_s == 30


@pytest.mark.s3
def test_a_server_that_is_down_is_unavailable_for_now(set_keys: SetKeys) -> None:
    server = S3Server(f"http://127.0.0.1:{free_ports(1)[0]}", "key", "secret", checks_keys=True)
    set_keys(server)
    queue = opened(f"{server.endpoint_url}/123456789012/photos")
    for call in (queue.depth, lambda: queue.receive(1, wait_s=20), lambda: queue.send_many(["a"])):
        with pytest.raises(QueueUnavailable, match="did not answer") as down:
            call()
        assert down.value.retry_after_s == 5


@pytest.mark.s3
def test_a_server_that_says_nothing_is_unavailable(set_keys: SetKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = S3Server(f"http://127.0.0.1:{silent.getsockname()[1]}", "key", "secret", checks_keys=True)
        set_keys(server)
        monkeypatch.setattr("mattehorn.queue.sqs_client.POLL_S", -9.8)  # 10 s more are for the answer
        queue = opened(f"{server.endpoint_url}/123456789012/photos")
        with pytest.raises(QueueUnavailable, match="did not answer"):
            queue.receive(1)


@pytest.mark.s3
def test_missing_credentials_are_named(moto: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    address = made_queue(moto)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(QueueUnavailable, match="AWS_ACCESS_KEY_ID"):
        opened(address).receive(1)
