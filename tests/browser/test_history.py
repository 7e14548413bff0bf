"""The page's history: a result is kept, found, run again with other options, saved and deleted."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import make_photo
from tests.browser.driving import assert_cut_out, choose, pick, wait_done
from tests.service import InProcessService

pytestmark = pytest.mark.browser


def keep(page: Page, path: Path) -> None:
    pick(page, path)
    wait_done(page)
    page.get_by_role("button", name="Keep in the history").click()
    expect(page.locator("#keep")).to_have_text("Kept")
    expect(page.locator("#keep")).to_be_disabled()


def entries(page: Page) -> Locator:
    return page.locator("#history-list li")


def test_what_was_kept_is_found_run_again_saved_and_deleted(
    page: Page, photo: Path, tmp_path: Path, service: InProcessService
) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(f"{request.method} {request.url.partition('/v1/')[2]}"))
    other = tmp_path / "blue mug.png"
    other.write_bytes(make_photo(width=100, height=80))
    keep(page, photo)
    assert not [url for url in asked if "results" in url]  # nothing is listed before it is asked for
    page.get_by_text("History", exact=True).click()
    expect(entries(page)).to_have_count(1)
    keep(page, other)
    expect(entries(page).locator(".history-name")).to_have_text(["blue mug.png", "red block.png"])
    expect(entries(page).first).to_contain_text("100 × 80 px")
    entries(page).first.scroll_into_view_if_needed()
    expect(entries(page).first.locator("canvas")).to_be_visible()

    page.get_by_label("Name or SKU").fill("RED")
    expect(entries(page).locator(".history-name")).to_have_text(["red block.png"])
    page.locator("#history-search").get_by_label("From").fill("2999-01-01")
    expect(page.locator("#history-note")).to_have_text("Nothing kept is like that.")
    page.locator("#history-search").get_by_label("From").fill("2001-01-01")
    expect(entries(page)).to_have_count(1)

    service.jobs.clear()
    with page.expect_request("**/v1/mattes") as sent:
        entries(page).get_by_role("button", name="Run again").click()
    assert 'name="result_id"' in (sent.value.post_data or "")
    expect(page.locator("#facts")).to_contain_text("320 × 200 px")
    assert_cut_out(page)
    choose(page, "background", "color")
    expect(page.locator("#facts")).to_contain_text("JPG")
    assert [job.options.kind for job in service.jobs] == ["cutout", "composite"]
    assert {job.photo for job in service.jobs} == {photo.read_bytes()}
    assert asked.count("POST mattes") == 6  # two photos, each again to be kept; and the kept one twice
    with page.expect_download() as download:
        entries(page).get_by_role("button", name="Download").click()
    assert download.value.suggested_filename == "red block_matte.png"
    assert Image.open(download.value.path()).size == (320, 200)

    page.once("dialog", lambda dialog: dialog.dismiss())
    entries(page).get_by_role("button", name="Delete").click()
    expect(entries(page)).to_have_count(1)
    page.once("dialog", lambda dialog: dialog.accept())
    entries(page).get_by_role("button", name="Delete").click()
    expect(entries(page)).to_have_count(0)
    page.get_by_label("Name or SKU").fill("")
    expect(entries(page).locator(".history-name")).to_have_text(["blue mug.png"])
    page.watch.refusals = 1  # type: ignore[attr-defined]  # the photo of a deleted result goes out itself
    choose(page, "background", "transparent")
    choose(page, "background", "gradient")
    wait_done(page)
    expect(page.locator("#failure")).to_be_hidden()
    for key in list(service.store.list(".results/of/")):
        service.store.delete(key)  # other tests begin without
