import pytest
import torch
from torch import Tensor, nn

from repmlp import RepMLP, RepMLPBlock, build
from repmlp.networks.mixer import MixerNet
from repmlp.paper import TABLES
from search.measuring.costs import UnknownOperatorError, count_macs, counts, unset


def test_macs_counted_by_hand() -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(48, 5))
    assert count_macs(model, (2, 4, 4)) == 3 * 2 * 9 * 16 + 48 * 5


@pytest.mark.parametrize("deploy", [False, True])
def test_macs_of_a_block_follow_the_closed_form(deploy: bool) -> None:
    c, o, g, size, (h, w), kernels = 4, 6, 2, (8, 9), (4, 3), (1, 3)
    block = RepMLP(c, o, size, RepMLPBlock(partition=(h, w), groups=g, kernels=kernels, reduction=2), deploy)
    parts = (size[0] // h) * (size[1] // w)
    hidden = c * parts // 2
    macs = 2 * c * parts * hidden + parts * o * h * w * (c // g) * h * w
    if not deploy:
        macs += sum(o * (c // g) * k * k for k in kernels) * size[0] * size[1]
    assert count_macs(block, (c, *size)) == macs


def test_an_unknown_operator_is_an_error() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cumprod(x * self.weight, 1)

    with pytest.raises(UnknownOperatorError, match="aten::cumprod"):
        count_macs(Odd(), (1, 2, 2))


@pytest.mark.parametrize("deploy", [True, False])
@pytest.mark.parametrize("name", ["1 Pure MLP", "1 D) FC3 as conv9", "3 c3 c4", "4 GC-Res50 320", "4 NL-Res50 320"])
def test_a_network_without_values_counts_as_one_that_is_executed(name: str, deploy: bool) -> None:
    table, _, row = name.partition(" ")
    config = TABLES[int(table)][row]
    bare = unset(config, deploy)
    assert {p.device.type for p in bare.parameters()} == {"meta"}
    shape = (3, *config.size)
    assert count_macs(bare, shape) == count_macs(build(config, deploy), shape)


@pytest.mark.parametrize("style", ["mixer", "resmlp"])
def test_tokens_mixed_by_a_convolution_count_without_values(style: str) -> None:
    config = MixerNet(style=style, patch=4, channels=8, blocks=1, token_hidden=4, channel_hidden=16, size=(8, 8))
    assert count_macs(unset(config, True), (3, 8, 8)) == count_macs(build(config, True), (3, 8, 8))


def test_a_network_that_asks_for_values_is_executed_to_be_counted() -> None:
    class Asking(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x if float(x.detach().flatten()[0]) > 7 else x + x)

    with torch.device("meta"):
        model = nn.Sequential(nn.Flatten(), Asking(12, 5))
    assert counts(model, (3, 2, 2)) == {"params": 65, "macs": 60}
