import json

import pytest
import torch
from torch import nn

from repmlp import RepMLP, RepMLPBlock
from repmlp.cifar import TABLE_1
from results.comparison import compare, cut_as
from search.costs import UnknownOperatorError, count_macs, network_costs, training_costs

# Table 1: multiply-adds and parameters, from the paper's counts of the resolved architecture.
TABLE = {
    "Pure MLP": (52_843_520, 22_414_426),
    "B) w/o Local": (52_843_520, 22_414_426),
    "C) w/o Global": (52_515_840, 22_085_210),
    "D) FC3 as conv9": (66_212_864, 815_674),
    "E) RepMLP as conv9": (65_885_184, 486_458),
    "Wide ConvNet": (65_180_672, 507_498),
}


@pytest.mark.parametrize("row", TABLE)
def test_counts_of_table_1(row: str) -> None:
    macs, params = TABLE[row]
    assert network_costs(TABLE_1[row]) == {"params": params, "macs": macs}


def test_counts_of_table_1_before_conversion() -> None:
    assert training_costs(TABLE_1["Pure MLP"]) == {"params": 22_913_891, "macs": 118_903_808}


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
            return torch.cumsum(x * self.weight, 1)

    with pytest.raises(UnknownOperatorError, match="aten::cumsum"):
        count_macs(Odd(), (1, 2, 2))


def test_the_paper_cuts_digits_off() -> None:
    assert cut_as(65_885_184, "65.8")
    assert not cut_as(65_885_184, "65.9")
    assert cut_as(507_498, "0.50")
    assert not cut_as(511_000, "0.50")


def test_a_wrong_count_does_not_match() -> None:
    counts = {row: {"macs": m, "params": p} for row, (m, p) in TABLE.items()}
    counts["A) before conversion"] = {"macs": 118_903_808, "params": 22_882_618}
    rows = compare(1, counts).set_index("row")
    assert not rows.loc["A) before conversion", "match"]
    assert rows.drop("A) before conversion")["match"].all()
    assert json.loads(rows.reset_index().to_json(orient="records"))[0]["paper_macs_m"] == 52.8
