import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.utils.model import reparameterize_model
from torch import nn
from torchvision.models import resnet18

from repmlp import RepMLP, RepMLPBlock, build, convert
from repmlp.merge import affine_to_fc, bn_scale_shift, conv_to_fc
from repmlp.networks.cifar import TABLE_1, CifarNet, Stage
from tests.blocks import blocks, images, lived_in

BOUNDS = {torch.float64: 1e-10, torch.float32: 1e-5}


def relative_error(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max() / a.abs().max().clamp_min(1e-30))


def eq_15(kernel: torch.Tensor, size: tuple[int, int], groups: int) -> torch.Tensor:
    """The paper's way, an identity matrix through the convolution, with the transpose that O != C needs."""
    h, w = size
    n = kernel.shape[1] * h * w
    identity = torch.eye(n, dtype=kernel.dtype).repeat(1, groups).view(n, kernel.shape[1] * groups, h, w)
    padding = kernel.shape[2] // 2, kernel.shape[3] // 2
    return F.conv2d(identity, kernel, padding=padding, groups=groups).reshape(n, -1).T


@pytest.mark.parametrize("dtype", BOUNDS)
@given(block=blocks())
@settings(max_examples=150, deadline=None)
def test_a_converted_block_computes_what_the_trained_one_does(block: RepMLP, dtype: torch.dtype) -> None:
    block = block.to(dtype)
    x = images(block, dtype)
    with torch.no_grad():
        assert relative_error(block(x), convert(block)(x)) <= BOUNDS[dtype]


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("name", TABLE_1)
def test_converted_networks_compute_what_the_trained_ones_do(name: str, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    model = lived_in(build(TABLE_1[name])).to(dtype)
    for n in (1, 4):
        x = torch.randn(n, 3, 32, 32, dtype=dtype)
        with torch.no_grad():
            assert relative_error(model(x), convert(model)(x)) <= BOUNDS[dtype]


@given(block=blocks())
@settings(max_examples=60, deadline=None)
def test_a_converted_state_dict_loads_into_a_block_built_for_deployment(block: RepMLP) -> None:
    converted = convert(block)
    fresh = RepMLP(block.in_channels, block.out_channels, block.size, block.spec, deploy=True).eval()
    fresh.load_state_dict(converted.state_dict())
    x = images(block)
    with torch.no_grad():
        torch.testing.assert_close(fresh(x), converted(x), rtol=0, atol=0)


@given(
    st.integers(1, 3),
    st.integers(1, 3),
    st.sampled_from([1, 2, 4]),
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
    st.tuples(st.sampled_from([1, 3, 5, 7, 13]), st.sampled_from([1, 3, 5, 7, 13])),
)
@settings(max_examples=150, deadline=None)
def test_the_direct_kernel_is_that_of_eq_15(
    i: int, o: int, groups: int, size: tuple[int, int], kernel: tuple[int, int]
) -> None:
    weight = torch.randn(o * groups, i, *kernel, dtype=torch.float64)
    torch.testing.assert_close(conv_to_fc(weight, size), eq_15(weight, size, groups), rtol=0, atol=0)


def test_a_conv_to_fc_kernel_worked_out_by_hand() -> None:
    kernel = torch.arange(1.0, 4.0).view(1, 1, 1, 3)
    expected = torch.tensor([[2.0, 3.0, 0.0], [1.0, 2.0, 3.0], [0.0, 1.0, 2.0]])
    torch.testing.assert_close(conv_to_fc(kernel, (1, 3)), expected)


def test_the_direct_kernel_passes_gradients() -> None:
    weight = torch.randn(2, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda k: conv_to_fc(k, (2, 3)), weight)


def test_the_merged_kernel_can_stand_in_a_loss() -> None:
    block = lived_in(RepMLP(4, 6, (4, 4), RepMLPBlock(partition=2, groups=2, kernels=(1,))))
    kernel, bias = block.merged_fc3()
    (kernel.square().sum() + bias.sum()).backward()
    reached = {name for name, p in block.named_parameters() if p.grad is not None}
    assert {"fc3.weight", "local.1x1.0.weight", "local.1x1.1.weight", "fc3_bn.bias"} <= reached


def test_any_affine_branch_merges() -> None:
    block = RepMLP(4, 6, (6, 6), RepMLPBlock(partition=3, groups=2, kernels=(3,))).double()
    block.local["1x1-3x3"] = nn.Sequential(
        nn.Conv2d(4, 4, 1, groups=2), nn.BatchNorm2d(4), nn.ZeroPad2d(1), nn.Conv2d(4, 6, 3, groups=2)
    ).double()
    block.local["pool"] = nn.Sequential(nn.Conv2d(4, 6, 1, groups=2), nn.AvgPool2d(3, 1, 1), nn.BatchNorm2d(6)).double()
    block = lived_in(block)
    x = images(block, torch.float64)
    with torch.no_grad():
        before, converted = block(x), convert(block)
        assert relative_error(before, converted(x)) <= 1e-10
        assert relative_error(before, block(x)) == 0


def test_a_branch_in_float32_keeps_its_dtype_when_the_kernel_is_merged() -> None:
    block = RepMLP(2, 2, (4, 4), RepMLPBlock(partition=2, kernels=()))
    block.local["own"] = nn.Conv2d(2, 2, 1)
    block.eval().merged_fc3()
    assert block.local["own"].weight.dtype == torch.float32


def test_affine_to_fc_agrees_with_the_direct_kernel() -> None:
    conv = nn.Conv2d(4, 6, 3, padding=1, groups=2).double()
    kernel, bias = affine_to_fc(conv, 4, 2, (3, 5))
    torch.testing.assert_close(kernel, conv_to_fc(conv.weight, (3, 5)))
    torch.testing.assert_close(bias, conv.bias.repeat_interleave(15))


def test_converting_twice_changes_nothing() -> None:
    once = convert(lived_in(build(TABLE_1["Pure MLP"])))
    twice = convert(once)
    for (name, a), (_, b) in zip(once.state_dict().items(), twice.state_dict().items(), strict=True):
        assert torch.equal(a, b), name


def test_converting_leaves_the_model_given_as_it_was() -> None:
    model = lived_in(build(TABLE_1["D) FC3 as conv9"])).train()
    before = copy.deepcopy(model.state_dict())
    convert(model)
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_converting_keeps_the_dtype(dtype: torch.dtype) -> None:
    model = convert(lived_in(RepMLP(4, 4, (4, 4), RepMLPBlock(partition=2, kernels=(1,)))).to(dtype))
    assert {p.dtype for p in model.parameters()} == {dtype}


def test_tiny_variances_keep_the_relative_error() -> None:
    block = lived_in(RepMLP(8, 8, (8, 8), RepMLPBlock(partition=4, groups=2, kernels=(1, 3))))
    for module in block.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.running_var, 1e-7, 1e-5)
    x = images(block)
    with torch.no_grad():
        assert relative_error(block(x), convert(block)(x)) <= 1e-5


