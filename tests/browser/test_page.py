"""The page at `/` in a real Chromium: a photo comes in, its views, its file, and what can go wrong."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, Route, expect

from tests.browser.conftest import RED, OpenPage, make_photo
from tests.browser.driving import CENTRE, CORNER, assert_cut_out, choose, give, pick, pixel, wait_done
from tests.service import InProcessService

pytestmark = pytest.mark.browser


def test_a_picked_photo_becomes_a_cutout(page: Page, photo: Path) -> None:
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose a photo").click()
    chooser.value.set_files(photo)
    assert_cut_out(page)
    expect(page.locator("#facts")).to_contain_text("320 × 200 px")
    expect(page.locator("#facts")).to_contain_text("PNG")
    expect(page.locator("#facts")).to_contain_text("fake@1")
    expect(page.locator("#facts")).to_contain_text(re.compile(r"Quality \d+ %"))


def test_a_dropped_photo_becomes_a_cutout(page: Page) -> None:
    give(page, "dragenter", "drag", ("a.png", "image/png", b""))
    expect(page.locator("#drop-veil")).to_be_visible()
    give(page, "drop", "drag", ("a.png", "image/png", make_photo()))
    expect(page.locator("#drop-veil")).to_be_hidden()
    assert_cut_out(page)


def test_a_pasted_photo_becomes_a_cutout(page: Page) -> None:
    give(page, "paste", "paste", ("image.png", "image/png", make_photo()))
    assert_cut_out(page)


def test_a_paste_without_a_photo_says_so(page: Page) -> None:
    give(page, "paste", "paste")
    expect(page.locator("#hint")).to_contain_text("No photo was in there")
    page.get_by_role("button", name="Understood").click()
    expect(page.locator("#hint")).to_be_hidden()


def test_of_several_photos_the_first_is_taken_and_that_is_said(page: Page) -> None:
    files = [(f"{name}.png", "image/png", make_photo()) for name in "abc"]
    give(page, "drop", "drag", *files)
    expect(page.locator("#hint")).to_contain_text("3 photos came")
    expect(page.locator("#hint")).to_contain_text("a.png")
    assert_cut_out(page)


def test_the_alpha_view_shows_and_saves_the_matte(page: Page, photo: Path) -> None:
    pick(page, photo)
    wait_done(page)
    choose(page, "view", "alpha")
    expect(page.locator("#download")).to_have_text("Download alpha matte")
    wait_done(page)
    assert pixel(page, CENTRE, "alpha") == (255, 255, 255, 255)
    assert pixel(page, CORNER, "alpha") == (0, 0, 0, 255)
    with page.expect_download() as download:
        page.locator("#download").click()
    assert download.value.suggested_filename == "red block_alpha.png"
    assert Image.open(download.value.path()).mode == "L"


def test_the_result_is_asked_for_once_however_often_the_view_changes(
    page: Page, photo: Path, service: InProcessService
) -> None:
    pick(page, photo)
    wait_done(page)
    for view in ("alpha", "result", "compare", "alpha", "result"):
        choose(page, "view", view)
        wait_done(page)
    assert [job.options.kind for job in service.jobs] == ["cutout", "alpha"]


def compare(page: Page, photo: Path) -> Any:
    pick(page, photo)
    wait_done(page)
    choose(page, "view", "compare")
    divider = page.get_by_role("slider", name="Divider between original and result")
    expect(divider).to_have_attribute("aria-valuenow", "50")
    return divider


def result_from(page: Page) -> float:
    """Where the result begins, as a share of the frame's width, from what the browser really clips."""
    inset = page.locator("#result-layer").evaluate("(e) => getComputedStyle(e).clipPath")
    found = re.fullmatch(r"inset\(0px 0px 0px ([\d.]+)%\)", inset)
    assert found, inset
    return float(found[1]) / 100


def test_the_divider_follows_the_mouse(page: Page, photo: Path) -> None:
    divider = compare(page, photo)
    assert result_from(page) == 0.5
    box = page.locator("#frame").bounding_box()
    assert box
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 2, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 4, y, steps=4)
    page.mouse.up()
    page.mouse.move(box["x"] + box["width"] * 0.9, y)  # let go: it stays
    expect(divider).to_have_attribute("aria-valuenow", "25")
    expect(divider).to_have_attribute("aria-valuetext", "25 % original")
    assert result_from(page) == pytest.approx(0.25, abs=0.01)


