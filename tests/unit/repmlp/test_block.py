import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from repmlp import CifarNet, RepMLP, RepMLPBlock, Stage, build, config_from_dict, config_to_dict, convert
from repmlp.grouped_linear import GroupedLinear
from repmlp.networks.cifar import TABLE_1
from tests.blocks import Copies, blocks, images, lived_in


def written_out(block: RepMLP, x: torch.Tensor) -> torch.Tensor:
    """RepMLP by loops over partitions, with plain operators (paper, Sec. 3.1 and 3.2)."""
    (h, w), (rows, columns), spec = block.partition, block.grid, block.spec
    height, width = block.size
    x = F.pad(x, (0, columns * w - width, 0, rows * h - height))
    n = x.shape[0]
    if spec.global_perceptron:
        pooled = torch.stack(
            [
                torch.stack(
                    [x[:, :, i * h : (i + 1) * h, j * w : (j + 1) * w].mean((2, 3)) for j in range(columns)], -1
                )
                for i in range(rows)
            ],
            -2,
        )
        v = block.fc2(F.relu(block.fc1(block.pool_bn(pooled).reshape(n, -1)))).view(n, -1, rows, columns)
        x = x + v.repeat_interleave(h, 2).repeat_interleave(w, 3)
    y = torch.zeros(n, block.out_channels, rows * h, columns * w, dtype=x.dtype)
    for i in range(rows):
        for j in range(columns):
            part = x[:, :, i * h : (i + 1) * h, j * w : (j + 1) * w]
            if spec.fc3_conv is None:
                weight = block.fc3.weight[:, :, None, None]
                out = block.fc3_bn(F.conv2d(part.reshape(n, -1, 1, 1), weight, groups=spec.groups).flatten(1))
                out = out.view(n, -1, h, w)
            else:
                out = block.fc3_bn(block.fc3(part.contiguous()))
            for branch in block.local.values():
                out = out + branch(part.contiguous())
            y[:, :, i * h : (i + 1) * h, j * w : (j + 1) * w] = out
    return y[:, :, :height, :width]


