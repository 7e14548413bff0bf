"""The table of networks: every one of them answers, folds and is named."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from mattehorn.errors import ModelError
from mattehorn.models.networks import NETWORKS, build_network, fuse


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads on a busy machine wait for each other at every layer."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def shake_norms(network: nn.Module) -> nn.Module:
    """Statistics and factors as after training, unlike any norm's first ones, so that folding has something to fold."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean = torch.randn(module.num_features) * 0.1
            module.running_var = torch.rand(module.num_features) + 0.5
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
    return network.eval()


@pytest.mark.parametrize("name", list(NETWORKS))
def test_every_network_gives_alpha_and_trimap_at_the_size_of_its_input(name: str) -> None:
    torch.manual_seed(0)
    network = build_network(name).eval()
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        alpha, trimap = network(x)
        assert torch.equal(network.alpha(x), alpha)
    assert alpha.shape == (1, 1, 64, 96)
    assert trimap.shape == (1, 3, 64, 96)
    assert 0 <= float(alpha.min()) <= float(alpha.max()) <= 1


@pytest.mark.parametrize("name", list(NETWORKS))
def test_folding_any_network_leaves_no_batch_norm_and_the_same_answers(name: str) -> None:
    torch.manual_seed(1)
    network = shake_norms(build_network(name))
    fused = fuse(network)
    assert not [module for module in fused.modules() if isinstance(module, nn.BatchNorm2d)]
    assert [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        for own, other in zip(network(x), fused(x), strict=True):
            assert float((own - other).abs().max()) < 1e-3 * max(1.0, float(own.abs().max()))


def test_a_folded_convolution_has_the_weights_worked_out_by_hand() -> None:
    """3 x, then (y - 1) / sqrt(4) * 2 + 5: in one step 3 x + 4."""
    block = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.BatchNorm2d(1, eps=0.0))
    with torch.no_grad():
        block[0].weight.fill_(3)
        block[1].weight.fill_(2)
        block[1].bias.fill_(5)
    block[1].running_mean, block[1].running_var = torch.tensor([1.0]), torch.tensor([4.0])
    folded = fuse(block)
    assert isinstance(folded[1], nn.Identity)
    assert folded[0].weight.item() == pytest.approx(3)
    assert folded[0].bias.item() == pytest.approx(4)


def test_a_norm_that_follows_no_convolution_is_left_as_it_is() -> None:
    class Before(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(2)
            self.conv = nn.Conv2d(2, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return torch.as_tensor(self.conv(self.norm(x)))

    network = shake_norms(Before())
    folded = fuse(network)
    assert isinstance(folded.norm, nn.BatchNorm2d)
    x = torch.randn(1, 2, 4, 4)
    assert torch.equal(folded(x), network(x))


def test_an_unknown_network_is_told_with_what_is_known() -> None:
    with pytest.raises(ModelError, match="resnet101; known: slim_half_w32"):
        build_network("resnet101")
