import json
from collections.abc import Callable
from dataclasses import asdict

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from repmlp import convert
from repmlp.networks.mobilefacenet import Bottleneck, MobileFaceNet, MobileFaceNetwork
from search.measuring.costs import count_macs
from tests.blocks import lived_in

BOUNDS = {torch.float64: 1e-10, torch.float32: 1e-5}
CONFIGS = [
    MobileFaceNet(),
    MobileFaceNet(size=(33, 48), in_channels=1, classes=10, width=0.5),
    MobileFaceNet(size=16, width=1 / 64),
]


def closed_form(config: MobileFaceNet) -> tuple[int, int, int, int]:
    """Multiply-adds, weights, biases and slopes by the table of arXiv 1804.07573, layer by layer."""
    rows, columns = config.size
    channels, macs, weights, biases, slopes = config.in_channels, 0, 0, 0, 0

    def layer(out: int, area: int, depthwise: bool, prelu: bool) -> None:
        nonlocal channels, macs, weights, biases, slopes
        kernel = area * out * (1 if depthwise else channels)
        macs, weights, biases = macs + kernel * rows * columns, weights + kernel, biases + out
        slopes, channels = slopes + (out if prelu else 0), out

    def halve() -> None:
        nonlocal rows, columns
        rows, columns = (rows + 1) // 2, (columns + 1) // 2

    halve()
    layer(int(64 * config.width), 9, False, True)
    layer(channels, 9, True, True)
    for t, c, n, s in [(2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1)]:
        for index in range(n):
            layer(t * channels, 1, False, True)
            if index == 0 and s == 2:
                halve()
            layer(channels, 9, True, True)
            layer(int(c * config.width), 1, False, False)
    layer(int(512 * config.width), 1, False, True)
    area, rows, columns = rows * columns, 1, 1
    layer(channels, area, True, False)
    layer(config.classes, 1, False, False)
    return macs, weights, biases, slopes


def params(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_counts_of_table_5() -> None:
    """Table 5 of RepMLP: 162M and 0.98M, cut."""
    model = convert(MobileFaceNetwork(MobileFaceNet()))
    assert (count_macs(model, (3, 96, 96)), params(model)) == (162_359_296, 986_688)


def test_counts_of_its_own_paper() -> None:
    """arXiv 1804.07573, at 112 x 112: 221M multiply-adds and 0.99M parameters, rounded."""
    model = convert(MobileFaceNetwork(MobileFaceNet(size=112)))
    assert (count_macs(model, (3, 112, 112)), params(model)) == (220_965_376, 993_344)


@pytest.mark.parametrize("config", [*CONFIGS, MobileFaceNet(size=(97, 65), width=1.25)])
def test_counts_follow_the_closed_form(config: MobileFaceNet) -> None:
    macs, weights, biases, slopes = closed_form(config)
    model = MobileFaceNetwork(config, deploy=True)
    assert count_macs(model, (config.in_channels, *config.size)) == macs
    assert params(model) == weights + biases + slopes
    assert params(MobileFaceNetwork(config)) == weights + 2 * biases + slopes  # a BN has a weight and a bias


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("config", CONFIGS)
def test_a_converted_network_computes_what_the_trained_one_does(config: MobileFaceNet, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = lived_in(MobileFaceNetwork(config)).to(dtype)
    x = torch.randn(3, config.in_channels, *config.size, dtype=dtype)
    with torch.no_grad():
        y, converted = model(x), convert(model)(x)
    assert y.shape == (3, config.classes)
    assert (y[0] - y[1]).abs().max() > 0
    assert (y - converted).abs().max() <= BOUNDS[dtype] * y.abs().max()


@pytest.mark.parametrize("config", CONFIGS)
def test_a_converted_state_dict_loads_into_a_network_built_for_deployment(config: MobileFaceNet) -> None:
    converted = convert(lived_in(MobileFaceNetwork(config)))
    fresh = MobileFaceNetwork(config.deployed(), deploy=True).eval()
    fresh.load_state_dict(converted.state_dict())
    assert not any(isinstance(m, nn.BatchNorm2d) for m in converted.modules())
    x = torch.randn(2, config.in_channels, *config.size)
    with torch.no_grad():
        torch.testing.assert_close(fresh(x), converted(x), rtol=0, atol=0)


def test_bottlenecks_add_their_input_where_the_shape_is_kept() -> None:
    """With its last BN at zero a bottleneck gives its input, or nothing."""
    model = lived_in(MobileFaceNetwork(MobileFaceNet(size=32, width=0.25)))
    x = torch.randn(2, 3, 32, 32)
    kept = []
    with torch.no_grad():
        x = model.stem(x)
        for block in model.blocks:
            nn.init.zeros_(block.layers[-1].weight)
            nn.init.zeros_(block.layers[-1].bias)
            y = block(x)
            kept.append(torch.equal(x, y))
            assert kept[-1] or not y.any()
            x = y if kept[-1] else torch.randn_like(y)
    assert kept == [False, *[True] * 4, False, *[True] * 6, False, *[True] * 2]


def test_a_bottleneck_ends_linear() -> None:
    """Negating the last BN negates the output, which no non-linearity after it would allow."""
    block = lived_in(Bottleneck(4, 6, expansion=2, stride=2, deploy=False))
    x = torch.randn(2, 4, 8, 8)
    with torch.no_grad():
        y = block(x)
        block.layers[-1].weight.neg_()
        block.layers[-1].bias.neg_()
        torch.testing.assert_close(block(x), -y)


def test_the_layers_after_the_last_prelu_are_affine() -> None:
    model = lived_in(MobileFaceNetwork(MobileFaceNet(size=32, width=0.25))).double()
    last_prelu = max(i for i, m in enumerate(model.head) if isinstance(m, nn.PReLU))
    head = model.head[last_prelu + 1 :]
    a, b = torch.randn(2, 1, 128, 2, 2, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(head(a) + head(b), head(a + b) + head(torch.zeros_like(a)))


@given(st.floats(1 / 64, 4), st.floats(0, 1 / 512))
def test_networks_of_the_same_channels_have_one_canonical_form(width: float, more: float) -> None:
    a, b = MobileFaceNet(width=width).canonical(), MobileFaceNet(width=width + more).canonical()
    bases = (64, 128, 512)
    assert [a.channels(c) for c in bases] == [int(c * width) for c in bases]
    assert (a == b) == all(int(c * width) == int(c * (width + more)) for c in bases)
    assert a.canonical() == a


def test_a_config_survives_json() -> None:
    config = MobileFaceNet(size=(112, 96), in_channels=1, classes=512, width=0.7).canonical()
    assert MobileFaceNet(**json.loads(json.dumps(asdict(config)))) == config


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MobileFaceNet(size=0), "size"),
        (lambda: MobileFaceNet(in_channels=0), "in_channels"),
        (lambda: MobileFaceNet(classes=-1), "classes"),
        (lambda: MobileFaceNet(width=0.01), "1/64"),
        (lambda: MobileFaceNet(width=float("nan")), "finite"),
        (lambda: MobileFaceNet(width=float("inf")), "finite"),
        (lambda: MobileFaceNet(width=True), "width=True"),
    ],
)
def test_wrong_values_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
