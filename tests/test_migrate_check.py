"""`mattehorn migrate-check` against two local services: ours, and ones that answer like remove.bg and rembg."""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import numpy as np
import pytest

from mattehorn.cli.main import main
from mattehorn.errors import OptionError
from mattehorn.migration.ask import endpoint
from mattehorn.migration.compare import compare, difference, is_premultiplied
from mattehorn.migration.sheet import render_sheet
from tests.service import SUBJECT, InProcessService, decoded, encoded, photo, serving

KEY = "a-very-secret-key"
WIDTH, HEIGHT = 64, 48


def cutout(premultiplied: bool = False, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """The subject of `photo` with an edge that fades over a quarter of the picture, RGBA [H, W, 4]."""
    ramp = np.clip(np.linspace(0, 4, width), 0, 1)
    alpha = np.broadcast_to(np.minimum(ramp, ramp[::-1]), (height, width))
    colour = np.broadcast_to(np.array((240, 90, 60)), (height, width, 3)) * (alpha[..., None] if premultiplied else 1)
    return np.dstack((np.rint(colour), np.rint(alpha * 255))).astype(np.uint8)


@dataclass
class Stub:
    """A service that answers every photo alike. `answers`: (status, headers, body), the last again and again."""

    answers: list[tuple[int, dict[str, str], bytes]]
    base: str = ""
    heads: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)


@contextlib.contextmanager
def stub(*answers: tuple[int, dict[str, str], bytes]) -> Iterator[Stub]:
    served = Stub(list(answers))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            served.heads.append({name.lower(): value for name, value in self.headers.items()})
            served.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            status, headers, body = served.answers.pop(0) if len(served.answers) > 1 else served.answers[0]
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: pytest's output is for failures."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.base = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def picture(**headers: str) -> tuple[int, dict[str, str], bytes]:
    return 200, {"Content-Type": "image/png", **headers}, encoded(cutout())