def test_no_bn_and_no_branch_is_left_in_a_converted_network() -> None:
    kinds = {type(m).__name__ for m in convert(build(TABLE_1["Pure MLP"])).modules()}
    assert not {k for k in kinds if "BatchNorm" in k or k == "ConvBN"}


def test_convert_folds_the_conv_bn_pairs_of_a_torchvision_network() -> None:
    model = lived_in(resnet18(num_classes=10)).double()
    converted = convert(model)
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        assert relative_error(model(x), converted(x)) <= 1e-10
    assert not any(isinstance(m, nn.BatchNorm2d) for m in converted.modules())


def test_a_bn_whose_input_others_read_too_is_kept() -> None:
    class Host(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bn = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(x)
            return y + self.bn(y)

    model = lived_in(Host())
    x = torch.randn(2, 2, 3, 3)
    with torch.no_grad():
        torch.testing.assert_close(convert(model)(x), model(x))


def test_a_conv_used_twice_is_not_folded() -> None:
    class Host(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.bn = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.bn(self.conv(x)) + self.conv(x)

    model = lived_in(Host())
    x = torch.randn(2, 2, 3, 3)
    with torch.no_grad():
        torch.testing.assert_close(convert(model)(x), model(x))


def test_an_untraceable_host_is_refused_with_the_way_out() -> None:
    class Host(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(ValueError, match=r"reparameterize\(\)"):
        convert(Host())


def test_timms_reparameterize_model_finds_our_blocks() -> None:
    config = CifarNet(stages=(Stage(channels=4, block=RepMLPBlock(partition=4, kernels=(1, 3))),), size=8)
    model = lived_in(build(config))
    converted = reparameterize_model(model)
    assert all(m.converted for m in converted.modules() if isinstance(m, RepMLP))
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(converted(x), model(x), rtol=1e-4, atol=1e-5)


def test_a_bn_without_running_statistics_is_refused() -> None:
    with pytest.raises(ValueError, match="track_running_stats"):
        bn_scale_shift(nn.BatchNorm1d(3, track_running_stats=False))
