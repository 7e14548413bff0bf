"""Servers and callers that mean harm: the documented error each time, and nobody inside is asked."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable

import pytest

from mattehorn.errors import BodyTooLarge, FetchFailed, MattehornError, UrlNotAllowed
from mattehorn.fetch.fetch import Fetcher

from .servers import HERE, PICTURE, Names, answer, fetcher, get, redirect, serving
from .test_addresses import METADATA, REFUSED_4, REFUSED_6, edges

ADDRESSES = sorted({text for network in REFUSED_4 + REFUSED_6 for text in edges(network)} | set(METADATA))
MAPPED = sorted({f"::ffff:{text}" for network in REFUSED_4 for text in edges(network)})


def written(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def refuse(by: Fetcher, url: str, part: str = "not public") -> UrlNotAllowed:
    with pytest.raises(UrlNotAllowed, match=part) as refused:
        asyncio.run(get(by, url))
    assert refused.value.data == {"field": "image_url"}
    return refused.value


@pytest.mark.parametrize("address", ADDRESSES + MAPPED)
def test_an_address_inside_is_refused_as_literal_and_as_name_and_never_connected_to(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mattehorn.fetch.fetch.exchange", None)  # any attempt would be another error
    names = Names(evil__example=[[address], ["8.8.8.8"]], mixed__example=[["8.8.8.8", address]])
    by = fetcher(names=names)
    for host in (written(address), "evil.example", "mixed.example"):
        error = refuse(by, f"https://{host}/latest/meta-data/")
        assert address not in error.message
        assert "example" not in error.message
    assert names.asked == ["evil.example", "mixed.example"]


def test_an_address_inside_is_refused_as_a_redirects_target() -> None:
    async def story() -> None:
        hosts = [written(address) for address in ADDRESSES + MAPPED]
        async with serving(*(redirect(f"http://{host}/") for host in [*hosts, hosts[0]])) as server:
            by = fetcher(f"{HERE}:{server.port}")
            for _ in hosts:
                with pytest.raises(
                    UrlNotAllowed, match="redirects to a URL that leads to an address that is not public"
                ):
                    await get(by, f"http://{HERE}:{server.port}/")
            assert len(server.asked) == len(hosts)

    asyncio.run(story())


@pytest.mark.parametrize("address", METADATA)
def test_a_redirect_to_a_name_inside_is_refused(address: str) -> None:
    async def story() -> None:
        async with serving(redirect("//metadata.example/")) as server:
            names = Names(metadata__example=[[address]])
            with pytest.raises(UrlNotAllowed, match="redirects to a URL that leads to an address that is not public"):
                await get(fetcher(f"{HERE}:{server.port}", names=names), f"http://{HERE}:{server.port}/")

    asyncio.run(story())


@pytest.mark.parametrize(
    ("location", "part"),
    [
        ("file:///etc/passwd", "http:// or https://"),
        ("ftp://example.com/", "http:// or https://"),
        ("gopher://127.0.0.1:6379/_INFO", "http:// or https://"),
        ("http://user:pass@example.com/", "user"),
        ("http://2130706433/", "four decimal numbers"),
        ("http://127.1/", "four decimal numbers"),
        ("http://localhost/", "not public"),
        ("http://example.com:6379/", "port 6379"),
        ("http://[::1", "URL"),
        ("http://exam\tple.com/", "control"),
    ],
)
def test_a_redirect_to_what_is_not_fetched_is_refused(location: str, part: str) -> None:
    async def story() -> None:
        async with serving(redirect(location)) as server:
            with pytest.raises(UrlNotAllowed, match=f"image_url redirects to a URL that .*{part}"):
                await get(fetcher(f"{HERE}:{server.port}"), f"http://{HERE}:{server.port}/")

    asyncio.run(story())


@pytest.mark.parametrize(
    ("url", "part"),
    [
        *((f"http://{host}/", "four decimal") for host in ("2130706433", "0x7f.1", "0177.0.0.1", "127.1", "１２７.１")),
        *(
            (f"http://{host}/", "not public")
            for host in ("[::ffff:127.0.0.1]", "127.0.0.1.", "127。0。0。1", "localhost.")
        ),
        *((f"http://{host}/", "not public") for host in ("ⓛocalhost", "①②⑦.⓪.⓪.①", "１６９。２５４。１６９。２５４")),
        ("http://user:pass@example.com/", "user"),
        ("file:///etc/passwd", "http:// or https://"),
        ("http://example.com:22/", "port 22"),
        ("", "URL"),
    ],
)
def test_a_url_that_means_harm_is_refused_before_any_look_up(url: str, part: str) -> None:
    names = Names()
    refuse(fetcher(names=names), url, part)
    assert names.asked == []


def failing(
    *said: bytes | Callable[..., object], part: str, error: type[MattehornError] = FetchFailed, **limits: float
) -> None:
    """A fetch from a server that says `said` ends in `error`, whose message holds `part`."""

    async def story() -> None:
        async with serving(*said) as server:  # type: ignore[arg-type]
            with pytest.raises(error, match=part) as failed:
                await get(fetcher(f"{HERE}:{server.port}", **limits), f"http://{HERE}:{server.port}/")
        assert failed.value.data["field"] == "image_url"
        assert HERE not in failed.value.message

    asyncio.run(story())


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
def test_a_body_without_an_end_is_left_at_the_limit(head: bytes) -> None:
    sent = 0

    async def endless(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        piece = bytes(64 * 1024)
        piece = b"10000\r\n" + piece + b"\r\n" if b"chunked" in head else piece
        writer.write(head)
        while True:
            writer.write(piece)
            await writer.drain()
            sent += len(piece)

    failing(endless, part="more than 1000000 bytes", error=BodyTooLarge)
    assert sent < 50e6


def test_a_length_beyond_the_limit_is_refused_without_reading() -> None:
    async def only_says(writer: asyncio.StreamWriter) -> None:
        writer.write(answer(body=b"", length=2 * 10**6))
        await asyncio.sleep(60)

    failing(only_says, part="more than 1000000 bytes", error=BodyTooLarge)


def test_a_body_that_ends_before_its_length_has_failed() -> None:
    failing(answer(length=len(PICTURE) + 1), part="no whole HTTP answer")


def test_chunks_that_end_too_early_have_failed() -> None:
    failing(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n", part="no whole HTTP answer")


def test_what_comes_after_the_length_is_no_part_of_the_picture_nor_of_the_next() -> None:
    async def story() -> None:
        smuggled = answer(body=PICTURE + answer(body=b"smuggled"), length=len(PICTURE))
        async with serving(smuggled, answer(body=b"next")) as server:
            by = fetcher(f"{HERE}:{server.port}")
            assert (await get(by, f"http://{HERE}:{server.port}/")).data == PICTURE
            assert (await get(by, f"http://{HERE}:{server.port}/")).data == b"next"

    asyncio.run(story())


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "br", "deflate", "zstd", "gzip, identity", "x"])
def test_an_encoded_body_is_refused_and_not_unpacked(encoding: str) -> None:
    bomb = gzip.compress(bytes(10**7))
    failing(answer(body=bomb, Content_Encoding=encoding), part="content encoding")


def test_a_packed_file_comes_as_it_is() -> None:
    """Whether it is a picture, the decoder says."""
    bomb = gzip.compress(bytes(10**7))

    async def story() -> None:
        async with serving(answer(body=bomb, Content_Type="image/png")) as server:
            assert (await get(fetcher(f"{HERE}:{server.port}"), f"http://{HERE}:{server.port}/")).data == bomb

    asyncio.run(story())


async def _forever(writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(3600)


async def _drip(writer: asyncio.StreamWriter) -> None:
    writer.write(answer(body=b"", length=10**5))
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)


async def _stall(writer: asyncio.StreamWriter) -> None:
    writer.write(answer(length=10**5))
    await asyncio.sleep(3600)


async def _drip_headers(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X-A: b\r\n")
        await writer.drain()
        await asyncio.sleep(0.02)


async def _drip_early_answers(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("act", [_forever, _drip, _stall, _drip_headers, _drip_early_answers])
def test_a_server_that_takes_too_long_is_left(act: Callable[..., object]) -> None:
    failing(act, part="did not answer in time", total_s=0.4)


@pytest.mark.parametrize("act", [_drip, _stall])
def test_a_body_that_comes_too_slowly_is_left(act: Callable[..., object]) -> None:
    # 10 kB at once pay for a tenth of a second
    failing(act, part="less than 100000 bytes/s", bytes_per_s=100_000, grace_s=0.2)


@pytest.mark.parametrize(("size", "comes"), [(1, False), (99, False), (200, True)])  # a read may cut a chunk in two
def test_a_body_in_crumbs_is_left_before_it_costs_much(size: int, comes: bool) -> None:
    body = (b"%x\r\n%s\r\n" % (size, bytes(size))) * 1500
    said = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body + b"0\r\n\r\n"

    async def story() -> None:
        async with serving(said) as server:
            fetched = await get(fetcher(f"{HERE}:{server.port}"), f"http://{HERE}:{server.port}/")
            assert len(fetched.data) == size * 1500

    if comes:
        asyncio.run(story())
    else:
        failing(said, part="pieces too small")


def test_a_body_that_keeps_the_pace_is_read_however_long_it_takes() -> None:
    async def steady(writer: asyncio.StreamWriter) -> None:
        writer.write(answer(body=b"", length=10_000))
        for _ in range(10):
            writer.write(bytes(1000))
            await writer.drain()
            await asyncio.sleep(0.15)

    async def story() -> None:
        async with serving(steady) as server:
            # the grace alone would not do: every thousand bytes give it 100 s more
            by = fetcher(f"{HERE}:{server.port}", bytes_per_s=10.0, grace_s=1.0)
            assert len((await get(by, f"http://{HERE}:{server.port}/")).data) == 10_000

    asyncio.run(story())


def test_redirects_share_one_time() -> None:
    async def slow_redirect(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.3)
        writer.write(redirect("/again"))

    failing(slow_redirect, part="did not answer in time", total_s=0.5)


def test_the_requests_own_deadline_is_kept() -> None:
    async def story() -> None:
        async with serving(_forever) as server:
            for left in (0.2, 0.0, -1.0):
                with pytest.raises(FetchFailed, match="in time"):
                    await get(fetcher(f"{HERE}:{server.port}"), f"http://{HERE}:{server.port}/", within_s=left)

    asyncio.run(story())


def test_a_name_server_that_never_answers_is_left() -> None:
    async def never(host: str) -> list[object]:
        await asyncio.sleep(3600)
        return []

    by = fetcher(connect_s=0.1)
    by._resolve = never  # type: ignore[assignment]
    with pytest.raises(FetchFailed, match="no address"):
        asyncio.run(get(by, "http://a.example/"))


@pytest.mark.parametrize("names", [Names(), Names(a__example=[[]])])
def test_a_name_without_an_address_has_failed(names: Names) -> None:
    with pytest.raises(FetchFailed, match="no address") as failed:
        asyncio.run(get(fetcher(names=names), "http://a.example/"))
    assert "a.example" not in failed.value.message


def test_a_closed_port_has_failed() -> None:
    async def story() -> None:
        async with serving(answer()) as server:
            port = server.port
        with pytest.raises(FetchFailed, match="cannot be reached"):
            await get(fetcher(f"{HERE}:{port}"), f"http://{HERE}:{port}/")

    asyncio.run(story())


def test_plain_http_on_a_tls_port_has_failed() -> None:
    async def story() -> None:
        listener = await asyncio.start_server(lambda reader, writer: writer.write(answer("400 Bad")), HERE, 0)
        port = listener.sockets[0].getsockname()[1]
        with pytest.raises(FetchFailed, match="certificate or TLS"):
            await get(fetcher(f"{HERE}:{port}"), f"https://{HERE}:{port}/")
        listener.close()

    asyncio.run(story())


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\x00\x01\x02",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 50_000 + b"\r\n",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 20_000 + answer(),
    ],
)
def test_an_answer_that_is_no_http_has_failed(said: bytes) -> None:
    failing(said, part="no whole HTTP answer|broke off")


def test_an_upgrade_and_a_redirect_to_nowhere_have_failed() -> None:
    failing(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nraw", part="answered 101|no whole HTTP answer")
    failing(answer("302 Found", b""), part="answered 302 and no Location")


def test_an_empty_picture_has_failed() -> None:
    failing(answer(body=b""), part="empty body")
