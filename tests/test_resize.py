"""Fit and restore: known sizes, padding that is cropped again, and full-size edges from a small matte."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import cv2
import numpy as np
import pytest

from mattehorn.errors import ModelError
from mattehorn.resize import Fitted, crop_alpha, fit, guided_coefficients, restore_alpha
from tests import scenes

ODD_SHAPES = [(1, 1), (20000, 1), (1, 20000), (7, 3), (31, 640)]


def _noise(height: int, width: int, seed: int = 0) -> scenes.Uint8:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _network_alpha(fitted: Fitted, alpha: scenes.Float) -> scenes.Float:
    """What a perfect network would answer: the true matte averaged down, its padding filled with rubbish."""
    small = cv2.resize(alpha, (fitted.content_width, fitted.content_height), interpolation=cv2.INTER_AREA)
    answer = np.random.default_rng(0).random(fitted.pixels.shape[:2], dtype=np.float32)
    answer[: fitted.content_height, : fitted.content_width] = small
    return answer


@pytest.mark.parametrize(
    ("shape", "mode", "size", "content", "whole"),
    [
        ((300, 400), "pad", 512, (384, 512), (512, 512)),
        ((3000, 1500), "pad", 512, (512, 256), (512, 512)),
        ((300, 400), "stretch", 320, (320, 320), (320, 320)),
        ((300, 400), "bucket", 1280, (300, 400), (320, 416)),
        ((3000, 4000), "bucket", 1280, (960, 1280), (960, 1280)),
        ((500, 1000), "bucket", 100, (48, 96), (64, 96)),
        ((1, 20000), "pad", 512, (1, 512), (512, 512)),
        ((20000, 1), "bucket", 1280, (1280, 1), (1280, 32)),
        ((1, 1), "pad", 512, (512, 512), (512, 512)),
    ],
)
def test_fit_gives_the_documented_sizes(shape, mode, size, content, whole) -> None:
    fitted = fit(np.zeros((*shape, 3), np.uint8), size, mode)
    assert (fitted.content_height, fitted.content_width) == content
    assert fitted.pixels.shape == (*whole, 3)
    assert fitted.pixels.dtype == np.uint8


def test_padding_repeats_the_edge_at_the_bottom_and_right() -> None:
    fitted = fit(_noise(60, 100), 64, "pad")
    assert fitted.content_height == 38
    assert (fitted.pixels[38:] == fitted.pixels[37]).all()


def test_shrinking_averages_instead_of_picking() -> None:
    checks = np.indices((512, 512)).sum(axis=0) % 2 * np.uint8(255)
    fitted = fit(np.repeat(checks[..., None], 3, axis=2).astype(np.uint8), 64, "pad")
    assert np.abs(fitted.pixels.astype(int) - 127).max() <= 1


def test_a_stretched_line_is_averaged_along_its_long_side() -> None:
    line = np.tile(np.asarray([0, 255], np.uint8), 5000)[None, :, None].repeat(3, axis=2)
    fitted = fit(line, 320, "stretch")
    assert np.abs(fitted.pixels.astype(int) - 127).max() <= 4


def test_crop_alpha_reads_bytes_and_drops_the_padding() -> None:
    fitted = fit(_noise(50, 100), 64, "pad")
    answer = np.full((64, 64), 255, np.uint8)
    answer[32:] = 7
    cropped = crop_alpha(answer, fitted)
    assert cropped.shape == (32, 64)
    assert cropped.dtype == np.float32
    assert (cropped == 1).all()


def test_an_answer_of_another_size_or_not_finite_is_a_model_error() -> None:
    fitted = fit(_noise(50, 100), 64, "pad")
    with pytest.raises(ModelError, match="answered"):
        crop_alpha(np.zeros((32, 64), np.float32), fitted)
    with pytest.raises(ModelError, match="finite"):
        crop_alpha(np.full((64, 64), np.nan, np.float32), fitted)


@pytest.mark.parametrize("shape", ODD_SHAPES)
@pytest.mark.parametrize("mode", ["pad", "stretch", "bucket"])
@pytest.mark.parametrize("method", ["none", "guided", "matting"])
def test_every_shape_comes_back_at_its_own_size_and_in_range(shape, mode, method) -> None:
    image = _noise(*shape)
    fitted = fit(image, 64, mode)
    answer = np.random.default_rng(1).random(fitted.pixels.shape[:2], dtype=np.float32)
    restored = restore_alpha(image, fitted, answer, method)
    assert restored.shape == shape
    assert restored.dtype == np.float32
    assert restored.min() >= 0
    assert restored.max() <= 1


@pytest.mark.parametrize("method", ["none", "guided", "matting"])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_constant_matte_stays_constant(method, value) -> None:
    image = _noise(150, 200)
    fitted = fit(image, 64, "pad")
    restored = restore_alpha(image, fitted, np.full((64, 64), value, np.float32), method)
    np.testing.assert_allclose(restored, value, atol=1e-5)


def test_guided_coefficients_equal_a_plain_double_precision_solution() -> None:
    guide = _noise(12, 15)
    alpha = np.random.default_rng(3).random((12, 15), dtype=np.float32)
    colours = guide / 255.0
    slopes, offsets = np.zeros((12, 15, 3)), np.zeros((12, 15))
    padded, matte = np.pad(colours, ((2, 2), (2, 2), (0, 0)), "reflect"), np.pad(alpha, 2, "reflect").astype(float)
    for y, x in np.ndindex(12, 15):
        window, wanted = padded[y : y + 5, x : x + 5].reshape(-1, 3), matte[y : y + 5, x : x + 5].ravel()
        cov = np.cov(window.T, bias=True) + 1e-4 * np.eye(3)
        slopes[y, x] = np.linalg.solve(cov, ((window - window.mean(0)) * (wanted - wanted.mean())[:, None]).mean(0))
        offsets[y, x] = wanted.mean() - slopes[y, x] @ window.mean(0)
    got = guided_coefficients(guide, alpha)
    np.testing.assert_allclose(got[:, :3].transpose(0, 2, 1) * 255, cv2.blur(slopes, (5, 5)), atol=1e-3)
    np.testing.assert_allclose(got[:, 3], cv2.blur(offsets, (5, 5)), atol=1e-3)


def test_guided_restore_beats_interpolation_tenfold_on_hair_when_the_matte_is_exact() -> None:
    scene = scenes.hairs(1024, count=300)
    fitted = fit(scene.image, 512, "pad")
    answer = _network_alpha(fitted, scene.alpha)
    error = {
        method: np.abs(restore_alpha(scene.image, fitted, answer, method) - scene.alpha).sum()
        for method in ("none", "guided")
    }
    assert error["guided"] * 10 < error["none"]


def test_matting_sharpens_what_the_guided_filter_cannot() -> None:
    scene = scenes.hairs(1024, count=300)
    fitted = fit(scene.image, 512, "pad")
    blurred = cv2.GaussianBlur(_network_alpha(fitted, scene.alpha), (0, 0), 1.0)
    error = {
        method: np.abs(restore_alpha(scene.image, fitted, blurred, method) - scene.alpha).sum()
        for method in ("none", "guided", "matting")
    }
    assert error["matting"] < error["guided"] < error["none"]


def test_matting_leaves_sure_regions_alone() -> None:
    scene = scenes.soft_disc(300)
    fitted = fit(scene.image, 128, "pad")
    answer = _network_alpha(fitted, scene.alpha)
    guided = restore_alpha(scene.image, fitted, answer, "guided")
    matting = restore_alpha(scene.image, fitted, answer, "matting")
    assert np.abs(guided - matting)[:40].max() == 0
    assert np.abs(guided - matting)[140:160, 140:160].max() == 0


FIFTY_MEGAPIXELS = """
import resource, sys
import numpy as np
from mattehorn.alpha import refine_edges
from mattehorn.composite import Blur, Colour, Shadow, lay_over
from mattehorn.foreground import estimate_foreground
from mattehorn.quality import assess
from mattehorn.resize import fit, restore_alpha

