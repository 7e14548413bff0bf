"""A picture by its URL: what is asked, of whom, how often, and what comes back."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from pathlib import Path

import pytest

from mattehorn.errors import BodyTooLarge, FetchFailed, UrlNotAllowed
from mattehorn.fetch.fetch import Fetcher, FetchLimits
from mattehorn.fetch.resolve import SystemResolver
from mattehorn.settings import Settings

from .servers import HERE, PICTURE, Authority, Names, answer, fetcher, get, redirect, serving


def test_a_picture_is_fetched_whole_from_a_listed_host() -> None:
    async def story() -> None:
        async with serving(answer()) as server:
            by = fetcher(f"{HERE}:{server.port}")
            fetched = await get(by, f"http://{HERE}:{server.port}/shop/my%20cup.jpg?size=1")
            assert (fetched.data, fetched.file_name) == (PICTURE, "my cup.jpg")
            assert fetched.seconds > 0
            assert server.paths == ["/shop/my%20cup.jpg?size=1"]

    asyncio.run(story())


def test_a_request_has_only_its_own_headers() -> None:
    async def story() -> None:
        async with serving(redirect("/b"), answer(Set_Cookie="a=b; Path=/")) as server:
            await get(fetcher(f"{HERE}:{server.port}"), f"http://{HERE}:{server.port}/a")
            for head in server.asked:
                lines = head.rstrip().split("\r\n")
                assert lines[0] in ("GET /a HTTP/1.1", "GET /b HTTP/1.1")
                assert sorted(lines[1:]) == [
                    "Accept-Encoding: identity",
                    "Accept: image/*, */*;q=0.5",
                    "Connection: close",
                    f"Host: {HERE}:{server.port}",
                    "User-Agent: mattehorn",
                ]
            assert server.paths == ["/a", "/b"]

    asyncio.run(story())


def test_a_cookie_of_a_redirect_is_not_sent_on() -> None:
    async def story() -> None:
        async with serving(answer("302 Found", b"", Location="/b", Set_Cookie="a=b"), answer()) as server:
            await get(fetcher(f"{HERE}:{server.port}"), f"http://{HERE}:{server.port}/a")
            assert "cookie" not in server.asked[1].lower()
            assert "referer" not in server.asked[1].lower()

    asyncio.run(story())


def test_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        async with serving(answer(body=b"of the proxy")) as proxy, serving(answer()) as server:
            for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
                monkeypatch.setenv(name, f"http://{HERE}:{proxy.port}")
            monkeypatch.delenv("no_proxy", raising=False)
            fetched = await get(fetcher(f"{HERE}:{server.port}"), f"http://{HERE}:{server.port}/")
            assert fetched.data == PICTURE
            assert proxy.asked == []

    asyncio.run(story())


def test_a_name_is_looked_up_once_and_the_very_address_connected_to() -> None:
    async def story() -> None:
        async with serving(answer()) as server:
            # the second answer must never be asked for
            names = Names(pictures__example=[[HERE], ["169.254.169.254"]])
            by = fetcher(f"pictures.example:{server.port}", names=names)
            assert (await get(by, f"http://Pictures.Example.:{server.port}/")).data == PICTURE
            assert names.asked == ["pictures.example"]
            assert f"Host: pictures.example:{server.port}\r\n" in server.asked[0]

    asyncio.run(story())


def test_a_rebinding_name_is_not_reached_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is public at the check and internal afterwards; nothing but the checked address is connected to."""
    connected: list[str] = []

    async def connect(self: object, host: str, port: int, *rest: object) -> None:
        connected.append(host)
        raise TimeoutError

    import httpcore

    async def story() -> None:
        names = Names(evil__example=[["93.184.216.34"], ["169.254.169.254"]])
        with pytest.raises(FetchFailed):
            await get(fetcher(names=names), "http://evil.example/latest/meta-data/")
        assert names.asked == ["evil.example"]
        assert connected == ["93.184.216.34"]

    monkeypatch.setattr(httpcore.AnyIOBackend, "connect_tcp", connect)
    monkeypatch.setattr(socket, "getaddrinfo", None)  # nobody looks up again
    asyncio.run(story())


