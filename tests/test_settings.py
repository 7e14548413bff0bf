"""What an operator sets: defaults, unknown keys, overrides by dotted keys, and the configuration file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from deployments.config import default_config, load_config, with_secrets
from mattehorn.settings import Settings, apply_overrides


def test_the_limits_are_the_contracts() -> None:
    limits = Settings().limits
    assert (limits.body_bytes, limits.pixels, limits.side_px) == (32 * 2**20, 50_000_000, 20_000)
    assert (limits.icc_bytes, limits.text_bytes) == (4 * 2**20, 2**20)
    assert (limits.fields, limits.field_bytes, limits.files) == (80, 64 * 2**10, 3)  # the contract: 40
    assert (limits.upload_s, limits.work_s) == (60, 30)


@pytest.mark.parametrize("args", [{"modle": "x"}, {"limits": {"pixel": 1}}, {"store": {"uri": "s3://b"}}])
def test_an_unknown_key_is_refused_by_name(args: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate(args)
    (section, *rest) = args.items()
    assert not rest
    leaf = next(iter(section[1])) if isinstance(section[1], dict) else section[0]
    assert leaf in str(caught.value)


@pytest.mark.parametrize(
    "args", [{"max_batch": 0}, {"limits": {"pixels": -1}}, {"store": {"addressing_style": "dns"}}, {"threads": "two"}]
)
def test_a_value_out_of_range_is_refused(args: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate(args)


@pytest.mark.parametrize(
    ("pair", "said"),
    [
        ("nope=1", "nope: there is no such setting; allowed: model, "),
        ("limits.pixel=1", "limits.pixel: there is no such setting; allowed in limits: body_bytes, pixels, "),
        ("limits=3", "limits is a section, set by limits.NAME=VALUE; allowed in limits: body_bytes, "),
        ("max_batch=0", "max_batch is 0; it should be greater than or equal to 1."),
        ("store.addressing_style=dns", "store.addressing_style is dns; it should be 'virtual', 'path' or 'auto'."),
        ("url_allow=[a b]", "url_allow: 'a b' names no valid host; write HOST or HOST:PORT."),
        ("url_ports=[0]", "url_ports.0 is 0; it should be greater than or equal to 1."),
        ("bulk.routes=[{recipe: x}]", "bulk.routes.0.source is missing. bulk.routes.0.output is missing."),
        ("bulk.routes=[{source: s3://a/, output: s3://b/, x: 1}]", "bulk.routes.0.x: there is no such setting; docs/"),
    ],
    ids=lambda value: value.partition("=")[0] if "=" in value[:30] else "",
)
def test_what_is_wrong_with_a_setting_is_said_in_our_words(pair: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"\S") as caught:
        load_config(default_config(), [pair])
    assert str(caught.value).startswith(said)
    assert "pydantic" not in str(caught.value)


def test_settings_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValidationError):
        Settings().max_batch = 3


def test_every_setting_with_a_number_says_what_it_is_for() -> None:
    fields = Settings.model_fields["limits"].annotation.model_fields  # type: ignore[union-attr]
    assert all(info.description for info in fields.values())


def test_overrides_nest_by_dots_and_read_yaml_values() -> None:
    merged = apply_overrides({"max_batch": 2}, ["max_batch=16", "store.url=s3://b/p", "limits={files: 2}"])
    assert merged == {"max_batch": 16, "store": {"url": "s3://b/p"}, "limits": {"files": 2}}


def test_an_override_keeps_the_rest_of_its_section() -> None:
    args = {"store": {"url": "s3://b/p", "region": "eu"}}
    assert apply_overrides(args, ["store.region=us"])["store"] == {"url": "s3://b/p", "region": "us"}
    assert args["store"]["region"] == "eu"  # the given mapping stays as it was


def test_a_value_may_hold_an_equals_sign() -> None:
    merged = apply_overrides({}, ["model=mattehorn-slim=weights.safetensors"])
    assert merged == {"model": "mattehorn-slim=weights.safetensors"}


@pytest.mark.parametrize(
    ("pair", "part"), [("max_batch", "KEY=VALUE"), ("=3", "KEY=VALUE"), ("model.name=x", "not a section")]
)
def test_a_bad_override_says_what_is_expected(pair: str, part: str) -> None:
    with pytest.raises(ValueError, match=part):
        apply_overrides({"model": "fake"}, [pair])


@pytest.mark.parametrize("pair", ["store.url={", "max_batch=[1", "model=a: b: c"])
def test_an_override_that_is_no_yaml_is_a_value_error(pair: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        Settings.model_validate(apply_overrides({}, [pair]))


def write(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text)
    return path


def test_the_shipped_configuration_is_valid() -> None:
    config = load_config(default_config(), [])
    settings = Settings.model_validate(config["applications"][0]["args"])
    assert settings.model == Settings().model
    assert config["http_options"]["port"] == 8000


def test_host_port_and_overrides_go_into_the_configuration(tmp_path: Path) -> None:
    path = write(tmp_path, "applications: [{args: {model: fake}}]\nhttp_options: {host: localhost, port: 1}\n")
    config = load_config(path, ["max_batch=8"], port=8123)
    assert config["http_options"] == {"host": "localhost", "port": 8123}
    args = config["applications"][0]["args"]
    assert (args["model"], args["max_batch"]) == ("fake", 8)


def test_a_relative_store_folder_becomes_absolute_from_where_serve_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_config(write(tmp_path, "applications: [{args: {}}]"), ["store.url=file://./kept"])
    assert config["applications"][0]["args"]["store"]["url"] == f"file://{tmp_path}/kept"


def test_a_relative_queue_file_becomes_absolute_from_where_serve_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path, "applications: [{args: {queue: {url: 'sqlite:///q.db', lease_s: 7}}}]")
    assert load_config(path, [])["applications"][0]["args"]["queue"] == {
        "url": f"sqlite:///{tmp_path}/q.db",
        "lease_s": 7,
    }
    assert load_config(path, ["queue.url=sqs://h/a/q"])["applications"][0]["args"]["queue"]["url"] == "sqs://h/a/q"


def test_without_bulk_work_the_configuration_has_no_bulk_replica() -> None:
    names = [entry["name"] for entry in load_config(default_config(), [])["applications"][0]["deployments"]]
    without = load_config(default_config(), ["bulk.enabled=false"])["applications"][0]["deployments"]
    assert "Bulk" in names
    assert [entry["name"] for entry in without] == [name for name in names if name != "Bulk"]


SECRETS = ["bulk.webhook_secret", "events.token", "events.hmac_secret"]


@pytest.mark.parametrize("key", SECRETS)
def test_a_secret_reaches_the_configuration_and_is_not_shown(key: str) -> None:
    args = load_config(default_config(), [f"{key}=sesame-17"])["applications"][0]["args"]
    settings = Settings.model_validate(args)
    section, name = key.split(".")
    assert getattr(getattr(settings, section), name).get_secret_value() == "sesame-17"
    assert "sesame-17" not in repr(settings)


@pytest.mark.parametrize("key", SECRETS)
def test_a_secret_may_stand_in_the_environment(key: str) -> None:
    settings = Settings.model_validate(apply_overrides({}, [f"{key}=env:OPEN"]))
    section, name = key.split(".")
    read = with_secrets(settings, {"OPEN": "sesame-17"})
    assert getattr(getattr(read, section), name).get_secret_value() == "sesame-17"
    with pytest.raises(ValueError, match=f"{key}.*OPEN"):
        with_secrets(settings, {})


@pytest.mark.parametrize("key", SECRETS)
@pytest.mark.parametrize("value", ["[sesame-17]", "{a: sesame-17}", "17"])
def test_a_secret_of_another_form_is_not_shown(key: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"^{key} has another form") as caught:
        load_config(default_config(), [f"{key}={value}"])
    assert "17" not in str(caught.value)
    assert (caught.value.__context__, caught.value.__cause__) == (None, None)


@pytest.mark.parametrize("key", SECRETS)
def test_an_empty_secret_is_refused(key: str) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate(apply_overrides({}, [f"{key}=''"]))


@pytest.mark.parametrize(
    ("route", "part"),
    [
        ("{source: s3://photos/a/, output: s3://photos/a/out/}", "overlap"),
        ("{source: s3://photos/a/, output: s3://made/, recipe: nonesuch}", "nonesuch"),
        ("{source: in, output: ftp://out/}", "ftp"),
    ],
)
def test_a_route_that_cannot_work_stops_the_start(tmp_path: Path, route: str, part: str) -> None:
    pairs = [
        f"store.url=file://{tmp_path}/store",
        f"bulk.routes=[{{source: s3://photos/ok/, output: s3://made/ok/}}, {route}]",
    ]
    with pytest.raises(ValueError, match=rf"number 2.*{part}"):
        load_config(default_config(), pairs)


@pytest.mark.parametrize("text", ["", "applications: []", "[1, 2]", "applications: 3"])
def test_a_file_without_an_application_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match="applications"):
        load_config(write(tmp_path, text), [])


def test_unknown_settings_in_the_file_are_a_value_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="modle"):
        load_config(write(tmp_path, "applications: [{args: {modle: fake}}]"), [])


def test_a_file_that_is_no_yaml_is_a_value_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"config\.yaml"):
        load_config(write(tmp_path, "applications: [{"), [])


# who may reach the service


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "service.example", ""])
def test_an_address_beyond_this_machine_needs_keys_or_an_explicit_word(tmp_path: Path, host: str) -> None:
    path = write(tmp_path, "applications: [{args: {}}]\n")
    with pytest.raises(ValueError, match="open_without_keys=true") as caught:
        load_config(path, [], host=host)
    assert "mattehorn keys add TENANT" in str(caught.value)
    assert load_config(path, ["open_without_keys=true"], host=host)["http_options"]["host"] == host
    (tmp_path / "keys.json").touch()
    assert load_config(path, [f"keys_file={tmp_path}/keys.json"], host=host)["http_options"]["host"] == host


@pytest.mark.parametrize("host", [None, "127.0.0.1", "127.8.0.1", "::1", "localhost"])
def test_this_machine_alone_needs_no_keys(tmp_path: Path, host: str | None) -> None:
    load_config(write(tmp_path, "applications: [{args: {}}]\n"), [], host=host)


def test_a_relative_keys_file_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "keys.json").touch()
    config = load_config(write(tmp_path, "applications: [{args: {}}]\n"), ["keys_file=keys.json"])
    assert config["applications"][0]["args"]["keys_file"] == f"{tmp_path}/keys.json"


@pytest.mark.parametrize(("contents", "part"), [(None, "mattehorn keys add TENANT"), ("{", "damaged")])
def test_a_keys_file_that_cannot_be_read_stops_the_start(tmp_path: Path, contents: str | None, part: str) -> None:
    if contents is not None:
        (tmp_path / "keys.json").write_text(contents)
    with pytest.raises(ValueError, match=part):
        load_config(write(tmp_path, "applications: [{args: {}}]\n"), [f"keys_file={tmp_path}/keys.json"])