@given(block=blocks())
@settings(max_examples=100, deadline=None)
def test_the_block_is_the_paper_written_out(block: RepMLP) -> None:
    block = block.double()
    x = images(block, torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(block(x), written_out(block, x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_grouped_linear_is_a_grouped_1x1_convolution_forward_and_backward(
    groups: int, training: bool, bias: bool
) -> None:
    layer = GroupedLinear(8, 12, groups, bias).double().train(training)
    x = torch.randn(5, 8, dtype=torch.float64, requires_grad=True)
    y, z = layer(x), F.conv2d(x[:, :, None, None], layer.weight[:, :, None, None], layer.bias, groups=groups).flatten(1)
    torch.testing.assert_close(y, z)
    leaves = [x, *layer.parameters()]
    for a, b in zip(torch.autograd.grad(y.square().sum(), leaves), torch.autograd.grad(z.square().sum(), leaves)):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_grouped_linear_trains_in_mixed_precision(dtype: torch.dtype) -> None:
    layer = GroupedLinear(8, 8, 2)
    with torch.autocast("cpu", dtype):
        y = layer(torch.randn(4, 8))
    y.float().sum().backward()
    assert y.dtype == dtype
    assert layer.weight.grad.dtype == torch.float32


def batched(layer: GroupedLinear, x: torch.Tensor) -> torch.Tensor:
    """The layer by autograd's own batched product, `(M, g*n) -> (M, g*k)`."""
    weight = layer.weight.view(layer.groups, -1, layer.weight.shape[1])
    split = x.view(x.shape[0], layer.groups, -1).transpose(0, 1)
    return torch.bmm(split, weight.transpose(1, 2)).transpose(0, 1).reshape(x.shape[0], -1)


@given(sizes=st.tuples(st.integers(1, 40), *[st.integers(1, 5)] * 3), seed=st.integers(0, 2**16))
@settings(max_examples=100, deadline=None)
def test_grouped_linear_has_the_gradients_of_a_batched_product(sizes: tuple[int, ...], seed: int) -> None:
    torch.manual_seed(seed)
    m, g, n, k = sizes
    layer = GroupedLinear(g * n, g * k, g, bias=False).double()
    x, grad = torch.randn(m, g * n, dtype=torch.float64, requires_grad=True), torch.randn(m, g * k, dtype=torch.float64)
    leaves = [x, layer.weight]
    y, z = layer(x), batched(layer, x)
    torch.testing.assert_close(y, z, rtol=1e-12, atol=1e-12)
    for a, b in zip(torch.autograd.grad(y, leaves, grad), torch.autograd.grad(z, leaves, grad)):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bf16", [False, True])
def test_training_grouped_linear_copies_neither_its_output_nor_a_gradient(bf16: bool) -> None:
    layer = GroupedLinear(8, 12, 2)
    dtype = torch.bfloat16 if bf16 else torch.float32
    x = torch.randn(64, 8, dtype=dtype, requires_grad=True)
    with Copies() as copies:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            y = layer(x)
        y.backward(torch.randn(64, 12, dtype=dtype))
    assert copies.count == 0
    assert all(t.is_contiguous() for t in (y, x.grad, layer.weight.grad))


@pytest.mark.parametrize("rows", [3, 64])
def test_grouped_linear_can_be_differentiated_twice(rows: int) -> None:
    layer = GroupedLinear(4, 6, 2, bias=False).double()
    x = torch.randn(rows, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x, _: layer(x), (x, layer.weight))


def test_grouped_linear_compiles_into_one_graph() -> None:
    layer = GroupedLinear(8, 12, 2, bias=False).double()
    x = torch.randn(64, 8, dtype=torch.float64, requires_grad=True)
    y, z = torch.compile(layer, fullgraph=True, backend="aot_eager")(x), batched(layer, x)
    leaves = [x, layer.weight]
    torch.testing.assert_close(y, z)
    for a, b in zip(torch.autograd.grad(y.square().sum(), leaves), torch.autograd.grad(z.square().sum(), leaves)):
        torch.testing.assert_close(a, b)


# (C, H, h, g, K, reduction): parameters and multiply-adds per block, deployed and in training, of the paper's networks.
COUNTS = [
    (16, 32, 8, 2, (1, 3, 5, 7), 1, 656_896, 668_832),
    (32, 16, 8, 2, (1, 3, 5, 7), 1, 2_132_224, 2_177_600),
    (64, 8, 8, 2, (1, 3, 5, 7), 1, 8_392_704, 8_569_344),
    (64, 28, 7, 8, (1, 3, 5), 1, 3_331_648, 3_353_216),
    (64, 14, 7, 8, (1, 3, 5), 1, 1_364_032, 1_385_600),
    (128, 7, 7, 8, (1, 3, 5), 1, 4_923_520, 5_002_240),
    (64, 40, 10, 4, (1, 3, 5, 7), 1, 12_345_600, 12_438_656),
    (64, 20, 10, 16, (1, 3, 5, 7), 1, 2_697_984, 2_726_528),
    (64, 90, 10, 4, (1, 3, 5, 7), 4, 23_689_808, 23_782_864),
]


@pytest.mark.parametrize(("c", "size", "h", "g", "kernels", "reduction", "deployed", "trained"), COUNTS)
def test_parameters_of_the_papers_blocks(c, size, h, g, kernels, reduction, deployed, trained) -> None:
    spec = RepMLPBlock(partition=h, groups=g, kernels=kernels, reduction=reduction)
    with torch.device("meta"):
        for deploy, expected in ((True, deployed), (False, trained)):
            block = RepMLP(c, c, (size, size), spec, deploy)
            assert sum(p.numel() for p in block.parameters()) == expected


@given(block=blocks())
@settings(max_examples=30, deadline=None)
def test_any_memory_layout_will_do(block: RepMLP) -> None:
    x = images(block)
    for module in (block, convert(block)):
        with torch.no_grad():
            for other in (
                x.contiguous(memory_format=torch.channels_last),
                x.transpose(0, 3).contiguous().transpose(0, 3),
            ):
                torch.testing.assert_close(module(other), module(x), rtol=1e-4, atol=1e-4)


def test_a_single_partition_has_no_global_perceptron() -> None:
    block = RepMLP(4, 4, (7, 7), RepMLPBlock(partition=7))
    assert not hasattr(block, "fc1")


def test_one_split_axis_is_enough_for_a_global_perceptron() -> None:
    block = RepMLP(4, 4, (7, 14), RepMLPBlock(partition=7, reduction=2))
    assert (block.fc1.in_features, block.fc1.out_features) == (8, 4)


@pytest.mark.parametrize("deploy", [False, True])
@pytest.mark.parametrize("shape", [(2, 4, 28, 28), (2, 4, 14, 28), (2, 4, 15, 14), (2, 8, 14, 14)])
def test_another_size_is_refused_with_both_sizes(shape: tuple[int, ...], deploy: bool) -> None:
    block = RepMLP(4, 4, (14, 14), RepMLPBlock(partition=7), deploy).eval()
    with pytest.raises(ValueError, match=rf"14x14.*{shape[2]}x{shape[3]}"):
        block(torch.zeros(shape))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"groups": 3}, "use one of 1, 2, 4"),
        ({"groups": 0}, "groups=0 must be a positive integer"),
        ({"groups": -1}, "positive"),
        ({"kernels": (2,)}, r"must be odd.*\(3, 3\)"),
        ({"kernels": (9,)}, "exceeds the partition"),
        ({"kernels": ((1, 9),)}, "exceeds the partition"),
        ({"kernels": 3}, "must be a list"),
        ({"kernels": ("3",)}, "positive integer or a pair"),
        ({"partition": (0, 7)}, "positive integer or a pair"),
        ({"partition": 15}, "exceeds the map"),
        ({"reduction": 0}, "reduction=0"),
        ({"reduction": 1000}, "features"),
        ({"fc3_conv": 4}, "must be odd"),
    ],
)
def test_a_wrong_argument_is_refused_with_what_would_be_right(fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RepMLP(4, 4, (14, 14), RepMLPBlock(**{"partition": 7, **fields}))


@pytest.mark.parametrize(("c", "o", "size"), [(0, 4, (14, 14)), (4, -4, (14, 14)), (4, 4, (0, 14))])
def test_sizes_that_are_not_positive_are_refused(c: int, o: int, size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="positive"):
        RepMLP(c, o, size, RepMLPBlock())


def test_equal_networks_have_equal_canonical_forms_and_ids() -> None:
    from repmlp import deploy_id, training_id

    def net(**fields: object) -> CifarNet:
        return CifarNet(stages=(Stage(channels=8, block=RepMLPBlock(partition=8, **fields)),), size=8)

    plain = net(kernels=(1, 3))
    for same in (
        net(kernels=(3, 1, 3)),
        net(kernels=(1, 3), reduction=4),
        net(kernels=(1, 3), global_perceptron=False),
    ):
        assert same.canonical() == plain.canonical()
        assert training_id(same) == training_id(plain)
    assert training_id(net(kernels=(1,))) != training_id(plain)
    assert deploy_id(net(kernels=())) == deploy_id(plain)
    assert deploy_id(net(groups=2)) != deploy_id(plain)


@pytest.mark.parametrize("name", TABLE_1)
def test_a_configuration_survives_plain_values(name: str) -> None:
    config = TABLE_1[name].canonical()
    assert config_from_dict(config_to_dict(config)) == config


def test_an_unknown_field_of_a_configuration_is_named() -> None:
    values = config_to_dict(TABLE_1["Pure MLP"])
    with pytest.raises(ValueError, match="cifar has no colour"):
        config_from_dict({**values, "colour": 3})


def test_a_training_step_reaches_every_parameter() -> None:
    config = CifarNet(stages=(Stage(channels=4, block=RepMLPBlock(partition=4, groups=2, kernels=(1, 3))),), size=9)
    model = lived_in(build(config)).train()
    model(torch.randn(4, 3, 9, 9)).square().sum().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("groups", [1, 2])
@torch.inference_mode()
def test_a_channels_last_map_stays_so_and_gives_the_same_numbers(groups: int) -> None:
    spec = RepMLPBlock(partition=(3, 4), groups=groups, kernels=(1, 3))
    block = lived_in(RepMLP(4, 6, (6, 9), spec))
    x = images(block)
    last = x.contiguous(memory_format=torch.channels_last)
    trained = block(x)
    block.reparameterize()
    for layout in (x, last):
        torch.testing.assert_close(block(layout), trained, rtol=1e-5, atol=1e-5)
    whole = RepMLP(4, 6, (6, 8), spec, deploy=True).eval()
    y = whole(last[..., :8].contiguous(memory_format=torch.channels_last))
    assert y.is_contiguous(memory_format=torch.channels_last)
