"""One strict reading of a URL: what no browser and no resolver may read otherwise."""

from __future__ import annotations

import contextlib
import socket

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mattehorn.fetch.urls import URL_CHARS, BadUrl, Url, join_url, parse_url


@pytest.mark.parametrize(
    ("text", "url", "host_header"),
    [
        ("http://example.com", Url("http", "example.com", 80, "/"), "example.com"),
        ("HTTPS://EXAMPLE.com:443/A?b=C#d", Url("https", "example.com", 443, "/A?b=C"), "example.com"),
        ("  https://example.com./x\n", Url("https", "example.com", 443, "/x"), "example.com"),
        ("http://example.com:8080?a=1", Url("http", "example.com", 8080, "/?a=1"), "example.com:8080"),
        ("http://example.com:/a", Url("http", "example.com", 80, "/a"), "example.com"),
        ("https://my_bucket.example.com/k", Url("https", "my_bucket.example.com", 443, "/k"), "my_bucket.example.com"),
        ("http://bücher.example/", Url("http", "xn--bcher-kva.example", 80, "/"), "xn--bcher-kva.example"),
        ("http://ｅxample。com/", Url("http", "example.com", 80, "/"), "example.com"),
        ('http://a.b/c d|é\\?q="<ü>', Url("http", "a.b", 80, "/c%20d%7C%C3%A9%5C?q=%22%3C%C3%BC%3E"), "a.b"),
        ("http://a.b/%20%2f?X-Sig=a%2Fb+c==", Url("http", "a.b", 80, "/%20%2f?X-Sig=a%2Fb+c=="), "a.b"),
    ],
)
def test_a_url_is_read_into_its_parts(text: str, url: Url, host_header: str) -> None:
    assert parse_url(text) == url
    assert parse_url(text).host_header == host_header


@pytest.mark.parametrize(
    ("text", "host", "header"),
    [
        ("http://8.8.8.8/", "8.8.8.8", "8.8.8.8"),
        ("http://8.8.8.8./", "8.8.8.8", "8.8.8.8"),
        ("http://１２７.０.０.１/", "127.0.0.1", "127.0.0.1"),
        ("http://127。0。0。1/", "127.0.0.1", "127.0.0.1"),
        ("http://①②⑦.0.0.1/", "127.0.0.1", "127.0.0.1"),
        ("http://[::1]/", "::1", "[::1]"),
        ("http://[2001:0DB8:0:0::1]:8080/", "2001:db8::1", "[2001:db8::1]:8080"),
        ("http://[::ffff:127.0.0.1]/", "127.0.0.1", "127.0.0.1"),
        ("http://[::FFFF:7f00:1]/", "127.0.0.1", "127.0.0.1"),
    ],
)
def test_a_host_that_is_an_address_is_known_as_one(text: str, host: str, header: str) -> None:
    url = parse_url(text)
    assert (url.host, str(url.address), url.host_header) == (host, host, header)


@pytest.mark.parametrize(
    "host",
    [
        *("2130706433", "0x7f.1", "0177.0.0.1", "127.1", "127.0.1", "0x7f000001", "017700000001", "0X7F.0.0.0x1", "0"),
        *(
            "127.0.0.0x1",
            "127.0.0.01",
            "00.0.0.0",
            "1.2.3.4.5",
            "256.1.1.1",
            "example.1",
            "example.0x",
            "1.2.3.4294967297",
        ),
        *("１２７.１", "２１３０７０６４３３", "0x7f.1.", "example.0xff"),
    ],
)
def test_an_odd_spelling_of_an_ipv4_address_is_refused(host: str) -> None:
    with pytest.raises(BadUrl, match="four decimal numbers"):
        parse_url(f"http://{host}/")