def test_an_address_that_does_not_answer_gives_way_to_the_next() -> None:
    async def story() -> None:
        async with serving(answer()) as server:
            names = Names(pictures__example=[["127.0.0.2", HERE]])
            by = fetcher(f"pictures.example:{server.port}", names=names)
            assert (await get(by, f"http://pictures.example:{server.port}/")).data == PICTURE

    asyncio.run(story())


def test_a_host_by_its_ipv6_address_is_asked_by_it() -> None:
    async def story() -> None:
        async with serving(answer(), host="::1") as server:
            fetched = await get(fetcher(f"[::1]:{server.port}"), f"http://[0:0::1]:{server.port}/")
            assert fetched.data == PICTURE
            assert f"Host: [::1]:{server.port}\r\n" in server.asked[0]

    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    asyncio.run(story())


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
def test_three_redirects_are_followed_and_a_fourth_is_not(status: str) -> None:
    async def story() -> None:
        steps = [redirect(f"/{number}", status) for number in (1, 2, 3)]
        async with serving(*steps, answer()) as server:
            fetched = await get(fetcher(f"{HERE}:{server.port}"), f"http://{HERE}:{server.port}/0.jpg")
            assert (fetched.data, fetched.file_name) == (PICTURE, "0.jpg")
            assert server.paths == ["/0.jpg", "/1", "/2", "/3"]
        async with serving(redirect("/again", status)) as server:
            with pytest.raises(FetchFailed, match="more than 3 times"):
                await get(fetcher(f"{HERE}:{server.port}"), f"http://{HERE}:{server.port}/0")
            assert len(server.asked) == 4

    asyncio.run(story())


def test_each_redirect_is_looked_up_and_may_lead_to_another_listed_host() -> None:
    async def story() -> None:
        async with serving(answer()) as there:
            async with serving(redirect(f"http://there.example:{there.port}/é x")) as here:
                names = Names(here__example=[[HERE]], there__example=[[HERE]])
                by = fetcher(f"here.example:{here.port}", f"there.example:{there.port}", names=names)
                assert (await get(by, f"http://here.example:{here.port}/")).data == PICTURE
            assert there.paths == ["/%C3%A9%20x"]
            assert names.asked == ["here.example", "there.example"]

    asyncio.run(story())


@pytest.mark.parametrize(
    "status", ["204 No Content", "206 Partial", "304 Same", "400 Bad", "404 No", "500 Oh", "503 No"]
)
def test_any_status_but_200_is_named_and_nothing_else_of_the_answer(status: str) -> None:
    async def story() -> None:
        body = b"" if status[:3] in ("204", "304") else b"secret page"
        async with serving(answer(status, body)) as server:
            with pytest.raises(FetchFailed, match=f"answered {status[:3]}; 200 is needed") as failed:
                await get(fetcher(f"{HERE}:{server.port}"), f"http://{HERE}:{server.port}/a?b")
        assert failed.value.data == {"field": "image_url", "upstream_status": int(status[:3])}
        for secret in ("secret", HERE, str(server.port), "/a"):
            assert secret not in failed.value.message

    asyncio.run(story())


def test_a_body_without_a_length_and_one_in_chunks_are_read_to_their_ends() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"".join(
        b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (PICTURE[:7], PICTURE[7:5000], PICTURE[5000:], b"")
    )

    async def story() -> None:
        for said in (b"HTTP/1.0 200 OK\r\n\r\n" + PICTURE, chunked, answer(Content_Encoding="identity")):
            async with serving(said) as server:
                fetched = await get(fetcher(f"{HERE}:{server.port}"), f"http://{HERE}:{server.port}/")
                assert (fetched.data, fetched.file_name) == (PICTURE, "")

    asyncio.run(story())