def test_the_divider_follows_the_keyboard_and_stops_at_the_ends(page: Page, photo: Path) -> None:
    divider = compare(page, photo)
    divider.focus()
    for keys, expected in (
        ("ArrowLeft", "48"),
        ("Shift+ArrowRight", "58"),
        ("Home", "0"),
        ("ArrowLeft", "0"),
        ("PageUp", "10"),
        ("End", "100"),
    ):
        page.keyboard.press(keys)
        expect(divider).to_have_attribute("aria-valuenow", expected)
    assert result_from(page) == 1


def test_the_divider_follows_a_finger(open_page: OpenPage, photo: Path) -> None:
    page = open_page(has_touch=True, viewport={"width": 390, "height": 800})
    divider = compare(page, photo)
    box = page.locator("#frame").bounding_box()
    assert box
    page.touchscreen.tap(box["x"] + box["width"] * 0.75, box["y"] + box["height"] / 2)
    expect(divider).to_have_attribute("aria-valuenow", "75")


def test_the_download_is_the_answer_under_its_name(page: Page, photo: Path) -> None:
    pick(page, photo)
    wait_done(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    assert download.value.suggested_filename == "red block_matte.png"
    saved = np.asarray(Image.open(download.value.path()))
    assert saved.shape == (200, 320, 4)
    assert saved[100, 160].tolist() == [*RED, 255]
    assert saved[4, 4].tolist() == [0, 0, 0, 0]


def test_a_text_file_is_refused_with_what_to_do(page: Page, tmp_path: Path) -> None:
    page.watch.refusals = 1  # type: ignore[attr-defined]
    notes = tmp_path / "notes.jpg"
    notes.write_text("Not a photo.")
    pick(page, notes)
    failure = page.get_by_role("alert")
    expect(failure).to_contain_text("This is not a photo we can read")
    expect(failure).to_contain_text("Send JPG, PNG")
    expect(failure).to_contain_text("request ")  # its id, for whoever runs the service
    expect(page.locator("#failure")).to_have_attribute("data-code", "unsupported_image")
    expect(page.locator("#download")).to_be_disabled()
    give(page, "drop", "drag", ("a.png", "image/png", make_photo()))
    assert_cut_out(page)
    expect(failure).to_be_hidden()


def test_a_busy_service_says_when_and_trying_again_works(page: Page, photo: Path) -> None:
    page.watch.refusals = 1  # type: ignore[attr-defined]
    error = {"code": "overloaded", "message": "40 pictures are in work here.", "retry_after_s": 3}

    def refuse(route: Route) -> None:
        route.fulfill(status=429, json={"error": error})

    page.route("**/v1/mattes", refuse)
    pick(page, photo)
    expect(page.get_by_role("alert")).to_contain_text("The service is busy")
    expect(page.get_by_role("alert")).to_contain_text("Try again in 3 s.")
    page.unroute("**/v1/mattes")
    page.get_by_role("button", name="Try again").click()
    assert_cut_out(page)
    expect(page.locator("#failure")).to_be_hidden()


def test_a_lost_connection_is_told_and_keeps_the_last_result(page: Page, photo: Path) -> None:
    page.watch.refusals = 1  # type: ignore[attr-defined]
    pick(page, photo)
    wait_done(page)
    page.route("**/v1/mattes", lambda route: route.abort())
    choose(page, "background", "color")
    expect(page.get_by_role("alert")).to_contain_text("The connection ended")
    expect(page.get_by_role("alert")).to_contain_text("The last result stays on show.")
    assert pixel(page, CORNER)[3] == 0


def test_a_photo_that_the_browser_cannot_show_is_cut_out_all_the_same(page: Page, tmp_path: Path) -> None:
    scan = tmp_path / "scan.tiff"
    scan.write_bytes(make_photo("TIFF"))
    pick(page, scan)
    assert_cut_out(page)
    choose(page, "view", "compare")
    expect(page.locator("#no-preview")).to_be_visible()
    expect(page.locator("#no-preview")).to_contain_text("this browser cannot show scan.tiff")


def test_object_urls_are_given_back(page: Page, photo: Path) -> None:
    for _ in range(2):
        pick(page, photo)
        wait_done(page)
        page.locator("select[name=refine]").select_option("none")
        wait_done(page)
        page.locator("select[name=refine]").select_option("guided")
        wait_done(page)
    assert page.evaluate("liveUrls.size") == 2  # the original and the result
