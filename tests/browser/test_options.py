"""The options of the page at `/`: what they send, and what one sees of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from mattehorn.colour import BACKGROUND_TEMPLATES
from mattehorn.options import Options
from mattehorn.recipe.recipe import find_recipe
from mattehorn.scenes import SCENES
from tests.browser.conftest import RED, encoded
from tests.browser.driving import CENTRE, CORNER, assert_cut_out, choose, pick, pixel, wait_done, wait_jobs
from tests.service import InProcessService

pytestmark = pytest.mark.browser

BLUE = (30, 40, 200)


def test_a_background_colour_asks_again_and_fills_the_outside(page: Page, photo: Path) -> None:
    pick(page, photo)
    wait_done(page)
    choose(page, "background", "color")
    page.get_by_role("button", name="ID photo blue").click()
    expect(page.locator("#facts")).to_contain_text("JPG")
    wait_done(page)
    assert pixel(page, CORNER) == pytest.approx((0x43, 0x8E, 0xDB, 255), abs=4)  # JPEG's own error
    assert pixel(page, CENTRE) == pytest.approx((*RED, 255), abs=4)


def test_every_background_and_shadow_is_accepted(page: Page, photo: Path, service: InProcessService) -> None:
    pick(page, photo)
    wait_done(page)
    page.locator("select[name=format]").select_option("png")
    page.locator("#background-file").set_input_files(
        {"name": "back.png", "mimeType": "image/png", "buffer": encoded(np.full((64, 64, 3), BLUE, np.uint8))}
    )
    wait_done(page)
    for name, value in (("gradient", "night"), ("gradient", "own"), ("blur", None), ("picture", None)):
        choose(page, "background", name)
        if value:
            choose(page, "template", value)
        wait_done(page)
        assert pixel(page, CORNER)[3] == 255
    assert pixel(page, CORNER) == (*BLUE, 255)
    choose(page, "background", "transparent")
    page.locator("select[name=shadow]").select_option("drop")
    wait_done(page)
    sent = [job.options.model_dump(exclude_none=True) for job in service.jobs]
    assert {"night"} == {options["background_template"] for options in sent if "background_template" in options}
    assert any("background_gradient" in options for options in sent)
    assert any("background_blur_px" in options for options in sent)
    assert any(job.background for job in service.jobs)
    assert sent[-1]["shadow"] == "drop"
    assert sent[-1]["background_color"] == "#00000000"  # as every spelling of it is kept


def test_a_recipe_is_described_sent_alone_and_can_be_left_again(
    page: Page, photo: Path, service: InProcessService
) -> None:
    pick(page, photo)
    wait_done(page)
    page.locator("select[name=recipe]").select_option("minimal@2")
    expect(page.locator("#fact-size")).to_have_text("1600 × 2000 px")
    wait_done(page)
    assert service.jobs[-1].recipe == find_recipe("minimal@2").tag
    expect(page.locator("#recipe-about")).to_have_text(find_recipe("minimal@2").description)
    expect(page.locator("#recipe-sets")).to_contain_text(
        "background_color #f2f2f0, alpha_threshold 70, output_size 1600x2000"
    )
    expect(page.get_by_role("slider", name="Move inward (px)")).to_be_disabled()
    page.get_by_role("button", name="中文").click()
    expect(page.locator("#recipe-sets")).to_contain_text("设定")
    page.locator("select[name=recipe]").select_option("")
    wait_done(page)
    assert_cut_out(page)
    expect(page.locator("#recipe-about")).to_be_hidden()


def test_the_alpha_matte_of_a_recipe_has_its_edge_and_the_photos_size(
    page: Page, photo: Path, service: InProcessService
) -> None:
    pick(page, photo)
    wait_done(page)
    page.locator("select[name=recipe]").select_option("obs-asset@1")
    wait_done(page)
    choose(page, "view", "alpha")
    expect(page.locator("#alpha-layer")).to_be_visible()
    wait_done(page)
    assert (service.jobs[-1].options.output, service.jobs[-1].options.output_size) == ("alpha", None)


def test_an_edge_option_reaches_the_service_and_moves_the_edge(
    page: Page, photo: Path, service: InProcessService
) -> None:
    pick(page, photo)
    wait_done(page)
    inside = (0.27, 0.5)  # 6 px inside the block's left edge
    assert pixel(page, inside)[3] > 250
    page.get_by_role("spinbutton", name="Move inward (px)").fill("12")
    expect(page.get_by_role("slider", name="Move inward (px)")).to_have_value("12")
    wait_done(page)
    assert service.jobs[-1].options.erode_px == 12
    assert pixel(page, inside)[3] < 5


def test_a_dragged_slider_asks_once_and_the_last_result_stays(
    page: Page, photo: Path, service: InProcessService
) -> None:
    pick(page, photo)
    wait_done(page)
    service.held.clear()
    for value in ("2", "3", "4", "5"):
        page.get_by_role("slider", name="Soften (px)").fill(value)
    wait_jobs(service, 2)
    expect(page.locator("#busy")).to_contain_text("Cutting out")
    expect(page.locator("#download")).to_be_disabled()
    assert pixel(page, CENTRE) == (*RED, 255)
    service.held.set()
    wait_done(page)
    assert [job.options.feather_px for job in service.jobs] == [Options().feather_px, 5]


def test_a_change_cancels_the_running_request(page: Page, photo: Path, service: InProcessService) -> None:
    pick(page, photo)
    wait_done(page)
    service.held.clear()
    page.get_by_role("slider", name="Soften (px)").fill("9")
    wait_jobs(service, 2)
    with page.expect_event("requestfailed") as failed:
        choose(page, "background", "color")
    assert failed.value.failure == "net::ERR_ABORTED"
    service.held.set()
    expect(page.locator("#facts")).to_contain_text("JPG")
    wait_done(page)
    assert pixel(page, CORNER) == pytest.approx((255, 255, 255, 255), abs=2)
    expect(page.locator("#failure")).to_be_hidden()


def test_jpg_is_offered_only_with_a_background(page: Page, photo: Path) -> None:
    pick(page, photo)
    wait_done(page)
    jpg = page.locator("select[name=format] option[value=jpg]")
    assert jpg.is_disabled()
    choose(page, "background", "color")
    assert jpg.is_enabled()
    page.locator("select[name=format]").select_option("jpg")
    choose(page, "background", "transparent")
    expect(page.locator("select[name=format]")).to_have_value("")
    wait_done(page)
    assert pixel(page, CORNER)[3] == 0


def test_webp_and_its_quality_are_sent(page: Page, photo: Path, service: InProcessService) -> None:
    pick(page, photo)
    wait_done(page)
    page.locator("select[name=format]").select_option("webp")
    page.get_by_role("slider", name="Quality").fill("60")
    expect(page.locator("#facts")).to_contain_text("WEBP")
    wait_done(page)
    assert service.jobs[-1].options.encode_quality == 60
    with page.expect_download() as download:
        page.locator("#download").click()
    assert download.value.suggested_filename == "red block_matte.webp"


def test_the_pages_templates_and_defaults_are_the_services(page: Page) -> None:
    assert page.evaluate("import('/static/backgrounds.js').then((m) => m.TEMPLATES)") == BACKGROUND_TEMPLATES
    assert page.evaluate("import('/static/backgrounds.js').then((m) => Object.keys(m.SCENES))") == list(SCENES)
    defaults = Options()
    for name in ("alpha_threshold", "erode_px", "feather_px", "encode_quality"):
        control = page.locator(f"#{name}")
        assert float(control.get_attribute("value") or "nan") == getattr(defaults, name)
        bounds = {type(part).__name__: part for part in Options.model_fields[name].metadata}
        assert float(control.get_attribute("min") or "nan") == bounds["Ge"].ge
        assert float(control.get_attribute("max") or "nan") == bounds["Le"].le
    assert page.locator("select[name=refine]").input_value() == defaults.refine
    assert page.locator("select[name=shadow]").input_value() == defaults.shadow
    assert defaults.foreground == "estimate"
    assert page.locator("input[name=foreground]").is_checked()


def test_reset_brings_every_option_back(page: Page, photo: Path, service: InProcessService) -> None:
    pick(page, photo)
    wait_done(page)
    page.get_by_role("slider", name="Soften (px)").fill("20")
    choose(page, "background", "blur")
    expect(page.locator("#facts")).to_contain_text("JPG")
    page.get_by_role("button", name="Reset").click()
    expect(page.locator("#facts")).to_contain_text("PNG")
    assert_cut_out(page)
    expect(page.get_by_role("spinbutton", name="Soften (px)")).to_have_value(f"{Options().feather_px:g}")
    assert service.jobs[-1].options == service.jobs[0].options
