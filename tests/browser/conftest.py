"""A Chromium that the system has, the application in this process, and a page that may do nothing forbidden."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

from tests.service import InProcessService, serving
from tests.system_parts import find_tool

WAIT_MS = 15_000  # an answer takes some tenths of a second; a loaded CI machine is given time, a fault fails
WATCH = """
window.violations = [];
addEventListener('securitypolicyviolation', (e) => violations.push(`${e.violatedDirective}: ${e.blockedURI}`));
window.liveUrls = new Set();
const create = URL.createObjectURL, revoke = URL.revokeObjectURL;
URL.createObjectURL = (blob) => { const url = create(blob); liveUrls.add(url); return url; };
URL.revokeObjectURL = (url) => { liveUrls.delete(url); revoke(url); };
"""


@dataclass
class Watch:
    """What a page did that a test may want to know. `refusals`: requests that the test lets fail."""

    base: str
    console: list[str] = field(default_factory=list)
    strange_requests: list[str] = field(default_factory=list)
    refusals: int = 0

    def heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.console.append(message.text)

    def requested(self, request: Request) -> None:
        if not request.url.startswith((self.base, "blob:" + self.base, "data:")):
            self.strange_requests.append(request.url)

    def check(self, page: Page) -> None:
        """Nothing forbidden and nothing unexpected happened. Chromium itself logs every failed request."""
        refused = [text for text in self.console if text.startswith("Failed to load resource: ")]
        assert [text for text in self.console if text not in refused] == []
        assert len(refused) == self.refusals
        assert page.evaluate("window.violations") == []
        assert self.strange_requests == []


@pytest.fixture(scope="package")
def application(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, InProcessService]]:
    service = InProcessService(tmp_path_factory.mktemp("results"))
    with serving(service) as url:
        yield url, service


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Closed after this folder: Playwright keeps an event loop, under which other tests' asyncio.run would fail."""
    chromium = find_tool("chromium")
    with sync_playwright() as playwright:
        # --no-sandbox: CI runs as root in a container, where Chromium's sandbox cannot start
        browser = playwright.chromium.launch(executable_path=os.fspath(chromium), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def service(application: tuple[str, InProcessService]) -> Iterator[InProcessService]:
    """The service behind the page, with no jobs yet and nothing held."""
    service = application[1]
    service.jobs.clear()
    yield service
    service.held.set()


OpenPage = Callable[..., Page]


@pytest.fixture
def open_page(
    application: tuple[str, InProcessService], service: InProcessService, browser: Browser
) -> Iterator[OpenPage]:
    """Opens a path in a fresh context; at the end every opened page must have behaved. `page.watch` is its Watch."""
    base = application[0]
    opened: list[tuple[Page, Watch]] = []

    def open_(path: str = "/", **context: Any) -> Page:
        page = browser.new_context(
            **{"locale": "en-GB", "viewport": {"width": 1200, "height": 800}, **context}
        ).new_page()
        page.set_default_timeout(WAIT_MS)
        page.add_init_script(WATCH)
        watch = Watch(base)
        page.on("console", watch.heard)
        page.on("pageerror", lambda error: watch.console.append(f"pageerror: {error}"))
        page.on("request", watch.requested)
        page.goto(base + path)
        opened.append((page, watch))
        page.watch = watch  # type: ignore[attr-defined]
        return page

    yield open_
    for page, watch in opened:
        watch.check(page)
        page.context.close()


@pytest.fixture
def page(open_page: OpenPage) -> Page:
    """The page at `/` in English, ready for a photo."""
    page = open_page()
    page.locator("#readiness[data-level=ready]").wait_for()
    return page


RED = (200, 30, 30)
GREY = (225, 225, 225)


def make_photo(kind: str = "PNG", width: int = 320, height: int = 200) -> bytes:
    """A red block on plain grey: the left and right quarter and the outer fifth above and below are background."""
    pixels = np.full((height, width, 3), GREY, np.uint8)
    pixels[height // 5 : -height // 5, width // 4 : -width // 4] = RED
    return encoded(pixels, kind)


def encoded(pixels: np.ndarray[Any, Any], kind: str = "PNG") -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, kind)
    return data.getvalue()


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "red block.png"
    path.write_bytes(make_photo())
    return path
