import copy
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from repmlp import convert
from repmlp.networks.repmlpnet import REPMLPNETS, RepMLPNet, RepMLPNetStage, RepMLPNetwork, SharedRepMLP
from repmlp.weights import repmlpnet_state
from search.measuring.costs import count_macs
from tests.blocks import Copies, lived_in

BOUNDS = {torch.float64: 1e-10, torch.float32: 1e-5}
# The published networks in training: million trainable parameters and billion multiply-adds.
COUNTS = {
    "T224": ("38.29", "2.808"),
    "B224": ("68.24", "6.676"),
    "T256": ("58.69", "4.258"),
    "B256": ("96.45", "9.640"),
    "D256": ("86.89", "8.636"),
    "L256": ("117.64", "11.609"),
}
SMALL = RepMLPNet(
    stages=(
        RepMLPNetStage(channels=8, blocks=1, share_sets=2, partition=(4, 6)),
        RepMLPNetStage(channels=12, blocks=2, share_sets=3, partition=(6, 4)),
        RepMLPNetStage(channels=6, blocks=1, share_sets=6, partition=(3, 3)),
    ),
    kernels=((1, 1), (3, 3)),
    reduction=2,
    patch=2,
    expansion=3,
    in_channels=2,
    size=(24, 48),
    classes=7,
)
ONE_PARTITION = replace(
    SMALL,
    stages=tuple(replace(s, partition=z) for s, z in zip(SMALL.stages, SMALL.stage_sizes(), strict=True)),
    kernels=((1, 3), (3, 3)),
)


@st.composite
def blocks(draw: st.DrawFn) -> SharedRepMLP:
    """Draw C, S, h, w, kernels and reduction."""
    s, reduction = draw(st.integers(1, 4)), draw(st.sampled_from([1, 2]))
    h, w = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    odd = st.tuples(*(st.sampled_from([k for k in (1, 3, 5) if k <= side]) for side in (h, w)))
    kernels = tuple(draw(st.lists(odd, max_size=3, unique=True)))
    torch.manual_seed(draw(st.integers(0, 2**16)))
    return lived_in(SharedRepMLP(s * reduction * draw(st.integers(1, 3)), s, (h, w), kernels, reduction))


grids = st.tuples(st.integers(1, 3), st.integers(1, 3))