height, width = 5800, 8620
image = np.full((height, width, 3), 90, np.uint8)
image[::2, ::3] = 200
ramp = np.clip(np.linspace(-0.5, 1.5, width, dtype=np.float32), 0, 1)
alpha = np.empty((height, width), np.float32)
alpha[:] = ramp
small = fit(image, 512, "pad")
answer = np.repeat(np.linspace(0, 1, 512, dtype=np.float32)[None], 512, axis=0)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = peak()
{call}
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kB on Linux only")
@pytest.mark.parametrize(
    "call",
    [
        'restore_alpha(image, small, answer, "guided")',
        'restore_alpha(image, small, answer, "matting")',
        "refine_edges(alpha, 10, 1.5, 3)",
        "refine_edges(alpha, 10, 0, 50)",
        "estimate_foreground(image, alpha)",
        'lay_over(image, alpha, image, Colour(1, 2, 3, 4), Shadow("drop", 0.4, 12, (0, 8)))',
        "lay_over(image, alpha, image, Blur(4))",
        "lay_over(image, alpha, image, Blur(7))",
        "assess(alpha, image)",
    ],
)
def test_fifty_megapixels_take_less_than_600_mb_beside_their_inputs(call) -> None:
    script = textwrap.dedent(FIFTY_MEGAPIXELS).replace("{call}", call)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 600