REFUSED = {
    "http:// or https://": [
        *(f"{scheme}://example.com/a" for scheme in ("ftp", "file", "gopher", "s3", "dict", "ws", "httpx", "unix")),
        *("file:///etc/passwd", "data:image/png;base64,AA", "jar:http://example.com/", "http:\\\\example.com"),
        *("http:/example.com", "http:example.com"),
    ],
    "whole URL": ["", " ", "example.com", "//example.com/", "/etc/passwd", "://example.com"],
    "no host": ["http://", "http:///etc/passwd", "https://?a", "http://#"],
    "valid host": [
        *("http://:80/", "http://./", "http://a..b/", "http://.a/", "http://a.../", "http://a b/", "http://a\\b/"),
        *("http://a%2eb/", "http://%6cocalhost/", "http://a.b:x/", "http://a.b:-1/", "http://a.b:80:80/"),
        *("http://a.b:8０/", "http://a.b:000080/", "http://[::1/", "http://[]/", "http://[::1]x/", "http://::1/"),
        *("http://a[::1]/", "http://[fe80::1%25eth0]/", "http://[127.0.0.1%00]/", "http://[v1.a]/"),
        *(f"http://{'a' * 64}.b/", f"http://{'a.' * 127}b/", f"http://é{'a' * 300}/", "http://a\u2024b/"),
        *("http://a\u200db.com/", "http://\u00ad/", "http://xn--é/"),
    ],
    "IPv6": ["http://[1:2]/", "http://[::1::]/", "http://[127.0.0.1]/", "http://[12345::]/"],
    "valid port": ["http://a.b:0/", "http://a.b:65536/", "http://a.b:99999/"],
    "user": [
        *("http://u:p@a.b/", "http://u@a.b/", "http://@a.b/", "http://a.b\\@c.d/", "http://a@b@c/", "https://:@a.b/"),
        *("http://8.8.8.8@127.0.0.1/", "http://127.0.0.1:80\\@8.8.8.8/"),
    ],
    "control": [
        *("http://a.b/\r\nX: y", "ht\ntp://a.b/", "http://a\t.b/", "http://a.b/\x00", "http://a\x85b/"),
        *("http://a.b/\x7f", "http://a.b/\ud800", "http://\udfff.b/"),
    ],
    str(URL_CHARS): ["http://a.b/" + "x" * URL_CHARS],
}


@pytest.mark.parametrize(("part", "text"), [(part, text) for part, texts in REFUSED.items() for text in texts])
def test_what_is_no_plain_http_url_is_refused(part: str, text: str) -> None:
    with pytest.raises(BadUrl, match=part):
        parse_url(text)


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/b?c", "http://a.b/b?c"),
        ("d", "http://a.b/x/d"),
        ("../d", "http://a.b/d"),
        ("//c.d/e", "http://c.d/e"),
        ("https://c.d/e#f", "https://c.d/e"),
        ("?q", "http://a.b/x/y?q"),
        ("/é e", "http://a.b/%C3%A9%20e"),
        ("http:x", "http://a.b/x/x"),
    ],
)
def test_a_redirect_leads_on_from_where_it_came(location: str, target: str) -> None:
    url = join_url(parse_url("http://a.b/x/y?z"), location)
    assert f"{url.origin}{url.target}" == target


@pytest.mark.parametrize(
    "location",
    [
        *("file:///etc/passwd", "ftp://a.b/", "//u:p@c.d/", "http://2130706433/", "//[::1", "http://[", "//127.1/"),
        *("javascript:alert(1)", "/a\r\nb", "h\nttp://c.d/", "http://[]", "data:,", "//c.d\\e/"),
    ],
)
def test_a_redirect_is_read_as_strictly(location: str) -> None:
    with pytest.raises(BadUrl):
        join_url(parse_url("http://a.b/x/y"), location)


def test_what_a_log_shows_of_a_url_has_no_query() -> None:
    url = parse_url("https://a.b:8443/c/d%20e.jpg?X-Amz-Signature=secret")
    assert (url.without_query, url.origin) == ("https://a.b:8443/c/d%20e.jpg", "https://a.b:8443")
    assert url.file_name == "d e.jpg"


URLISH = st.text(alphabet="htps:/@[]%.?#\\ \t\n0123456789abcdefx-_éſ。．１ⅷ①\u200d\u00ad\ud800", max_size=40)


@given(URLISH.map(lambda text: f"http://{text}") | URLISH | st.text(max_size=60).map(lambda text: f"https://{text}/"))
@example("http://ſ.example/")
def test_any_text_is_refused_or_read_into_plain_parts_that_read_the_same_again(text: str) -> None:
    try:
        url = parse_url(text)
    except BadUrl:
        return
    assert (url.host + url.target).isascii()
    assert not set(url.host + url.target) & set(" \t\r\n\\@#") - set("@" if "@" in url.target else "")
    assert url.target.startswith("/")
    assert parse_url(url.origin + url.target) == url


@given(st.from_regex(r"[0-9a-fx.]{1,12}(\.[0-9a-fx]{0,4})?\.?", fullmatch=True))
@example("127.1")
@example("0x7f.1")
@example("1.2.3.4")
def test_what_passes_as_a_name_is_no_address_to_the_c_library(host: str) -> None:
    with contextlib.suppress(BadUrl):
        url = parse_url(f"http://{host}/")
        if url.address is None:
            with pytest.raises(OSError, match="illegal"):
                socket.inet_aton(url.host)
        else:
            assert socket.inet_aton(host.removesuffix(".")) == url.address.packed
