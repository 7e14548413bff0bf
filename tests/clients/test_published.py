"""Published clients of remove.bg, unchanged but for the address: npm `remove.bg` 1.3.0 and PyPI `removebg` 0.4."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
import removebg.removebg as published
import requests

from tests.clients.npm import call, pointed_at
from tests.clients.scene import HEIGHT, PICTURE, WIDTH, check_cutout
from tests.service import decoded
from tests.sites import Site


@pytest.fixture
def npm(install_remove_bg: Path, url: str) -> Path:
    pointed_at(install_remove_bg, url)
    return install_remove_bg


@pytest.fixture
def python_client(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> published.RemoveBg:
    monkeypatch.setattr(published, "API_ENDPOINT", f"{url}/v1.0/removebg")
    monkeypatch.chdir(tmp_path)
    return published.RemoveBg("any", str(tmp_path / "errors.log"))


@pytest.fixture
def photo_file(tmp_path: Path) -> Path:
    path = tmp_path / "cup.jpg"
    path.write_bytes(PICTURE)
    return path


def test_npm_cuts_out_a_file_and_reads_every_header(npm: Path, photo_file: Path) -> None:
    target = photo_file.with_name("out.png")
    said = call(npm, "removeBackgroundFromImageFile", path=str(photo_file), outputFile=str(target))["result"]
    check_cutout(target.read_bytes())
    assert base64.b64decode(said["base64img"]) == target.read_bytes()
    assert (said["resultWidth"], said["resultHeight"]) == (str(WIDTH), str(HEIGHT))
    assert said["creditsCharged"] == "0.25"
    assert int(said["rateLimitRemaining"]) < int(said["rateLimit"])
    assert int(said["rateLimitReset"]) > 0


def test_npm_cuts_out_base64_and_what_lies_at_a_url(npm: Path, shop: Site) -> None:
    for function, photo in (
        ("removeBackgroundFromImageBase64", {"base64img": base64.b64encode(PICTURE).decode()}),
        ("removeBackgroundFromImageUrl", {"url": shop.url("/cup.jpg")}),
    ):
        said = call(npm, function, **photo, size="regular", type="product", bg_color="00f")["result"]
        pixels = decoded(base64.b64decode(said["base64img"]))
        assert abs(pixels[2, 2].astype(int) - (0, 0, 255)).max() < 30  # a JPEG: its colours are subsampled


def test_npm_crops_and_scales_as_asked(npm: Path, photo_file: Path) -> None:
    said = call(npm, "removeBackgroundFromImageFile", path=str(photo_file), crop=True, crop_margin="10px")["result"]
    shape = decoded(base64.b64decode(said["base64img"])).shape
    assert abs(shape[0] - (HEIGHT // 2 + 20)) <= 4
    assert abs(shape[1] - (WIDTH // 2 + 20)) <= 4


def test_npm_rejects_with_the_titles_that_its_users_show(npm: Path, photo_file: Path, shop: Site) -> None:
    path = str(photo_file)
    refused = call(npm, "removeBackgroundFromImageFile", path=path, size="huge")["errors"]
    assert refused[0]["title"] == "Invalid value for parameter 'size'"
    gone = call(npm, "removeBackgroundFromImageUrl", url=shop.url("/gone"))["errors"]
    assert gone[0]["title"] == "Failed to download image from given image_url: HTTP Status 404"


def test_removebg_of_pypi_cuts_out_a_file_a_url_and_base64(
    python_client: published.RemoveBg, photo_file: Path, shop: Site
) -> None:
    python_client.remove_background_from_img_file(str(photo_file))
    check_cutout(Path(f"{photo_file}_no_bg.png").read_bytes())
    python_client.remove_background_from_img_url(shop.url("/cup.jpg"), new_file_name="url.png")
    check_cutout(Path("url.png").read_bytes())
    python_client.remove_background_from_base64_img(base64.b64encode(PICTURE).decode(), new_file_name="b64.png")
    check_cutout(Path("b64.png").read_bytes())
    python_client.remove_background_from_base64_img(
        base64.b64encode(PICTURE).decode(), size="hd", bg_color="#ffffff", new_file_name="white.jpg"
    )
    assert decoded(Path("white.jpg").read_bytes())[2, 2].min() > 240


def test_removebg_of_pypi_raises_what_it_raises_for_a_bad_request(
    python_client: published.RemoveBg, photo_file: Path
) -> None:
    with pytest.raises(requests.HTTPError) as refused:
        python_client.remove_background_from_img_file(str(photo_file), size="huge")
    assert refused.value.response.status_code == 400
    assert refused.value.response.json()["errors"][0]["code"] == "invalid_size"
