"""The small network: shapes, range, size and the folding of its batch norms."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from mattehorn.models.unet import SlimHalfUNet, fuse

PARAMETERS = 2_423_415  # design: slim_half_w32


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads on a busy machine wait for each other at every layer."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def network() -> SlimHalfUNet:
    """A network whose batch norms have seen data, so that folding them has something to fold."""
    torch.manual_seed(0)
    network = SlimHalfUNet().train()
    with torch.no_grad():
        for _ in range(3):
            network(torch.randn(2, 3, 64, 64) * 2 + 1)
    return network.eval()


def test_the_default_network_has_the_designed_number_of_parameters(network: SlimHalfUNet) -> None:
    assert sum(weight.numel() for weight in network.parameters()) == PARAMETERS


def test_a_narrower_network_is_smaller() -> None:
    parameters = sum(weight.numel() for weight in SlimHalfUNet(width=24).parameters())
    assert 0.5 * PARAMETERS < parameters < 0.6 * PARAMETERS


@pytest.mark.parametrize(("height", "width"), [(64, 64), (65, 130), (33, 31), (32, 97), (1, 1)])
def test_both_heads_answer_at_the_size_of_the_input(network: SlimHalfUNet, height: int, width: int) -> None:
    with torch.no_grad():
        alpha, trimap = network(torch.randn(2, 3, height, width))
    assert alpha.shape == (2, 1, height, width)
    assert trimap.shape == (2, 3, height, width)


def test_alpha_stays_between_zero_and_one_for_wild_input(network: SlimHalfUNet) -> None:
    with torch.no_grad():
        alpha, _ = network(torch.randn(1, 3, 64, 64) * 100)
    assert 0 <= float(alpha.min()) <= float(alpha.max()) <= 1


def test_alpha_alone_equals_the_first_head(network: SlimHalfUNet) -> None:
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(network.alpha(x), network(x)[0])


def test_fusing_changes_no_answer_and_leaves_no_batch_norm(network: SlimHalfUNet) -> None:
    x = torch.randn(2, 3, 96, 65)
    fused = fuse(network)
    with torch.no_grad():
        for own, other in zip(network(x), fused(x), strict=True):
            assert torch.allclose(own, other, atol=1e-4)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def test_a_photo_in_a_batch_gets_the_answer_it_gets_alone(network: SlimHalfUNet) -> None:
    x = torch.randn(3, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(network(x)[0][1:2], network(x[1:2])[0], atol=1e-5)


def test_gradients_reach_every_weight() -> None:
    network = SlimHalfUNet().train()
    alpha, trimap = network(torch.randn(2, 3, 64, 64))
    (alpha.mean() + trimap.square().mean()).backward()
    assert all(weight.grad is not None for weight in network.parameters())
