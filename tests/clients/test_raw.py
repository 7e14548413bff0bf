"""The official Node CLI and Ruby gem, whose requests are replayed, and rembg's own curl lines by a real curl."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from tests.clients.raw import Part, Said, multipart, send
from tests.clients.scene import HEIGHT, PICTURE, WIDTH, check_cutout
from tests.service import decoded
from tests.sites import Site

NODE_BOUNDARY = "--------------------------104837162029384756102938"  # form-data's: 26 dashes and 24 digits
RUBY_BOUNDARY = "-----------RubyMultipartPost-1f2e3d4c5b6a79880a1b2c3d4e5f6071"
REMOVE, ACCOUNT = "/v1.0/removebg", "/v1.0/account"


def node_cli(url: str, **changed: str) -> Said:
    """remove-bg-cli 2.0.3 over superagent 6: 14 parts, every unset option as an empty text."""
    unset = ("type_level", "roi", "crop", "crop_margin", "scale", "position")
    unset += ("add_shadow", "semitransparency", "bg_color")
    texts = {"size": "auto", "type": "auto", "format": "zip", "channels": "rgba", **dict.fromkeys(unset, ""), **changed}
    parts: list[Part] = [("image_file", ("cup.jpg", PICTURE)), *texts.items()]
    assert len(parts) == 14
    headers = {
        "Accept-Encoding": "gzip, deflate",
        "X-Api-Key": "any",
        "Content-Type": f"multipart/form-data; boundary={NODE_BOUNDARY}",
        "Connection": "close",
    }
    return send(url, REMOVE, headers, multipart(NODE_BOUNDARY, parts))


def ruby_gem(url: str, **texts: str) -> Said:
    """remove_bg 2.2.1 over Faraday and net/http."""
    headers = {
        "Accept-Encoding": "gzip;q=1.0,deflate;q=0.6,identity;q=0.3",
        "Accept": "*/*",
        "User-Agent": "remove-bg-ruby-2.2.1",
        "X-Api-Key": "any",
        "Content-Type": f"multipart/form-data; boundary={RUBY_BOUNDARY}",
        "Connection": "close",
    }
    parts: list[Part] = [*texts.items(), ("image_file", ("cup.jpg", PICTURE))]
    return send(url, REMOVE, headers, multipart(RUBY_BOUNDARY, parts))


def check_zip(said: Said) -> None:
    assert (said.status, said.headers["content-type"]) == (200, "application/zip"), said.body[:500]
    archive = zipfile.ZipFile(io.BytesIO(said.body))
    assert sorted(archive.namelist()) == ["alpha.png", "color.jpg"]
    assert decoded(archive.read("color.jpg")).shape == (HEIGHT, WIDTH, 3)
    alpha = decoded(archive.read("alpha.png"))
    assert alpha.shape == (HEIGHT, WIDTH)
    assert (alpha[2, 2], alpha[HEIGHT // 2, WIDTH // 2]) == (0, 255)


def test_the_node_clis_empty_options_are_not_sent_and_its_zip_is_one(url: str) -> None:
    check_zip(node_cli(url))


def test_the_node_cli_gets_the_type_that_it_asks_for(url: str) -> None:
    png = node_cli(url, format="png")
    assert png.headers["content-type"] == "image/png"
    check_cutout(png.body)
    jpg = node_cli(url, format="jpg", bg_color="fff")
    assert jpg.headers["content-type"] == "image/jpeg"
    assert decoded(jpg.body).shape == (HEIGHT, WIDTH, 3)


def test_the_ruby_gem_reads_a_zip_and_the_headers_of_its_result(url: str) -> None:
    said = ruby_gem(url, size="auto", format="zip")
    check_zip(said)
    assert {"x-width", "x-height", "x-credits-charged", "x-ratelimit-limit", "x-ratelimit-reset"} <= set(said.headers)
    assert float(said.headers["x-credits-charged"]) > 0


def test_the_ruby_gem_finds_a_title_in_every_error(url: str) -> None:
    refused = ruby_gem(url, size="auto", roi="what")
    assert refused.status == 400
    assert refused.headers["content-type"] == "application/json; charset=utf-8"
    assert refused.errors[0]["title"] == "Invalid roi parameter given"
    assert "x-credits-charged" not in refused.headers


def test_the_ruby_gem_reads_the_account_with_its_strict_keywords(url: str) -> None:
    said = send(url, ACCOUNT, {"User-Agent": "remove-bg-ruby-2.2.1", "Accept": "*/*", "X-Api-Key": "any"})
    attributes = json.loads(said.body)["data"]["attributes"]
    assert said.status == 200
    assert set(attributes) == {"credits", "api"}
    assert set(attributes["credits"]) == {"total", "subscription", "payg", "enterprise"}
    assert set(attributes["api"]) == {"free_calls", "sizes"}


def test_a_form_whose_last_boundary_has_no_newline_is_read(url: str) -> None:
    parts: list[Part] = [("crop", "false"), ("image_file", ("cup.jpg", PICTURE))]
    headers = {"Accept": "application/json", "Content-Type": f"multipart/form-data; boundary={NODE_BOUNDARY}"}
    said = send(url, REMOVE, headers, multipart(NODE_BOUNDARY, parts, ends_in_newline=False))
    assert said.status == 200
    assert set(json.loads(said.body)["data"]) >= {"result_b64", "foreground_top", "foreground_width"}


def curl(*arguments: str, folder: Path) -> None:
    program = shutil.which("curl")
    if program is None:
        pytest.skip("curl is not on PATH.")
    subprocess.run([program, "-sS", "--fail", "--max-time", "60", *arguments], cwd=folder, check=True)


def test_rembgs_curl_lines_give_what_rembg_gives(url: str, shop: Site, tmp_path: Path) -> None:
    (tmp_path / "input.jpg").write_bytes(PICTURE)
    curl(f"{url}/api/remove?url={shop.url('/input.png')}", "-o", "output.png", folder=tmp_path)
    curl("-F", "file=@input.jpg", f"{url}/api/remove", "-o", "upload.png", folder=tmp_path)
    for name in ("output.png", "upload.png"):
        check_cutout((tmp_path / name).read_bytes())
