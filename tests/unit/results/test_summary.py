import pytest

from repmlp import config_to_dict
from results.summary import summary
from tests.unit.repmlp.test_networks import FAMILIES

EXPECTED = {
    "pure MLP": "16x2 RepMLP 8 g2 k1+3+5+7 global | 32x2 RepMLP 8 g2 k1+3+5+7 global | 64x2 RepMLP 8 g2 k1+3+5+7",
    "RepMLP Bottleneck": "c2 32x3 bottleneck r2 4 g2 k1+3 global | c3 64x4 bottleneck r2 4 g2 k1+3 global | "
    "c4 128x6 bottleneck r2 4 g2 k1+3 global | c5 256x3",
    "GC": "c2 32x3 | c3 64x4 gc | c4 128x6 gc | c5 256x3",
    "RepMLPNet": "8x1 S2 4 | 16x2 S16 4",
    "ResMLP with RepMLP": "resmlp 16x2 /4 4 g2 k1+3 global",
    "torchvision ResNet-50": "resnet50",
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_network_is_described_in_one_line(family: str) -> None:
    line = summary(config_to_dict(FAMILIES[family]))
    assert line == EXPECTED.get(family, line)
    assert 0 < len(line) < 200