def maps(block: SharedRepMLP, grid: tuple[int, int], dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(2, block.channels, *(g * p for g, p in zip(grid, block.partition, strict=True)), dtype=dtype)


def relative_error(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / a.abs().max().clamp_min(1e-30))


def under(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The entries of one module, without its name."""
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def bn(x: Tensor, state: Mapping[str, Tensor], channel: slice = slice(None)) -> Tensor:
    """A BN in eval mode; without a state, nothing."""
    if not state:
        return x
    return F.batch_norm(x, *(state[key][channel] for key in ("running_mean", "running_var", "weight", "bias")))


def block_by_channel(x: Tensor, sets: int, partition: tuple[int, int], state: Mapping[str, Tensor]) -> Tensor:
    """The block under the authors' names, one channel of one partition after the other, in either form."""
    (h, w), y = partition, torch.zeros_like(x)
    matrices = state["fc3.weight"].view(sets, h * w, h * w)
    biases = state["fc3.bias"].view(sets, h * w) if "fc3.bias" in state else torch.zeros(sets, h * w).to(x)
    branches = {key.removesuffix("conv.weight") for key in state if key.endswith("conv.weight")}
    for c in range(x.shape[1]):
        i = slice(c % sets, c % sets + 1)
        for top in range(0, x.shape[2], h):
            for left in range(0, x.shape[3], w):
                part = x[:, c : c + 1, top : top + h, left : left + w]
                fc = (part.flatten(1) @ matrices[c % sets].T + biases[c % sets]).view_as(part)
                out = bn(fc, under("fc3_bn.", state), i)
                for branch in branches:
                    taps = state[f"{branch}conv.weight"][i]
                    padding = taps.shape[2] // 2, taps.shape[3] // 2
                    out = out + bn(F.conv2d(part, taps, padding=padding), under(f"{branch}bn.", state), i)
                y[:, c : c + 1, top : top + h, left : left + w] = out
    hidden = F.linear(x.mean((2, 3)), state["gp.fc1.weight"].flatten(1), state["gp.fc1.bias"]).clamp_min(0)
    gate = F.linear(hidden, state["gp.fc2.weight"].flatten(1), state["gp.fc2.bias"])
    return y / (1 + torch.exp(-gate))[:, :, None, None]


def in_their_names(block: SharedRepMLP) -> dict[str, Tensor]:
    """The state of a block under the authors' names."""
    names = {r"^fc([12])": r"gp.fc\1", r"^local\.(\w+)\.0": r"repconv\1.conv", r"^local\.(\w+)\.1": r"repconv\1.bn"}
    state = block.state_dict()
    for pattern, theirs in names.items():
        state = {re.sub(pattern, theirs, name): value for name, value in state.items()}
    return state


def reference(block: SharedRepMLP, x: Tensor) -> Tensor:
    return block_by_channel(x, block.share_sets, block.partition, in_their_names(block))


def their_state(config: RepMLPNet, injected: bool) -> dict[str, Tensor]:
    """Random weights under the names and in the shapes of the authors; injected: after their Locality Injection."""
    state: dict[str, Tensor] = {}

    def norm(name: str, n: int) -> None:
        state[f"{name}.weight"], state[f"{name}.bias"] = torch.rand(n) + 0.5, torch.randn(n)
        state[f"{name}.running_mean"], state[f"{name}.running_var"] = torch.randn(n), torch.rand(n) + 0.5
        state[f"{name}.num_batches_tracked"] = torch.tensor(5)

    def conv(name: str, out: int, channels: int, k: int, bias: bool) -> None:
        state[f"{name}.weight"] = torch.randn(out, channels, k, k) / (channels * k * k) ** 0.5
        if bias:
            state[f"{name}.bias"] = torch.randn(out)

    def conv_bn(name: str, out: int, channels: int, k: int) -> None:
        conv(f"{name}.conv", out, channels, k, bias=False)
        norm(f"{name}.bn", out)

    widths = [stage.channels for stage in config.stages]
    conv_bn("conv_embedding", widths[0], config.in_channels, config.patch)
    for i, stage in enumerate(config.stages):
        c, s, area = stage.channels, stage.share_sets, stage.partition[0] * stage.partition[1]
        for j in range(stage.blocks):
            unit = f"stages.{i}.{j}"
            conv(f"{unit}.repmlp_block.gp.fc1", c // config.reduction, c, 1, bias=True)
            conv(f"{unit}.repmlp_block.gp.fc2", c, c // config.reduction, 1, bias=True)
            conv(f"{unit}.repmlp_block.fc3", s * area, area, 1, bias=injected)
            if not injected:
                norm(f"{unit}.repmlp_block.fc3_bn", s)
                for k, _ in config.kernels:
                    conv_bn(f"{unit}.repmlp_block.repconv{k}", s, 1, k)
            conv_bn(f"{unit}.ffn_block.ffn_fc1", c * config.expansion, c, 1)
            conv_bn(f"{unit}.ffn_block.ffn_fc2", c, c * config.expansion, 1)
            norm(f"{unit}.prebn1", c)
            norm(f"{unit}.prebn2", c)
        if i + 1 < len(widths):
            conv_bn(f"embeds.{i}", widths[i + 1], c, 2)
    norm("head_norm", widths[-1])
    state["head.weight"], state["head.bias"] = torch.randn(config.classes, widths[-1]), torch.randn(config.classes)
    return {name: value.double() if value.is_floating_point() else value for name, value in state.items()}


def their_network(config: RepMLPNet, state: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """The network in eval mode, from weights under the authors' names."""

    def conv_bn(x: Tensor, name: str, stride: int) -> Tensor:
        return bn(F.conv2d(x, state[f"{name}.conv.weight"], stride=stride), under(f"{name}.bn.", state))

    x = conv_bn(x, "conv_embedding", config.patch).relu()
    for i, stage in enumerate(config.stages):
        for j in range(stage.blocks):
            unit = f"stages.{i}.{j}"
            z = bn(x, under(f"{unit}.prebn1.", state))
            x = x + block_by_channel(z, stage.share_sets, stage.partition, under(f"{unit}.repmlp_block.", state))
            z = conv_bn(bn(x, under(f"{unit}.prebn2.", state)), f"{unit}.ffn_block.ffn_fc1", 1)
            z = z * (1 + torch.erf(z / 2**0.5)) / 2  # GELU
            x = x + conv_bn(z, f"{unit}.ffn_block.ffn_fc2", 1)
        if i + 1 < len(config.stages):
            x = conv_bn(x, f"embeds.{i}", 2).relu()
    return bn(x, under("head_norm.", state)).mean((2, 3)) @ state["head.weight"].T + state["head.bias"]


@given(block=blocks(), grid=grids)
@settings(max_examples=60, deadline=None)
def test_a_block_computes_channel_c_with_matrix_c_mod_s(block: SharedRepMLP, grid: tuple[int, int]) -> None:
    block = block.double()
    x = maps(block, grid)
    with torch.no_grad():
        expected = reference(block, x)
        assert relative_error(expected, block(x)) <= 1e-10
        assert relative_error(expected, block(x.to(memory_format=torch.channels_last))) <= 1e-10
        block.reparameterize()
        assert relative_error(expected, block(x)) <= 1e-10
        assert relative_error(expected, reference(block, x)) <= 1e-10


@given(block=blocks(), grid=grids)
@settings(max_examples=30, deadline=None)
def test_in_training_each_bn_sees_the_channels_of_its_set(block: SharedRepMLP, grid: tuple[int, int]) -> None:
    block = block.double().train()
    x = maps(block, grid)
    n = x.numel() // block.share_sets
    for module in block.modules():
        if isinstance(module, _BatchNorm):
            module.momentum = 1
    with torch.no_grad():
        y = block(x)
        for module in block.modules():
            if isinstance(module, _BatchNorm):  # training normalises by the variance over n, and keeps it over n - 1
                module.running_var *= (n - 1) / n
        assert relative_error(reference(block, x), y) <= 1e-10


@pytest.mark.parametrize("partition", [(4, 3), (2, 3)])
def test_gradients_in_training(partition: tuple[int, int]) -> None:
    torch.manual_seed(0)
    block = lived_in(SharedRepMLP(4, 2, partition)).double().train()
    x = torch.randn(2, 4, 4, 3, dtype=torch.float64, requires_grad=True)
    weights = dict(block.named_parameters())

    def output(x: Tensor, *values: Tensor) -> Tensor:
        return functional_call(block, dict(zip(weights, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(output, (x, *weights.values()))


@pytest.mark.parametrize(("channels", "sets", "side", "h"), [(8, 4, 14, 7), (16, 4, 28, 14), (6, 1, 12, 4)])
@pytest.mark.parametrize("deploy", [False, True])
def test_an_identity_in_fc3_gives_back_the_map_of_several_partitions(
    channels: int, sets: int, side: int, h: int, deploy: bool
) -> None:
    block = SharedRepMLP(channels, sets, (h, h), (), reduction=1, deploy=deploy).eval()
    with torch.no_grad():
        block.fc3.weight.copy_(torch.eye(h * h).repeat(sets, 1))
        block.fc2.weight.zero_()
        block.fc2.bias.fill_(100)  # the gate is 1
        if deploy:
            block.fc3.bias.zero_()
        else:
            block.fc3_bn.eps = 0
        x = torch.randn(3, channels, side, side)
        torch.testing.assert_close(block(x), x, rtol=0, atol=0)


@pytest.mark.parametrize(("partition", "copies"), [((6, 4), 0), ((3, 4), 1), ((3, 2), 2)])
def test_a_converted_block_copies_maps_only_to_split_and_to_join_them(partition: tuple[int, int], copies: int) -> None:
    block = SharedRepMLP(8, 4, partition, deploy=True).eval()
    with torch.no_grad(), Copies() as counted:
        block(torch.randn(3, 8, 6, 4))
    assert counted.count == copies


@pytest.mark.parametrize("dtype", BOUNDS)
@given(block=blocks(), grid=grids)
@settings(max_examples=60, deadline=None)
def test_a_converted_block_computes_what_the_trained_one_does(
    block: SharedRepMLP, grid: tuple[int, int], dtype: torch.dtype
) -> None:
    block = block.to(dtype)
    x = maps(block, grid, dtype)
    with torch.no_grad():
        assert relative_error(block(x), convert(block)(x)) <= BOUNDS[dtype]


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("config", [SMALL, ONE_PARTITION])
def test_a_converted_network_computes_what_the_trained_one_does(config: RepMLPNet, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = lived_in(RepMLPNetwork(config)).to(dtype)
    x = torch.randn(3, config.in_channels, *config.size, dtype=dtype)
    with torch.no_grad():
        y, converted = model(x), convert(model)(x)
    assert y.shape == (3, config.classes)
    assert (y[0] - y[1]).abs().max() > 0
    assert relative_error(y, converted) <= BOUNDS[dtype]


@pytest.mark.parametrize("config", [SMALL, ONE_PARTITION])
def test_a_converted_state_dict_loads_into_a_network_built_for_deployment(config: RepMLPNet) -> None:
    converted = convert(lived_in(RepMLPNetwork(config)))
    fresh = RepMLPNetwork(config.deployed(), deploy=True).eval()
    fresh.load_state_dict(converted.state_dict())
    units = sum(stage.blocks for stage in config.stages)
    kept = [name for name, module in converted.named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(kept) == 2 * units + 1  # those in front of the blocks, the FFNs and the head
    x = torch.randn(2, config.in_channels, *config.size)
    with torch.no_grad():
        torch.testing.assert_close(fresh(x), converted(x), rtol=0, atol=0)


def test_converting_twice_changes_nothing() -> None:
    block = lived_in(SharedRepMLP(8, 2, (4, 3)))
    assert not block.converted
    block.reparameterize()
    weight, once = block.fc3.weight, copy.deepcopy(block.state_dict())
    block.reparameterize()
    assert block.fc3.weight is weight
    assert block.converted
    assert not block.local
    assert block.state_dict().keys() == once.keys() == SharedRepMLP(8, 2, (4, 3), deploy=True).state_dict().keys()
    assert all(torch.equal(value, once[name]) for name, value in block.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_converting_keeps_the_dtype(dtype: torch.dtype) -> None:
    block = lived_in(SharedRepMLP(8, 2, (4, 3))).to(dtype)
    block.reparameterize()
    assert {p.dtype for p in block.parameters()} == {dtype}


def test_the_merged_kernel_can_stand_in_a_loss() -> None:
    block = lived_in(SharedRepMLP(8, 2, (4, 4)))
    kernel, bias = block.merged_fc3()
    assert kernel.shape == (32, 16)
    assert bias.shape == (32,)
    (kernel.square().sum() + bias.square().sum()).backward()
    reached = {name for name, p in block.named_parameters() if p.grad is not None}
    assert reached == {name for name, _ in block.named_parameters() if name.startswith(("fc3", "local"))}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in ("T224", "B224", "D256") else pytest.mark.slow) for n in COUNTS]
)
def test_counts_of_the_published_networks(name: str) -> None:
    params, macs = COUNTS[name]
    model = unset(REPMLPNETS[name], deploy=False)
    assert f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f}" == params
    assert f"{count_macs(model, (3, *REPMLPNETS[name].size)) / 1e9:.3f}" == macs


def test_multiply_adds_after_conversion() -> None:
    assert f"{count_macs(unset(REPMLPNETS['L256'], deploy=True), (3, 256, 256)) / 1e9:.3f}" == "11.579"


@pytest.mark.parametrize("deploy", [False, True])
def test_multiply_adds_follow_the_closed_form(deploy: bool) -> None:
    config, before, macs = SMALL, SMALL.in_channels, 0
    taps = 0 if deploy else sum(h * w for h, w in config.kernels)
    for index, stage in enumerate(config.stages):
        c, step = stage.channels, config.patch * 2**index
        positions = config.size[0] * config.size[1] // step**2
        mixing = positions * c * (stage.partition[0] * stage.partition[1] + taps)
        gate, ffn = 2 * c * c // config.reduction, 2 * c * c * config.expansion * positions
        patch = config.patch if index == 0 else 2
        macs += positions * c * before * patch**2 + stage.blocks * (mixing + gate + ffn)
        before = c
    macs += before * config.classes
    assert count_macs(RepMLPNetwork(config, deploy), (config.in_channels, *config.size)) == macs


def unset(config: RepMLPNet, deploy: bool) -> nn.Module:
    with torch.device("meta"):
        model = RepMLPNetwork(config, deploy)
    return model.to_empty(device="cpu")


@pytest.mark.parametrize("injected", [False, True])
def test_the_authors_weights_load_and_give_their_outputs(injected: bool) -> None:
    torch.manual_seed(0)
    state = their_state(SMALL, injected)
    given = {name: value.clone() for name, value in state.items()}
    model = RepMLPNetwork(SMALL, deploy=injected).double().eval()
    model.load_state_dict(repmlpnet_state(state), strict=True)
    x = torch.randn(2, SMALL.in_channels, *SMALL.size, dtype=torch.float64)
    with torch.no_grad():
        assert relative_error(their_network(SMALL, state, x), model(x)) <= 1e-10
    assert all(torch.equal(value, given[name]) for name, value in state.items())
    assert state.keys() == given.keys()


def test_names_of_other_networks_are_refused() -> None:
    state = their_state(SMALL, injected=True)
    wrong = {"stages.0.0.repmlp_block.fc4.weight", "module.head.weight", "stages.0.0.prebn3.bias"}
    with pytest.raises(ValueError) as error:
        repmlpnet_state({**state, **dict.fromkeys(wrong, torch.zeros(1))})
    assert all(name in str(error.value) for name in wrong)
    assert "head_norm" not in str(error.value)


@pytest.mark.parametrize("config", [SMALL, ONE_PARTITION])
def test_bfloat16_autocast(config: RepMLPNet) -> None:
    torch.manual_seed(0)
    model = RepMLPNetwork(config)
    x = torch.randn(4, config.in_channels, *config.size)
    with torch.autocast("cpu", torch.bfloat16):
        y = model(x)
    y.float().square().mean().backward()
    assert y.dtype == torch.bfloat16
    assert all(p.grad.isfinite().all() for p in model.parameters())
    for form in (lived_in(model), convert(model)):
        with torch.no_grad():
            expected = form(x)
            with torch.autocast("cpu", torch.bfloat16):
                assert relative_error(expected, form(x).float()) <= 0.1


def test_a_config_survives_json() -> None:
    config = ONE_PARTITION.canonical()
    assert RepMLPNet(**json.loads(json.dumps(asdict(config)))) == config


def test_networks_that_are_equal_have_one_canonical_form() -> None:
    a, b = replace(SMALL, kernels=(3, 1, 3)), replace(SMALL, kernels=((1, 1), (3, 3)))
    assert a != b
    assert a.canonical() == b.canonical()
    assert a.deployed() == replace(SMALL, kernels=(1,)).deployed()
    assert a.deployed().kernels == ()
    assert a.canonical() != replace(a, reduction=1).canonical()


def stage(**changes: object) -> RepMLPNetStage:
    return RepMLPNetStage(**{"channels": 8, "blocks": 1, "share_sets": 2, "partition": 4, **changes})


def network(*stages: RepMLPNetStage, **changes: object) -> RepMLPNet:
    return RepMLPNet(stages=stages, **{"size": 32, "kernels": (1,), **changes})


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: stage(share_sets=3), "share_sets=3 does not divide channels=8; use 1, 2, 4 or 8"),
        (lambda: stage(blocks=0), "blocks=0"),
        (lambda: stage(partition=0), "partition=0"),
        (lambda: network(stage(partition=(3, 4))), r"stage 1: .*\(3, 4\) does not divide .*\(8, 8\); .*1, 2, 4 or 8"),
        (lambda: network(stage(), stage(partition=(4, 8))), r"stage 2: .*divide the map \(4, 4\)"),
        (lambda: network(stage(), kernels=(5,)), r"stage 1: kernel=\(5, 5\) exceeds"),
        (lambda: network(stage(), kernels=(2,)), "odd"),
        (lambda: network(stage(), kernels=3), "kernels=3"),
        (lambda: network(stage(), reduction=3), "stage 1: reduction=3 does not divide channels=8"),
        (lambda: network(stage(), size=30), r"size=\(30, 30\) must be divisible by 4, .*use \(32, 32\)"),
        (lambda: network(stage(), stage(), size=36), r"divisible by 8, .*use \(32, 32\)"),
        (lambda: network(stage(), patch=0), "patch=0"),
        (lambda: network(), "at least one stage"),
        (lambda: SharedRepMLP(8, 3, (2, 2)), "share_sets=3"),
        (lambda: SharedRepMLP(8, 2, (2, 2), reduction=3), "reduction=3"),
        (lambda: SharedRepMLP(8, 2, (4, 3))(torch.zeros(1, 8, 8, 8)), "8x8"),
        (lambda: SharedRepMLP(8, 2, (4, 3))(torch.zeros(1, 4, 8, 6)), "4 channels"),
    ],
)
def test_wrong_values_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