def test_the_largest_body_that_is_allowed_comes_and_one_byte_more_does_not() -> None:
    async def story() -> None:
        url = f"http://{HERE}:{{}}/"
        for said in (answer(), b"HTTP/1.0 200 OK\r\n\r\n" + PICTURE):
            async with serving(said) as server:
                by = fetcher(f"{HERE}:{server.port}")
                assert (await get(by, url.format(server.port), len(PICTURE))).data == PICTURE
                with pytest.raises(BodyTooLarge, match=f"more than {len(PICTURE) - 1} bytes"):
                    await get(by, url.format(server.port), len(PICTURE) - 1)

    asyncio.run(story())


def test_two_fetches_at_once_do_not_meet() -> None:
    async def story() -> None:
        async with serving(answer(body=b"a"), answer(body=b"b")) as server:
            by = fetcher(f"{HERE}:{server.port}")
            got = await asyncio.gather(*(get(by, f"http://{HERE}:{server.port}/") for _ in range(2)))
            assert sorted(one.data for one in got) == [b"a", b"b"]

    asyncio.run(story())


# ---- TLS ----


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


def test_the_certificate_is_checked_against_the_name_and_the_name_is_sent(authority: Authority) -> None:
    names: list[str | None] = []
    context = authority.server("pictures.example")
    context.sni_callback = lambda sock, name, context: names.append(name)

    async def story() -> None:
        async with serving(answer(), tls=context) as server:
            resolver = Names(pictures__example=[[HERE]])
            by = fetcher(f"pictures.example:{server.port}", names=resolver, tls=authority.trusted)
            assert (await get(by, f"https://pictures.example:{server.port}/")).data == PICTURE
            assert f"Host: pictures.example:{server.port}\r\n" in server.asked[0]

    asyncio.run(story())
    assert names == ["pictures.example"]


@pytest.mark.parametrize("case", ["another name", "expired", "unknown authority", "the address only"])
def test_a_certificate_that_is_not_the_names_is_refused(authority: Authority, tmp_path: Path, case: str) -> None:
    signer = Authority(tmp_path) if case == "unknown authority" else authority
    certified = {"another name": "other.example", "the address only": HERE}.get(case, "pictures.example")
    context = signer.server(certified, days=-1 if case == "expired" else 1)

    async def story() -> None:
        async with serving(answer(), tls=context) as server:
            names = Names(pictures__example=[[HERE]])
            by = fetcher(f"pictures.example:{server.port}", names=names, tls=authority.trusted)
            with pytest.raises(FetchFailed, match="certificate"):
                await get(by, f"https://pictures.example:{server.port}/")
            assert server.asked == []

    asyncio.run(story())


def test_a_certificate_for_an_address_is_good_for_that_address(authority: Authority) -> None:
    async def story() -> None:
        async with serving(answer(), tls=authority.server(HERE)) as server:
            by = fetcher(f"{HERE}:{server.port}", tls=authority.trusted)
            assert (await get(by, f"https://{HERE}:{server.port}/")).data == PICTURE

    asyncio.run(story())


def test_without_a_test_authority_the_public_ones_are_asked(authority: Authority) -> None:
    async def story() -> None:
        async with serving(answer(), tls=authority.server(HERE)) as server:
            with pytest.raises(FetchFailed, match="certificate"):
                await get(fetcher(f"{HERE}:{server.port}"), f"https://{HERE}:{server.port}/")

    asyncio.run(story())


def test_a_broken_record_after_the_handshake_has_failed(authority: Authority) -> None:
    context = authority.server(HERE)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        coming, going = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(coming, going, server_side=True)
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                writer.write(going.read())
                coming.write(await reader.read(65536))
        writer.write(going.read() + b"\x17\x03\x03\x00\x20" + bytes(32))  # application data of a wrong key
        await reader.read()
        writer.close()

    async def story() -> None:
        listener = await asyncio.start_server(serve, HERE, 0)
        port = listener.sockets[0].getsockname()[1]
        with pytest.raises(FetchFailed, match="broke off"):
            await get(fetcher(f"{HERE}:{port}", tls=authority.trusted), f"https://{HERE}:{port}/")
        listener.close()

    asyncio.run(story())


