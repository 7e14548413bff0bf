"""Web sites on the loopback for tests whose client is not asyncio's: real servers in threads, scripted by path."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HERE = "127.0.0.1"
ENDLESS, HELD = b"endless", b"held"  # bodies that mean: never end; wait until `Site.free` is set, then be PICTURE
CUT, BOASTS = b"cut", b"boasts"  # bodies that lie: break off before their announced end; announce a terabyte
PIECE = bytes(2**18)


_ANNOUNCED = {CUT: 10_000, BOASTS: 10**12}


@dataclass
class Site:
    """`pages` maps a path to a body, or to a Location when it is text. `asked` are the paths in order."""

    pages: dict[str, bytes | str]
    port: int = 0
    picture: bytes = b""
    asked: list[str] = field(default_factory=list)
    free: threading.Event = field(default_factory=threading.Event)
    broken_off: threading.Event = field(default_factory=threading.Event)  # somebody stopped reading what is endless

    @property
    def place(self) -> str:
        """As `url_allow` lists it."""
        return f"{HERE}:{self.port}"

    def url(self, path: str) -> str:
        return f"http://{self.place}{path}"


@contextlib.contextmanager
def site(picture: bytes, **pages: bytes | str) -> Iterator[Site]:
    """One whose every path ends in `picture` but those of `pages`, named without their slash."""
    served = Site({f"/{name}": page for name, page in pages.items()}, picture=picture)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.asked.append(self.path)
            page = served.pages.get(self.path.partition("?")[0], picture)
            if page is HELD:
                served.free.wait(60)
                page = picture
            with contextlib.suppress(ConnectionError):
                self._say(page)

        def _say(self, page: bytes | str) -> None:
            if isinstance(page, str):
                status = int(page) if page.isdigit() else 302
                self.send_response(status)
                self.send_header("Content-Length", "0")
                if status == 302:
                    self.send_header("Location", page)
                self.end_headers()
                return
            self.send_response(200)
            if page is not ENDLESS:
                self.send_header("Content-Length", str(_ANNOUNCED.get(page, len(page))))
            self.end_headers()
            if page is not ENDLESS:
                self.wfile.write(page)
                return
            try:
                while True:
                    self.wfile.write(PIECE)
            except ConnectionError:
                served.broken_off.set()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: pytest's output is for failures."""

    server = ThreadingHTTPServer((HERE, 0), Handler)
    server.daemon_threads = True
    served.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        served.free.set()
        server.shutdown()
        server.server_close()
        thread.join(10)
