"""Who may be asked: public hosts on a few ports, and what the operator lists."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from pydantic import ValidationError

from mattehorn.fetch.policy import UrlPolicy, parse_entry
from mattehorn.fetch.urls import BadUrl, parse_url
from mattehorn.settings import Settings

from .test_addresses import METADATA, REFUSED_4, REFUSED_6, edges

LITERALS = [
    *(
        f"[{text}]" if ":" in text else text
        for network in REFUSED_4 + REFUSED_6
        for text in [*edges(network), *METADATA]
    ),
    *(f"[::ffff:{text}]" for network in REFUSED_4 for text in edges(network)),
]
STRICT = UrlPolicy()


@pytest.mark.parametrize("host", sorted(set(LITERALS)))
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_address_that_is_not_public_is_refused_as_a_literal(host: str, scheme: str) -> None:
    with pytest.raises(BadUrl, match="not public"):
        STRICT.check(parse_url(f"{scheme}://{host}/a.jpg"))


@pytest.mark.parametrize("text", sorted({text for network in REFUSED_4 + REFUSED_6 for text in edges(network)}))
def test_a_name_is_refused_when_one_of_its_addresses_is_not_public(text: str) -> None:
    url = parse_url("https://pictures.example/")
    good = [ip_address("8.8.8.8"), ip_address("2606:4700::1111")]
    assert STRICT.screen(url, good) == tuple(good)
    for addresses in ([ip_address(text)], [*good, ip_address(text)], [ip_address(text), *good]):
        with pytest.raises(BadUrl, match="not public"):
            STRICT.screen(url, addresses)


def test_a_mapped_address_of_a_name_is_unwrapped() -> None:
    url = parse_url("https://pictures.example/")
    assert STRICT.screen(url, [ip_address("::ffff:8.8.8.8")]) == (ip_address("8.8.8.8"),)
    with pytest.raises(BadUrl, match="not public"):
        STRICT.screen(url, [ip_address("::ffff:169.254.169.254")])


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "a.localhost"])
def test_localhost_is_refused_by_its_name(host: str) -> None:
    with pytest.raises(BadUrl, match="not public"):
        STRICT.check(parse_url(f"http://{host}/"))


@pytest.mark.parametrize("port", [1, 22, 81, 6379, 8080, 8443])
def test_only_a_few_ports_may_be_asked(port: int) -> None:
    url = parse_url(f"http://pictures.example:{port}/")
    with pytest.raises(BadUrl, match=f"port {port}; allowed are 80, 443"):
        STRICT.check(url)
    UrlPolicy.of(ports=[port]).check(url)
    for allowed in (80, 443):
        STRICT.check(parse_url(f"http://pictures.example:{allowed}/"))


def test_a_listed_host_may_be_internal_on_the_ports_of_all_or_on_its_own() -> None:
    policy = UrlPolicy.of(
        ["Images.internal", "10.0.0.5:9000", "[fd00::1]:8080", "bücher.internal.", "[::ffff:10.0.0.6]"]
    )
    inside = [ip_address("10.1.2.3")]
    for text in ("http://images.internal/", "https://IMAGES.internal./", "http://xn--bcher-kva.internal/"):
        policy.check(parse_url(text))
        assert policy.screen(parse_url(text), inside) == tuple(inside)
    for text in (
        "http://10.0.0.5:9000/",
        "http://[fd00::1]:8080/",
        "http://[::ffff:10.0.0.5]:9000/",
        "http://10.0.0.6/",
    ):
        policy.check(parse_url(text))
    for text in ("http://images.internal:9000/", "http://10.0.0.5/", "http://[fd00::1]/", "http://10.0.0.7/"):
        with pytest.raises(BadUrl):
            policy.check(parse_url(text))
    for text in ("http://a.images.internal/", "http://images.internal.example/", "http://internal/"):
        with pytest.raises(BadUrl, match="not public"):
            policy.screen(parse_url(text), inside)


@pytest.mark.parametrize(
    "entry", ["", "http://a.b", "a.b/c", "a.b:", "10.0.0.0/8", "*.internal", "u@a.b", "fd00::1", "127.1"]
)
def test_an_entry_that_names_no_host_stops_the_start(entry: str) -> None:
    if entry == "a.b:":  # an empty port is none
        assert parse_entry(entry) == ("a.b", None)
        return
    with pytest.raises(ValidationError, match="url_allow"):
        Settings.model_validate({"url_allow": [entry]})


def test_the_settings_lists_are_the_policys() -> None:
    settings = Settings.model_validate({"url_allow": ["images.internal:9000"], "url_ports": [443]})
    policy = UrlPolicy.of(settings.url_allow, settings.url_ports)
    assert policy == UrlPolicy(frozenset({("images.internal", 9000)}), frozenset({443}))
    assert UrlPolicy.of(Settings().url_allow, Settings().url_ports) == UrlPolicy(frozenset(), frozenset({80, 443}))


@pytest.mark.parametrize("port", [0, 65_536, "http"])
def test_a_port_that_is_none_stops_the_start(port: object) -> None:
    with pytest.raises(ValidationError, match="url_ports"):
        Settings.model_validate({"url_ports": [port]})
