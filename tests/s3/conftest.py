"""Test servers that speak S3, each started once a session, and stores over a fresh prefix in them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator

import pytest

from mattehorn.settings import StoreSettings
from mattehorn.store.open import Store, open_store, s3_client

from .swift import S3Server, running_swift, why_not

BUCKET = "mattehorn-tests"

SetKeys = Callable[[S3Server], None]


@pytest.fixture(scope="session")
def moto_s3() -> Iterator[S3Server]:
    """moto in a thread of this process: quick, strict about conditional writes, blind to signatures."""
    server_module = pytest.importorskip("moto.server", reason="the package moto[server] is missing")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield _with_bucket(S3Server(f"http://{host}:{port}", "moto", "moto-secret", checks_keys=False))
    finally:
        server.stop()


@pytest.fixture(scope="session")
def swift_s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    folder = tmp_path_factory.mktemp("swift")
    if reason := why_not(folder):
        pytest.skip(f"Swift cannot run: {reason}")
    with running_swift(folder) as server:
        yield _with_bucket(server)


@pytest.fixture
def set_keys(monkeypatch: pytest.MonkeyPatch) -> SetKeys:
    """Gives boto3 a server's keys the way an operator does, and hides this machine's own AWS set-up."""

    def set_them(server: S3Server) -> None:
        for name in (
            "AWS_PROFILE",
            "AWS_SESSION_TOKEN",
            "AWS_ENDPOINT_URL",
            "AWS_ENDPOINT_URL_S3",
            "AWS_REGION",
        ):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)

    return set_them


@pytest.fixture(params=["moto", "swift"])
def s3_server(request: pytest.FixtureRequest, set_keys: SetKeys) -> S3Server:
    server: S3Server = request.getfixturevalue(f"{request.param}_s3")
    set_keys(server)
    return server


@pytest.fixture
def s3_store(s3_server: S3Server) -> Store:
    return open_store(settings_for(s3_server))


def settings_for(server: S3Server, *, bucket: str = BUCKET, prefix: str | None = None) -> StoreSettings:
    """A prefix of its own unless given, so that tests do not see each other's objects."""
    place = prefix if prefix is not None else f"t/{secrets.token_hex(6)}"
    return StoreSettings(url=f"s3://{bucket}/{place}", endpoint_url=server.endpoint_url)


def _with_bucket(server: S3Server) -> S3Server:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", server.access_key)
        patch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)
        patch.setenv("NO_PROXY", "127.0.0.1,localhost")
        s3_client(settings_for(server)).create_bucket(Bucket=BUCKET)
    return server


@pytest.fixture
def moto(moto_s3: S3Server, set_keys: SetKeys) -> S3Server:
    """moto, its keys in the environment."""
    set_keys(moto_s3)
    return moto_s3
