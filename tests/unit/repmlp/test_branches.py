import json

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from repmlp import CifarNet, RepMLP, RepMLPBlock, Stage, build, config_from_dict, config_to_dict, convert, training_id
from repmlp.config import Kernel, kernel_fits
from repmlp.merge import affine_to_conv, affine_to_fc, conv_to_fc
from repmlp.networks.cifar import TABLE_1
from repmlp.paper import LIGHT_RES50
from search.measuring.costs import count_macs
from tests.blocks import images, lived_in

ALL = ("identity", "1x1-3x3", "1x1-3x5", "1x1-avg3x3", "1x1-avg5x3", (1, 3), (3, 1), 3)


def relative_error(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max() / a.abs().max().clamp_min(1e-30))


@st.composite
def branched_blocks(draw: st.DrawFn) -> RepMLP:
    """Draw a block with at least one named branch: C, O, g, h, w, H, W."""
    groups = draw(st.sampled_from([1, 2, 3]))
    channels = groups * draw(st.integers(1, 3))
    out = draw(st.sampled_from([channels, groups * draw(st.integers(1, 3))]))
    h, w = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    size = draw(st.integers(h, 11)), draw(st.integers(w, 11))
    odd = [f"{i}x{j}" for i in (1, 3, 5) for j in (1, 3, 5) if i <= h and j <= w]
    names = [f"1x1-{k}" for k in odd] + [f"1x1-avg{k}" for k in odd] + ["identity"] * (channels == out)
    sizes = [tuple(map(int, k.split("x"))) for k in odd]
    kernels = [
        *draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True)),
        *draw(st.lists(st.sampled_from(sizes), max_size=2, unique=True)),
    ]
    spec = RepMLPBlock(partition=(h, w), groups=groups, kernels=tuple(kernels), global_perceptron=draw(st.booleans()))
    torch.manual_seed(draw(st.integers(0, 2**16)))
    return lived_in(RepMLP(channels, out, size, spec))


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@given(block=branched_blocks())
@settings(max_examples=100, deadline=None)
def test_a_converted_block_computes_what_its_branches_did(block: RepMLP, dtype: torch.dtype, bound: float) -> None:
    block = block.to(dtype)
    x = images(block, dtype)
    converted = convert(block)
    with torch.no_grad():
        assert relative_error(block(x), converted(x)) <= bound
    assert not converted.local


@given(block=branched_blocks())
@settings(max_examples=50, deadline=None)
def test_a_converted_block_has_the_state_of_one_without_branches(block: RepMLP) -> None:
    shape = block.in_channels, block.out_channels, block.size
    plain = RepMLP(*shape, RepMLPBlock(**{**vars(block.spec), "kernels": ()}))
    converted, without = convert(block).state_dict(), convert(plain).state_dict()
    assert {k: v.shape for k, v in converted.items()} == {k: v.shape for k, v in without.items()}
    RepMLP(*shape, block.spec, deploy=True).load_state_dict(converted)


