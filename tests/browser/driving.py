"""What a person does with the page, and what they see: for the browser tests."""

from __future__ import annotations

import base64
import time
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.browser.conftest import RED
from tests.service import InProcessService

CENTRE = (0.5, 0.5)
CORNER = (0.05, 0.05)

_PIXEL = """([id, x, y]) => {
  const image = document.getElementById(id);
  const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
  const context = canvas.getContext('2d');
  context.drawImage(image, 0, 0);
  return [...context.getImageData(Math.floor(x * canvas.width), Math.floor(y * canvas.height), 1, 1).data];
}"""

_GIVE = """([type, kind, files]) => {
  const transfer = new DataTransfer();
  for (const [name, mime, text] of files) {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    transfer.items.add(new File([bytes], name, { type: mime }));
  }
  const init = { bubbles: true, cancelable: true };
  const event = kind === 'paste'
    ? new ClipboardEvent(type, { ...init, clipboardData: transfer })
    : new DragEvent(type, { ...init, dataTransfer: transfer });
  document.body.dispatchEvent(event);
}"""


def pixel(page: Page, at: tuple[float, float], image: str = "result") -> tuple[int, ...]:
    """RGBA of the picture on show, at a share of its width and height."""
    return tuple(page.evaluate(_PIXEL, [image, *at]))


def give(page: Page, event: str, kind: str, *files: tuple[str, str, bytes]) -> None:
    """A drop or paste of (name, type, bytes), as the browser would report it."""
    page.evaluate(_GIVE, [event, kind, [(name, mime, base64.b64encode(data).decode()) for name, mime, data in files]])


def pick(page: Page, *photos: Path) -> None:
    page.locator("#file").set_input_files([str(path) for path in photos])


def choose(page: Page, name: str, value: str) -> None:
    """Selects a radio button by its label, as a person does."""
    page.locator(f"label:has(input[name={name}][value={value}])").click()


def wait_done(page: Page) -> None:
    """Until the answer that the options ask for is on show."""
    expect(page.locator("#download")).to_be_enabled()


def wait_jobs(service: InProcessService, count: int) -> None:
    until = time.monotonic() + 10
    while len(service.jobs) < count:
        assert time.monotonic() < until, f"{len(service.jobs)} of {count} requests came"
        time.sleep(0.02)


def assert_cut_out(page: Page) -> None:
    wait_done(page)
    assert pixel(page, CENTRE) == (*RED, 255)
    assert pixel(page, CORNER)[3] == 0