def refusal(status: int, title: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    body = json.dumps({"errors": [{"title": title, "code": "any"}]}).encode()
    return status, {"Content-Type": "application/json", **headers}, body


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(InProcessService(tmp_path_factory.mktemp("results"))) as url:
        yield url


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Three photos, the second of which is none."""
    found = [tmp_path / "cup.png", tmp_path / "notes.png", tmp_path / "shoe.png"]
    for path in found:
        path.write_bytes(encoded(photo(WIDTH, HEIGHT)))
    found[1].write_bytes(b"just text")
    return found


def check(ours: str, theirs: str, folder: Path, *more: str) -> tuple[int, str]:
    page = folder / "sheet.html"
    code = main(["migrate-check", "--ours", ours, "--theirs", theirs, "--html", str(page), *more])
    return code, page.read_text("utf-8")


def test_the_same_photos_go_to_both_and_stand_side_by_side(ours: str, photos: list[Path], tmp_path: Path) -> None:
    with stub(picture(**{"X-Credits-Charged": "0.25", "Set-Cookie": "session=hidden"})) as theirs:
        files = [str(photos[0]), str(photos[2])]
        code, page = check(f"{ours}/v1.0/removebg", f"{theirs.base}/v1.0/removebg", tmp_path, *files)
    assert code == 0
    assert [b'filename="cup.png"' in theirs.bodies[0], b'filename="shoe.png"' in theirs.bodies[1]] == [True, True]
    for part in (b'name="image_file"', b'name="size"\r\n\r\npreview', b'name="format"\r\n\r\npng'):
        assert part in theirs.bodies[0]
    assert page.count("<article>") == 2
    assert page.count("data:image/jpeg") == 2 * 8
    assert re.search(r"x-credits-charged</th><td>0.25</td><td>0.25</td>", page)
    assert "x-mattehorn-model</th><td>fake@1</td><td>-</td>" in page
    assert "hidden" not in page
    assert "<script" not in page


def test_a_photo_that_one_service_refuses_leaves_the_others_alone(
    ours: str, photos: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with stub(picture()) as theirs:
        code, page = check(
            f"{ours}/v1.0/removebg", f"{theirs.base}/v1.0/removebg", tmp_path, *map(str, photos), str(tmp_path / "gone")
        )
    told = capsys.readouterr().out
    assert code == 1
    assert "notes.png: ours: 400: " in told
    assert "gone: ours: the photo cannot be read" in told
    assert told.count("alpha differs by") == 2
    assert page.index("cup.png") < page.index("notes.png"), "what has no pictures comes last"
    assert page.count("<article>") == 4


def test_a_key_goes_to_its_own_service_and_is_never_told(
    ours: str, photos: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key_file = tmp_path / "key"
    key_file.write_text(f"{KEY}\n", "utf-8")
    with stub(picture(), refusal(403, "API Key invalid")) as theirs, stub(picture()) as other:
        address = f"{theirs.base}/v1.0/removebg?token={KEY}"
        _, page = check(
            f"{other.base}/v1.0/removebg", address, tmp_path, *map(str, photos), "--theirs-key-file", str(key_file)
        )
    output = capsys.readouterr()
    assert theirs.heads[0]["x-api-key"] == KEY
    assert "x-api-key" not in other.heads[0]
    assert "403: API Key invalid" in page
    for text in (page, output.out, output.err, repr(endpoint(f"{ours}/v1.0/removebg", KEY, "auto"))):
        assert KEY not in text


def test_a_busy_service_is_asked_again_after_the_time_that_it_names(photos: list[Path], ours: str) -> None:
    waited: list[float] = []
    with stub(refusal(429, "Rate limit exceeded", **{"Retry-After": "1"}), picture()) as theirs:
        to = endpoint(f"{theirs.base}/v1.0/removebg", None, "auto")
        (pair,) = compare(photos[:1], endpoint(f"{ours}/v1.0/removebg", None, "auto"), to, waited.append)
    assert pair.difference is not None
    assert waited == [1.0]
    assert len(theirs.bodies) == 2


def test_a_used_up_quota_is_not_waited_for(photos: list[Path], ours: str) -> None:
    with stub(refusal(429, "Rate limit exceeded", **{"Retry-After": "86400"})) as theirs:
        to = endpoint(f"{theirs.base}/v1.0/removebg", None, "auto")
        (pair,) = compare(photos[:1], endpoint(f"{ours}/v1.0/removebg", None, "auto"), to, lambda seconds: None)
    assert "quota" in str(pair.theirs)
    assert len(theirs.bodies) == 1


def test_rembgs_dark_edge_is_seen_and_ours_is_none(
    ours: str, photos: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dark = 200, {"Content-Type": "image/png"}, encoded(cutout(premultiplied=True))
    with stub(picture()) as straight, stub(dark) as theirs:
        check(f"{straight.base}/api/remove", f"{theirs.base}/api/remove", tmp_path, str(photos[0]))
    assert capsys.readouterr().out.splitlines()[0] == "cup.png: alpha differs by 0.00 %, IoU 1.000, dark edge: theirs"
    assert b'name="file"' in theirs.bodies[0]
    answer = httpx.post(f"{ours}/api/remove", files={"file": ("a.png", photos[0].read_bytes())})
    assert not is_premultiplied(decoded(answer.content))
    assert decoded(answer.content)[HEIGHT // 2, WIDTH // 2, :3].tolist() == list(SUBJECT)


def test_the_difference_of_a_shape_and_its_half_is_known() -> None:
    whole = np.full((10, 20, 4), 255, np.uint8)
    half = whole.copy()
    half[:, 10:, 3] = 0
    found = difference(whole, half)
    assert (found.alpha_mean, found.iou, found.premultiplied) == (0.5, 0.5, ())
    nothing = np.zeros_like(whole)
    assert difference(nothing, nothing).iou == 1.0


def test_results_of_two_sizes_are_compared_at_the_smaller_one() -> None:
    large = cutout().repeat(2, axis=0).repeat(2, axis=1)
    found = difference(large, cutout())
    assert found.alpha_mean < 1e-3
    assert found.iou == 1.0


@pytest.mark.parametrize(
    "url", ["ftp://host/v1.0/removebg", "http://host/", "host/v1.0/removebg", "http://host/v1/mattes"]
)
def test_an_address_that_is_no_known_endpoint_is_refused(url: str) -> None:
    with pytest.raises(OptionError, match=r"address|endpoint"):
        endpoint(url, None, "auto")


def test_names_of_photos_and_services_are_text_on_the_page(tmp_path: Path) -> None:
    path = tmp_path / "<b>cup.png"
    to = endpoint("http://user:pw@127.0.0.1:9/x%3Ci%3E/api/remove?key=1", None, "auto")
    pairs = list(compare([path], to, to, lambda seconds: None))
    page = render_sheet(pairs, to, to)
    assert "&lt;b&gt;cup.png" in page
    for hidden in ("pw@", "key=1", "<b>cup"):
        assert hidden not in page
