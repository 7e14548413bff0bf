"""SQS queues in moto's server, each fresh and with a dead-letter queue of its own."""

from __future__ import annotations

import json
import secrets

from mattehorn.queue.open import open_queue
from mattehorn.queue.sqs import SqsQueue
from mattehorn.queue.sqs_client import sqs_client

from .swift import S3Server


def made_queue(server: S3Server, *, max_receive: int | None = 3, **attributes: str) -> str:
    """The URL of a new queue; its dead letters go to `NAME-dead`, or nowhere where `max_receive` is None.

    The caller has set the server's keys.
    """
    client = sqs_client(f"{server.endpoint_url}/x/y")
    name = f"t-{secrets.token_hex(6)}"
    if max_receive is not None:
        dead = client.create_queue(QueueName=f"{name}-dead")["QueueUrl"]
        arn = client.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        policy = {"deadLetterTargetArn": arn, "maxReceiveCount": max_receive}
        attributes["RedrivePolicy"] = json.dumps(policy)
    url: str = client.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
    client.close()
    return url


def opened(address: str, *, lease_s: float = 60) -> SqsQueue:
    queue = open_queue(f"sqs://{address}", lease_s=lease_s, max_receive=3)
    assert isinstance(queue, SqsQueue)
    return queue