def test_a_redirect_from_https_to_http_is_refused_before_it_is_asked(authority: Authority) -> None:
    async def story() -> None:
        async with (
            serving(answer()) as plain,
            serving(redirect(f"http://{HERE}:{plain.port}/"), tls=authority.server(HERE)) as secure,
        ):
            by = fetcher(f"{HERE}:{plain.port}", f"{HERE}:{secure.port}", tls=authority.trusted)
            with pytest.raises(UrlNotAllowed, match="http, after https"):
                await get(by, f"https://{HERE}:{secure.port}/")
            assert plain.asked == []

    asyncio.run(story())


def test_a_redirect_from_http_to_https_is_followed(authority: Authority) -> None:
    async def story() -> None:
        async with (
            serving(answer(), tls=authority.server(HERE)) as secure,
            serving(redirect(f"https://{HERE}:{secure.port}/")) as plain,
        ):
            by = fetcher(f"{HERE}:{plain.port}", f"{HERE}:{secure.port}", tls=authority.trusted)
            assert (await get(by, f"http://{HERE}:{plain.port}/")).data == PICTURE

    asyncio.run(story())


# ---- settings, resolver, logs ----


def test_the_settings_become_policy_and_limits() -> None:
    settings = Settings.model_validate(
        {
            "url_allow": ["images.internal"],
            "url_ports": [443],
            "limits": {"fetch_s": 7, "fetch_connect_s": 2, "fetch_bytes_per_s": 300, "fetch_redirects": 1},
        }
    )
    by = Fetcher.of(settings)
    assert by.policy.allow == {("images.internal", None)}
    assert by.policy.ports == {443}
    assert by.limits == FetchLimits(2, 7, 300, redirects=1)
    assert Fetcher.of(Settings()).limits == FetchLimits(5, 15, 10_000, 2, 3) == FetchLimits()


def test_the_systems_resolver_gives_every_address_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(host: str, port: None, **more: object) -> list[tuple[object, ...]]:
        assert host == "pictures.example"
        four, six = ("8.8.8.8", 0), ("fe80::1%lo", 0, 0, 1)
        return [(socket.AF_INET, 1, 6, "", four), (socket.AF_INET6, 1, 6, "", six), (socket.AF_INET, 2, 17, "", four)]

    monkeypatch.setattr(socket, "getaddrinfo", found)
    assert [str(one) for one in asyncio.run(SystemResolver()("pictures.example"))] == ["8.8.8.8", "fe80::1%lo"]


def test_localhost_is_looked_up_by_the_system_and_refused_unless_it_is_listed() -> None:
    async def story() -> None:
        found = await SystemResolver()("localhost")
        assert found
        assert all(address.is_loopback for address in found)
        async with serving(answer()) as server:
            by = Fetcher(fetcher(f"localhost:{server.port}").policy)
            assert (await get(by, f"http://localhost:{server.port}/")).data == PICTURE

    asyncio.run(story())


def test_logs_have_the_request_and_no_query(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        async with serving(answer(), answer("404 No", b"page")) as server:
            by = fetcher(f"{HERE}:{server.port}")
            url = f"http://{HERE}:{server.port}/a.jpg?X-Amz-Signature=sesame"
            await get(by, url, request_id="r-17")
            with pytest.raises(FetchFailed):
                await get(by, url, request_id="r-18")
        with pytest.raises(UrlNotAllowed):
            await get(by, "http://user:sesame@a.example/", request_id="r-19")

    with caplog.at_level(logging.INFO):
        asyncio.run(story())
    said = [record.getMessage() for record in caplog.records if record.name.startswith("mattehorn")]
    assert [line.split(" ")[:2] for line in said] == [
        ["url_fetched", "request_id=r-17"],
        ["url_refused", "request_id=r-18"],
        ["url_refused", "request_id=r-19"],
    ]
    assert "/a.jpg" in said[0]
    assert "sesame" not in caplog.text
