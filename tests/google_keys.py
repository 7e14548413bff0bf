"""Google's side of a Pub/Sub push for tests: keys of our own, served on the loopback, and tokens signed with them."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

AUDIENCE = "https://mattehorn.example/v1/events/s3"
ACCOUNT = "pusher@project.iam.gserviceaccount.com"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def claims(**changes: Any) -> dict[str, Any]:
    """Those of a good token, changed; a claim given as None is left out."""
    now = int(time.time())
    values = {
        "iss": "https://accounts.google.com",
        "aud": AUDIENCE,
        "azp": "113774264463038321964",
        "sub": "113774264463038321964",
        "email": ACCOUNT,
        "email_verified": True,
        "iat": now,
        "exp": now + 3600,
        **changes,
    }
    return {name: value for name, value in values.items() if value is not None}


def token(key: Any = KEY, key_id: str | None = "one", algorithm: str = "RS256", **changes: Any) -> str:
    """A signed token of `claims`."""
    headers = {} if key_id is None else {"kid": key_id}
    return jwt.encode(claims(**changes), key, algorithm=algorithm, headers=headers)


def key_set(**keys: rsa.RSAPrivateKey) -> bytes:
    """The public halves as Google serves them."""
    rows = [
        {**json.loads(RSAAlgorithm.to_jwk(key.public_key())), "kid": name, "alg": "RS256", "use": "sig"}
        for name, key in keys.items()
    ]
    return json.dumps({"keys": rows}).encode()


@dataclass
class Google:
    """What the server answers, and how often it was asked."""

    url: str = ""
    status: int = 200
    body: bytes = field(default_factory=lambda: key_set(one=KEY))
    asked: int = 0


@contextlib.contextmanager
def google() -> Iterator[Google]:
    """A server of keys on a free port of the loopback, until the block ends."""
    state = Google()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked += 1
            self.send_response(state.status)
            self.send_header("Content-Length", str(len(state.body)))
            self.end_headers()
            self.wfile.write(state.body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_address[1]}/certs"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join(60)