def test_each_branch_is_the_one_that_its_name_says() -> None:
    """The branches of a block, in order, written out with plain operators."""
    torch.manual_seed(0)
    spec = RepMLPBlock(partition=(5, 6), groups=2, kernels=("identity", "1x1-3x5", "1x1-avg3x5"))
    block = lived_in(RepMLP(4, 4, (5, 6), spec)).double()
    x = images(block, torch.float64)

    def bn(y: torch.Tensor, name: str) -> torch.Tensor:
        return F.batch_norm(y, *(state[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")))

    state = block.local.state_dict()
    y = bn(x, "identity.0")
    z = bn(F.conv2d(x, state["1x1-3x5.0.0.weight"], groups=2), "1x1-3x5.0.1")
    y = y + bn(F.conv2d(F.pad(z, (2, 2, 1, 1)), state["1x1-3x5.1.0.weight"], groups=2), "1x1-3x5.1.1")
    z = F.pad(bn(F.conv2d(x, state["1x1-avg3x5.0.0.weight"], groups=2), "1x1-avg3x5.0.1"), (2, 2, 1, 1))
    means = [z[:, :, i : i + 3, j : j + 5].mean((2, 3)) for i in range(5) for j in range(6)]
    y = y + bn(torch.stack(means, -1).view(x.shape), "1x1-avg3x5.2")
    fc3 = block.fc3_bn(block.fc3(x.flatten(1))).view(x.shape)
    with torch.no_grad():
        torch.testing.assert_close(block(x), fc3 + y, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kernel", ALL)
def test_the_merged_kernel_passes_gradients_to_every_weight(kernel: Kernel) -> None:
    block = lived_in(RepMLP(4, 4, (5, 5), RepMLPBlock(partition=5, groups=2, kernels=(kernel,)))).double()
    weights = dict(block.named_parameters())
    target = torch.randn(100, 50, dtype=torch.float64)

    def loss() -> torch.Tensor:
        merged, bias = block.merged_fc3()
        return (merged * target).sum() + (bias * target[:, 0]).sum()

    gradients = dict(zip(weights, torch.autograd.grad(loss(), list(weights.values()))))
    for name, weight in weights.items():
        direction = torch.randn_like(weight)
        with torch.no_grad():
            weight += 1e-4 * direction
            above = loss()
            weight -= 2e-4 * direction
            slope = (above - loss()) / 2e-4
            weight += 1e-4 * direction
        torch.testing.assert_close(slope, (gradients[name] * direction).sum(), rtol=1e-6, atol=1e-6)
        assert gradients[name].abs().max() > 0, name


def test_a_training_step_reaches_every_parameter_of_the_branches() -> None:
    spec = RepMLPBlock(partition=5, groups=2, kernels=ALL)
    model = lived_in(build(CifarNet(stages=(Stage(channels=4, block=spec),), size=9))).train()
    model(torch.randn(4, 3, 9, 9)).square().sum().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


def test_the_taps_of_a_convolution_come_back() -> None:
    conv = nn.Conv2d(4, 6, (3, 5), padding=(1, 2), groups=2).double()
    torch.testing.assert_close(affine_to_conv(conv, 4, 2, (3, 5)), conv.weight.detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("chunk", [1, 700, 2**22])
def test_a_basis_in_chunks_merges_the_same(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("repmlp.merge.CHUNK", chunk)
    conv, seen = nn.Conv2d(4, 6, 3, padding=1, groups=2).double(), []

    def branch(x: torch.Tensor) -> torch.Tensor:
        seen.append(x.numel())
        return conv(x)

    kernel, bias = affine_to_fc(branch, 4, 2, (3, 5))
    torch.testing.assert_close(kernel, conv_to_fc(conv.weight, (3, 5)))
    torch.testing.assert_close(bias, conv.bias.repeat_interleave(15))
    assert max(seen) <= max(chunk, 60)
    assert sum(seen) == 60 * (30 + 1)


def test_branches_merge_on_the_device_of_the_block() -> None:
    block = RepMLP(4, 4, (4, 4), RepMLPBlock(partition=4, kernels=("identity", "1x1-3x3", "1x1-avg3x3"))).to("meta")
    block.local["own"] = nn.Conv2d(4, 4, 1, device="meta")
    kernel, bias = block.merged_fc3()
    assert kernel.device.type == bias.device.type == "meta"
    assert kernel.shape == (64, 64)


def test_branches_count_as_convolutions_in_training_and_not_at_all_after() -> None:
    # C=4, O=6, g=2, 9 positions: rows of FC3 by its columns; 4x2x1 and 6x2x9 weights of the chain, 6x2 before the mean.
    spec = RepMLPBlock(partition=(3, 3), groups=2, kernels=("1x1-3x3", "1x1-avg3x3"))
    block = RepMLP(4, 6, (3, 3), spec)
    fc3, branches = (6 * 9) * (2 * 9), (4 * 2 + 6 * 2 * 9 + 6 * 2) * 9
    assert count_macs(block, (4, 3, 3)) == fc3 + branches
    assert count_macs(convert(block), (4, 3, 3)) == fc3


@pytest.mark.parametrize(
    ("fields", "channels", "message"),
    [
        ({"kernels": ("identity",)}, (4, 6), r"needs O = C, and C=4, O=6"),
        ({"kernels": ("1x1-2x3",)}, (4, 4), r"1x1-2x3.*must be odd.*\(3, 3\)"),
        ({"kernels": ("1x1-3",)}, (4, 4), 'such as "1x1-3x3"'),
        ({"kernels": ("3x3",)}, (4, 4), 'such as "1x1-3x3"'),
        ({"kernels": ("1x1-max3x3",)}, (4, 4), "1x1-max3x3.*1x1-avgKxK"),
        ({"kernels": ("1x1-avg3x9",)}, (4, 4), "1x1-avg3x9.*exceeds the partition"),
        ({"kernels": "identity"}, (4, 4), "must be a list"),
        ({"kernels": (1, "identity"), "fc3_conv": 3}, (4, 4), "identity.*fc3_conv=.*use sizes alone"),
        ({"kernels": ("1x1-3x3",), "fc3_conv": 3}, (4, 4), "1x1-3x3.*exactly at the border"),
    ],
)
def test_a_wrong_branch_is_refused_with_what_would_be_right(
    fields: dict, channels: tuple[int, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        RepMLP(*channels, (14, 14), RepMLPBlock(**{"partition": 7, **fields}))


def test_a_branch_of_ones_own_is_not_lost_when_fc3_is_a_convolution() -> None:
    block = lived_in(RepMLP(4, 4, (6, 6), RepMLPBlock(partition=3, kernels=(), fc3_conv=3)))
    block.local["own"] = nn.Sequential(nn.Conv2d(4, 4, 1), nn.AvgPool2d(3, 1, 1))
    with pytest.raises(ValueError, match="own do not merge into a convolution"):
        convert(block)


@pytest.mark.parametrize(
    ("kernel", "partition", "fits"),
    [
        (3, (3, 3), True),
        ((1, 5), (3, 3), False),
        ("identity", (1, 1), True),
        ("1x1-3x5", (3, 5), True),
        ("1x1-3x5", (5, 3), False),
        ("1x1-avg5x1", (3, 3), False),
    ],
)
def test_a_kernel_fits_a_partition_that_holds_its_window(kernel: Kernel, partition: tuple, fits: bool) -> None:
    assert kernel_fits(kernel, partition) is fits


def test_the_window_of_a_named_branch_counts_in_the_merged_kernel() -> None:
    assert RepMLPBlock(kernels=(1, "1x1-3x5", "identity")).merged_kernel() == (3, 5)
    assert RepMLPBlock(kernels=((1, 3), (5, 1)), fc3_conv=3).merged_kernel() == (5, 3)


def test_the_canonical_form_sorts_sizes_before_names_and_drops_duplicates() -> None:
    spec = RepMLPBlock(partition=11, kernels=("identity", 11, (3, 1), "1x1-3x3", 3, "1x1-avg3x3", "identity", (1, 3)))
    canonical = ((1, 3), (3, 1), (3, 3), (11, 11), "1x1-3x3", "1x1-avg3x3", "identity")
    assert spec.canonical((14, 14)).kernels == canonical


def test_a_network_with_named_branches_survives_json() -> None:
    config = CifarNet(stages=(Stage(channels=4, block=RepMLPBlock(kernels=ALL)),), size=14)
    assert config_from_dict(json.loads(json.dumps(config_to_dict(config)))) == config.canonical()


@pytest.mark.parametrize(
    ("config", "known"),
    [
        (TABLE_1["Pure MLP"], "a15c68376dcbff52"),
        (TABLE_1["D) FC3 as conv9"], "44f5584b5e5aab8b"),
        (LIGHT_RES50, "33c044d0dfb2f8d8"),
    ],
)
def test_the_identity_of_a_network_without_named_branches_is_that_of_recorded_runs(config: object, known: str) -> None:
    assert training_id(config) == known
