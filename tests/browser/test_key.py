"""The page of a service with keys on: it asks for one, keeps it for its tab, and asks again when it is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import OpenPage
from tests.browser.driving import assert_cut_out, pick
from tests.doors import new_key
from tests.service import InProcessService, serving

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("locked")


@pytest.fixture(scope="module")
def keys(folder: Path) -> dict[str, str]:
    """A key by what it is for."""
    return {scope: new_key(folder / "keys.json", scope, scope) for scope in ("matte", "jobs")}


@pytest.fixture(scope="module")
def application(folder: Path, keys: dict[str, str]) -> Iterator[tuple[str, InProcessService]]:
    """In place of the folder's own, which has no keys."""
    service = InProcessService(folder / "results", keys_file=str(folder / "keys.json"))
    with serving(service) as url:
        yield url, service


def enter(page: Page, text: str) -> None:
    page.get_by_label("API key").fill(text)
    page.get_by_role("button", name="Use this key").click()


def test_the_page_asks_for_a_key_and_keeps_it_for_its_tab(
    open_page: OpenPage, photo: Path, keys: dict[str, str]
) -> None:
    page = open_page()
    page.watch.refusals = 4  # type: ignore[attr-defined]  # two photos, and the recipes before each key that works
    pick(page, photo)
    expect(page.get_by_role("alert")).to_contain_text("This service needs an API key")
    expect(page.locator("#retry")).to_be_hidden()
    enter(page, "mh_wrong")
    expect(page.locator("#failure")).to_have_attribute("data-code", "invalid_key")
    enter(page, f" {keys['matte']} ")
    assert_cut_out(page)
    expect(page.locator("#failure")).to_be_hidden()
    expect(page.locator("#recipes")).to_be_visible()
    assert page.evaluate("localStorage.length + document.cookie.length") == 0
    page.reload()
    pick(page, photo)
    assert_cut_out(page)


def test_the_history_of_a_key_is_asked_for_with_it(
    open_page: OpenPage, photo: Path, keys: dict[str, str], folder: Path
) -> None:
    page = open_page()
    page.watch.refusals = 2  # type: ignore[attr-defined]  # the recipes and the history
    page.get_by_text("History", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("This service needs an API key")
    enter(page, keys["matte"])
    expect(page.locator("#history-note")).to_contain_text("Nothing is kept yet")
    pick(page, photo)
    assert_cut_out(page)
    page.get_by_role("button", name="Keep in the history").click()
    expect(page.locator("#history-list li")).to_have_count(1)
    page.locator("#history-list li").scroll_into_view_if_needed()
    expect(page.locator("#history-list canvas")).to_be_visible()
    assert [path.parent.name for path in folder.glob("results/.results/of/*/*.json")] == ["matte"]


def test_a_key_for_other_work_is_told_in_the_visitors_language(
    open_page: OpenPage, photo: Path, keys: dict[str, str]
) -> None:
    page = open_page(locale="zh-CN")
    page.watch.refusals = 3  # type: ignore[attr-defined]
    pick(page, photo)
    expect(page.get_by_role("alert")).to_contain_text("此服务需要 API 密钥")
    page.get_by_label("API 密钥").fill(keys["jobs"])
    page.get_by_role("button", name="使用此密钥").click()
    expect(page.get_by_role("alert")).to_contain_text("此密钥无权进行该操作")
    expect(page.locator("#key-form")).to_be_visible()
