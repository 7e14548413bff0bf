"""The scores against cases computed by hand and slow direct forms of the papers' equations, with subject or none."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from mattehorn.evaluation import metrics
from mattehorn.evaluation.metrics import (
    METRICS,
    MORE_IS_BETTER,
    FCurve,
    conn,
    conn_error,
    dice,
    f_curve,
    grad,
    iou,
    mad,
    max_f,
    mse,
    sad,
    score_photo,
    spearman,
    unknown_band,
)

Float = NDArray[np.float32]


def rows(*lines: list[float]) -> Float:
    return np.array(lines, np.float32)


def square(side: int = 40, edge: int = 10, value: float = 1.0) -> Float:
    """A square of `value`, `edge` pixels from each border."""
    alpha = np.zeros((side, side), np.float32)
    alpha[edge : side - edge, edge : side - edge] = value
    return alpha


def random_mattes(seed: int, height: int = 23, width: int = 31) -> tuple[Float, Float]:
    """Two mattes that share a shape and differ in noise; in steps of 1/255, as files are."""
    rng = np.random.default_rng(seed)
    truth = np.clip(square(31, 7)[:height, :width] + rng.normal(0, 0.2, (height, width)), 0, 1)
    alpha = np.clip(truth + rng.normal(0, 0.2, (height, width)), 0, 1)
    return (np.rint(alpha * 255) / 255).astype(np.float32), (np.rint(truth * 255) / 255).astype(np.float32)


# SAD, MSE, MAD


def test_sums_and_means_of_four_pixels_are_those_worked_out_by_hand() -> None:
    alpha, truth = rows([0.0, 0.5], [1.0, 0.25]), rows([0.0, 1.0], [0.5, 0.0])
    assert sad(alpha, truth) == pytest.approx(1.25 / 1000)
    assert mad(alpha, truth) == pytest.approx(1.25 / 4)
    assert mse(alpha, truth) == pytest.approx((0.25 + 0.25 + 0.0625) / 4)


def test_a_region_leaves_the_other_pixels_out() -> None:
    alpha, truth = rows([0.0, 0.5], [1.0, 0.25]), rows([0.0, 1.0], [0.5, 0.0])
    region = np.array([[False, True], [False, True]])
    assert sad(alpha, truth, region) == pytest.approx(0.75 / 1000)
    assert mad(alpha, truth, region) == pytest.approx(0.75 / 2)
    assert mse(alpha, truth, region) == pytest.approx((0.25 + 0.0625) / 2)


# Grad


def slow_gradient(alpha: Float) -> NDArray[np.float64]:
    """Rhemann et al. 2009: |grad| by first derivatives of a 2-D Gaussian, sigma 1.4, each kernel of norm 1."""
    at = np.arange(-4, 5, dtype=np.float64)
    x, y = np.meshgrid(at, at)
    bell = np.exp(-(x**2 + y**2) / (2 * 1.4**2))
    padded = np.pad(alpha.astype(np.float64), 4, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (9, 9))
    parts = [np.einsum("hwij,ij->hw", windows, k / np.sqrt((k**2).sum())) for k in (x * bell, y * bell)]
    return np.hypot(*parts)


@pytest.mark.parametrize("seed", range(3))
def test_grad_is_the_squared_difference_of_gaussian_gradients(seed: int) -> None:
    alpha, truth = random_mattes(seed)
    wanted = np.square(slow_gradient(alpha) - slow_gradient(truth)).sum() / 1000
    assert grad(alpha, truth) == pytest.approx(wanted, rel=1e-4)


def test_grad_of_a_ramp_against_a_plane_is_its_slope_scaled_by_the_kernel() -> None:
    """A slope s seen by the kernel k = -x g / |x g| answers s times sum(x^2 g) / |x g|."""
    ramp = np.tile(np.linspace(0, 1, 41, dtype=np.float32), (41, 1))
    at = np.arange(-4, 5)
    x, y = np.meshgrid(at, at)
    kernel = x * np.exp(-(x**2 + y**2) / (2 * 1.4**2))
    answer = (1 / 40) * (x * kernel).sum() / np.sqrt((kernel**2).sum())
    middle = np.zeros(ramp.shape, np.bool_)
    middle[20, 20] = True
    assert grad(ramp, np.zeros_like(ramp), middle) == pytest.approx(answer**2 / 1000, rel=1e-4)


def test_grad_does_not_see_a_constant_offset_nor_the_borders() -> None:
    assert grad(np.full((20, 20), 0.9, np.float32), np.full((20, 20), 0.1, np.float32)) == pytest.approx(0, abs=1e-9)


# Conn


def slow_conn(alpha: Float, truth: Float) -> float:
    """Rhemann et al. 2009, pixel by pixel: flood fill at each threshold, then phi and the sum."""
    height, width = alpha.shape
    level = np.zeros(alpha.shape)
    alive = np.ones(alpha.shape, bool)
    for step in range(1, 11):
        threshold = np.float32(step / 10)
        left = {tuple(p) for p in np.argwhere((alpha >= threshold) & (truth >= threshold))}
        largest: set[tuple[int, ...]] = set()
        for start in sorted(left):
            if start not in left:
                continue
            part, front = {start}, [start]
            left.discard(start)
            while front:
                y, x = front.pop()
                for near in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                    if near in left:
                        left.discard(near)
                        part.add(near)
                        front.append(near)
            largest = part if len(part) > len(largest) else largest
        inside = np.zeros(alpha.shape, bool)
        for y, x in largest:
            inside[y, x] = True
        alive &= inside
        level[alive] = threshold
    total = 0.0
    for y in range(height):
        for x in range(width):
            distances = (float(one[y, x]) - level[y, x] for one in (alpha, truth))
            phi = [1 - (d if d >= 0.15 else 0) for d in distances]
            total += abs(phi[0] - phi[1])
    return total / 1000


@pytest.mark.parametrize("seed", range(3))
def test_conn_is_the_papers_sum_over_pixels(seed: int) -> None:
    alpha, truth = random_mattes(seed)
    assert conn(alpha, truth) == pytest.approx(slow_conn(alpha, truth), rel=1e-4)


def test_a_loose_part_costs_its_own_pixels() -> None:
    """The island stands in alpha alone: never connected there, so phi is 0 against 1 on its 9 pixels."""
    truth = square()
    alpha = truth.copy()
    alpha[2:5, 2:5] = 1
    assert conn(alpha, truth) == pytest.approx(9 / 1000)


def test_a_loose_part_that_both_have_costs_nothing() -> None:
    truth = square()
    truth[2:5, 2:5] = 1
    assert conn(truth, truth) == 0
    paler = truth.copy()
    paler[2:5, 2:5] = 0.6  # below the other by 0.4, both cut off from the large part
    assert conn(paler, truth) == pytest.approx(9 * 0.4 / 1000, rel=1e-5)


def test_distances_below_theta_count_as_connected() -> None:
    """At 0.9 against 1 the level is 0.9: distances 0 and 0.1, both below 0.15. At 0.8 the 0.2 counts."""
    assert conn(square(value=0.9), square()) == 0
    assert conn(square(value=0.8), square()) == pytest.approx(400 * 0.2 / 1000, rel=1e-5)


def test_parts_that_touch_at_a_corner_are_not_connected() -> None:
    truth = np.zeros((12, 12), np.float32)
    truth[0:6, 0:6] = 1
    alpha = truth.copy()
    alpha[6:8, 6:8] = 1  # touches the large part at one corner
    assert conn(alpha, truth) == pytest.approx(4 / 1000)
    assert (conn_error(alpha, truth)[6:8, 6:8] == 1).all()


# IoU, Dice, max-F


def test_overlap_of_two_shifted_squares_is_that_of_their_areas() -> None:
    truth = np.zeros((10, 10), np.float32)
    truth[0:4, 0:4] = 1
    alpha = np.zeros_like(truth)
    alpha[0:4, 2:6] = 0.5  # just in
    assert iou(alpha, truth) == pytest.approx(8 / 24)
    assert dice(alpha, truth) == pytest.approx(16 / 32)


def test_truth_counts_from_128_of_255_and_alpha_from_a_half() -> None:
    truth = (np.array([[127, 128]]) / 255).astype(np.float32)
    assert iou(rows([0.0, 0.5]), truth) == 1
    assert iou(rows([0.5, 0.5]), truth) == 0.5
    assert iou(rows([0.0, 0.49]), truth) == 0


def test_overlap_of_two_empty_mattes_is_1_and_of_one_is_0() -> None:
    empty, full = np.zeros((5, 5), np.float32), np.ones((5, 5), np.float32)
    for score in (iou, dice, lambda alpha, truth: max_f(f_curve(alpha, truth))):
        assert score(empty, empty) == 1
        assert score(full, empty) == 0
        assert score(empty, full) == 0


def test_precision_and_recall_of_five_pixels_are_those_worked_out_by_hand() -> None:
    alpha, truth = rows([1.0, 0.8, 0.6, 0.4, 0.0]), rows([1.0, 0.0, 1.0, 0.0, 1.0])
    curve = f_curve(alpha, truth)
    assert curve.precision.shape == curve.recall.shape == (255,)
    for level, precision, recall in ((255, 1, 1 / 3), (204, 1 / 2, 1 / 3), (153, 2 / 3, 2 / 3), (102, 2 / 4, 2 / 3)):
        assert curve.precision[level - 1] == pytest.approx(precision)
        assert curve.recall[level - 1] == pytest.approx(recall)
    # F at 255, 204, 153, 102: .684, .448, .667, .531
    assert max_f(curve) == pytest.approx(1.3 * 1 * (1 / 3) / (0.3 * 1 + 1 / 3))


def test_f_without_precision_and_recall_is_0() -> None:
    nothing = np.zeros(255)
    assert max_f(FCurve(nothing, nothing)) == 0


def test_max_f_of_a_matte_is_1_where_some_threshold_gives_the_mask() -> None:
    assert max_f(f_curve(square(value=0.3), square())) == 1
    assert iou(square(value=0.3), square()) == 0


# unknown band


def test_a_hard_edge_gets_a_band_of_the_radius_on_both_sides() -> None:
    truth = np.zeros((160, 160), np.float32)
    truth[:, 80:] = 1
    band = unknown_band(truth)
    assert (np.flatnonzero(band[80]) == [78, 79, 80, 81]).all()  # radius 160 / 80 = 2
    assert band[:, 78:82].all()


def test_half_transparent_parts_are_unknown_and_grow_by_the_radius() -> None:
    truth = np.ones((240, 240), np.float32)
    truth[100:110, 100:110] = 0.5
    band = unknown_band(truth)
    assert band[100:110, 100:110].all()
    assert band[97, 105]
    assert not band[96, 105]  # radius 3
    assert not band[97, 97]  # a disc, not a square


@pytest.mark.parametrize(("value", "unknown"), [(0.05, False), (0.06, True), (0.94, True), (0.95, False)])
def test_the_unknown_lies_between_5_and_95_percent(value: float, unknown: bool) -> None:
    assert unknown_band(np.full((9, 9), value, np.float32)).all() == unknown


def test_the_pictures_border_is_no_edge() -> None:
    assert not unknown_band(np.ones((100, 90), np.float32)).any()
    assert not unknown_band(np.zeros((1, 1), np.float32)).any()


# all of them


def test_a_perfect_matte_scores_best_everywhere() -> None:
    truth, _ = random_mattes(5)
    scores = score_photo(truth, truth)
    for part in (scores.whole, scores.unknown):
        assert part is not None
        for metric in METRICS:
            assert getattr(part, metric) == pytest.approx(float(metric in MORE_IS_BETTER), abs=1e-12)


def test_an_error_outside_the_band_leaves_the_bands_scores_alone() -> None:
    truth = square(160, 60)
    alpha = truth.copy()
    alpha[5:9, 5:9] = 1
    scores = score_photo(alpha, truth)
    assert scores.unknown is not None
    assert scores.unknown == score_photo(truth, truth).unknown
    assert scores.whole.sad == pytest.approx(16 / 1000)


def test_the_scores_of_a_photo_are_those_of_the_single_functions() -> None:
    alpha, truth = random_mattes(7)
    band = unknown_band(truth)
    scores = score_photo(alpha, truth)
    assert scores.unknown is not None
    for name in ("sad", "mse", "mad", "grad", "conn", "iou", "dice"):
        single = getattr(metrics, name)
        assert getattr(scores.whole, name) == pytest.approx(single(alpha, truth))
        assert getattr(scores.unknown, name) == pytest.approx(single(alpha, truth, band))


def test_truth_without_an_edge_has_no_band() -> None:
    empty = np.zeros((20, 20), np.float32)
    scores = score_photo(empty, empty)
    assert scores.unknown is None
    assert scores.unknown_curve is None
    assert scores.whole.iou == 1


@pytest.mark.parametrize(
    ("alpha", "truth"),
    [
        (np.zeros((3, 4), np.float32), np.zeros((4, 3), np.float32)),
        (np.zeros((3, 4, 1), np.float32), np.zeros((3, 4, 1), np.float32)),
        (np.zeros((0, 4), np.float32), np.zeros((0, 4), np.float32)),
        (np.zeros((3, 4), np.float64), np.zeros((3, 4), np.float32)),
        (np.full((3, 4), 2, np.float32), np.zeros((3, 4), np.float32)),
        (np.zeros((3, 4), np.float32), np.full((3, 4), np.nan, np.float32)),
    ],
    ids=["two shapes", "three axes", "empty", "float64", "above 1", "not a number"],
)
def test_what_is_no_matte_is_refused(alpha: Float, truth: Float) -> None:
    with pytest.raises(ValueError, match=r"must be"):
        score_photo(alpha, truth)


def test_rank_correlation_looks_at_the_order_alone() -> None:
    assert spearman([1, 2, 3, 4], [0.1, 5, 6, 1000]) == pytest.approx(1)
    assert spearman([1, 2, 3, 4], [9, 8, 2, -3]) == pytest.approx(-1)
    # by hand: ranks 1, 2.5, 2.5, 4 and 1, 3, 2, 4 give 4.5 / sqrt(4.5 * 5)
    assert spearman([1, 2, 2, 9], [1, 3, 2, 4]) == pytest.approx(4.5 / (4.5 * 5) ** 0.5)
    assert spearman([1, 1, 1], [1, 2, 3]) is None
