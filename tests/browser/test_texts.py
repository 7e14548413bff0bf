"""Languages, narrow screens and the keyboard; the docs page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import OpenPage
from tests.browser.driving import choose, pick, wait_done

pytestmark = pytest.mark.browser

WEB = Path(__file__).parents[2] / "web"
_IN_HTML = re.compile(r'data-i18n(?:-[a-z-]+)?="([\w.-]+)"')
_IN_SCRIPT = re.compile(r'"((?:view|busy|hint|file|fact|failure|start|ready|background|key|history)\.[\w.-]+)"')


def test_chinese_is_chosen_remembered_and_told_to_the_browser(open_page: OpenPage, photo: Path) -> None:
    page = open_page()
    expect(page.locator("html")).to_have_attribute("lang", "en")
    pick(page, photo)
    wait_done(page)
    page.get_by_role("button", name="中文").click()
    expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
    for text in ("透明度蒙版", "抠图结果", "去除白边", "前景色估计", "320 × 200 像素", "就绪"):
        expect(page.get_by_text(text).first).to_be_attached()
    expect(page.get_by_role("button", name="下载")).to_be_visible()
    page.reload()
    expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
    page.get_by_role("button", name="English").click()
    expect(page.get_by_role("button", name="Choose a photo")).to_be_visible()


def test_a_chinese_browser_begins_in_chinese(open_page: OpenPage) -> None:
    page = open_page(locale="zh-CN")
    expect(page.get_by_role("button", name="选择照片")).to_be_visible()
    assert "抠图" in page.title()


def test_both_languages_have_the_same_texts_with_the_same_gaps(page: Page) -> None:
    texts = page.evaluate("import('/static/i18n.js').then((m) => m.texts)")
    assert texts["en"].keys() == texts["zh"].keys()
    gaps = {
        language: {key: sorted(re.findall(r"{\w+}", text)) for key, text in texts[language].items()}
        for language in texts
    }
    assert gaps["en"] == gaps["zh"]
    named = _IN_HTML.findall((WEB / "index.html").read_text("utf-8"))
    for source in (WEB / "static").glob("*.js"):
        named += _IN_SCRIPT.findall(source.read_text("utf-8"))
    assert len(named) > 60
    assert set(named) - texts["en"].keys() == set()


def test_every_reason_of_the_service_has_words(page: Page) -> None:
    texts = page.evaluate("import('/static/i18n.js').then((m) => m.texts)")["en"]
    reasons = [
        "empty",
        "cut_by_border",
        "mostly_semi_transparent",
        "fragmented",
        "holes",
        "low_edge_contrast",
        "unstable",
    ]
    warnings = ["animated_first_frame", "exif_broken", "icc_broken", "icc_too_large", "text_too_large"]
    assert {f"quality.{name}" for name in reasons} | {f"warning.{name}" for name in warnings} <= texts.keys()


@pytest.mark.parametrize("width", [360, 768])
def test_nothing_is_wider_than_the_screen(open_page: OpenPage, photo: Path, width: int) -> None:
    page = open_page(viewport={"width": width, "height": 740}, locale="en-GB")
    pick(page, photo)
    wait_done(page)
    for kind in ("color", "gradient", "blur", "picture"):
        choose(page, "background", kind)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_text("History", exact=True).click()
    expect(page.locator("#history-search")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_keyboard_alone_reaches_everything(page: Page, photo: Path) -> None:
    page.keyboard.press("Tab")
    reached = []
    for _ in range(4):
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.className"))
        page.keyboard.press("Tab")
    assert reached == ["brand", "language", "quiet", "pick"]
    pick(page, photo)
    wait_done(page)
    page.locator("input[name=view][value=result]").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#stage")).to_have_attribute("data-view", "alpha")
    wait_done(page)
    names = set()
    for _ in range(20):
        page.keyboard.press("Tab")
        names.add(page.evaluate("document.activeElement.name || document.activeElement.id"))
    assert {"zoom", "background", "shadow", "erode_px", "refine", "foreground", "format", "download"} <= names


def test_the_docs_page_lists_the_operations_from_our_own_files(open_page: OpenPage) -> None:
    page = open_page("/docs")
    page.locator(".opblock").first.wait_for()
    listed = page.locator(".opblock .opblock-summary-path").all_inner_texts()
    assert "/v1/mattes" in [path.replace("\u200b", "") for path in listed]
    page.locator("#operations-mattes-create_matte_v1_mattes_post .opblock-summary-control").click()
    expect(page.get_by_text("background_gradient").first).to_be_visible()


def test_a_photo_can_be_posted_from_the_docs_page(open_page: OpenPage, photo: Path) -> None:
    page = open_page("/docs")
    operation = page.locator("#operations-mattes-create_matte_v1_mattes_post")
    operation.locator(".opblock-summary-control").click()
    operation.locator("input[type=file]").first.set_input_files(photo)
    with page.expect_response("**/v1/mattes") as answered:
        operation.get_by_role("button", name="Execute").click()
    assert answered.value.status == 200, answered.value.text()
    assert answered.value.headers["content-type"] == "image/png"
    expect(operation.locator(".live-responses-table img")).to_be_visible()
