import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from math import ceil

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.utils.model import reparameterize_model
from torch import nn

from repmlp import RepMLP, RepMLPBlock, convert
from repmlp.networks.mixer import MIXERS, Affine, MixerNet, MixerNetwork, Residual
from search.measuring.costs import count_macs
from tests.blocks import lived_in

BOUNDS = {torch.float64: 1e-10, torch.float32: 1e-5}
TIMM = {
    "Mixer-S/16": "mixer_s16_224",
    "Mixer-B/16": "mixer_b16_224",
    "ResMLP-S12": "resmlp_12_224",
    "ResMLP-S24": "resmlp_24_224",
}


def small(**changes: object) -> MixerNet:
    """A network of two blocks on a 6 x 4 map of tokens."""
    config = MixerNet(
        style="mixer", patch=2, channels=8, blocks=2, token_hidden=5, channel_hidden=12, size=(12, 8), classes=3
    )
    return replace(config, **changes)  # type: ignore[arg-type]


REPMLP = RepMLPBlock(partition=(3, 2), groups=2, kernels=(1, (3, 1)))
NETWORKS = {
    "mixer": small(),
    "resmlp": small(style="resmlp"),
    "mixer, RepMLP": small(mixing=REPMLP),
    "resmlp, RepMLP": small(style="resmlp", mixing=REPMLP),
    "resmlp, RepMLP, padded": small(style="resmlp", mixing=replace(REPMLP, partition=(4, 3))),
    "mixer, FC3 as conv": small(mixing=replace(REPMLP, fc3_conv=3)),
}


def trained(config: MixerNet) -> MixerNetwork:
    """Return a network in eval mode in which every affine part matters."""
    model = MixerNetwork(config)
    for module in model.modules():
        scale = getattr(module, "scale", None)
        for weight in (module.alpha, module.beta) if isinstance(module, Affine) else () if scale is None else (scale,):
            nn.init.normal_(weight)
    lived_in(model)
    return model


def images(config: MixerNet, dtype: torch.dtype, n: int = 3) -> torch.Tensor:
    return torch.randn(n, config.in_channels, *config.size, dtype=dtype)


def relative_error(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max() / a.abs().max().clamp_min(1e-30))


@st.composite
def configs(draw: st.DrawFn) -> MixerNet:
    groups, patch = draw(st.sampled_from([1, 2])), draw(st.integers(1, 3))
    rows, columns = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    partition = draw(st.integers(1, rows)), draw(st.integers(1, columns))
    odd = st.tuples(*(st.sampled_from([k for k in (1, 3, 5) if k <= side]) for side in partition))
    mixing = RepMLPBlock(
        partition=partition,
        groups=groups,
        kernels=tuple(draw(st.lists(odd, max_size=3))),
        global_perceptron=draw(st.booleans()),
        fc3_conv=draw(st.sampled_from([None, None, 3])),
    )
    return MixerNet(
        style=draw(st.sampled_from(["mixer", "resmlp"])),
        patch=patch,
        channels=groups * draw(st.integers(2, 4)),
        blocks=draw(st.integers(1, 2)),
        token_hidden=draw(st.integers(1, 6)),
        channel_hidden=draw(st.integers(1, 9)),
        mixing=draw(st.sampled_from([None, mixing])),
        in_channels=draw(st.integers(1, 3)),
        size=(rows * patch, columns * patch),
        classes=draw(st.integers(1, 4)),
    )


@given(config=configs(), seed=st.integers(0, 2**16))
@settings(max_examples=100, deadline=None)
def test_a_converted_network_computes_what_the_trained_one_does(config: MixerNet, seed: int) -> None:
    torch.manual_seed(seed)
    model = trained(config).double()
    x = images(config, torch.float64)
    with torch.no_grad():
        y = model(x)
        assert y.shape == (3, config.classes)
        assert relative_error(y, convert(model)(x)) <= BOUNDS[torch.float64]


@pytest.mark.parametrize("dtype", BOUNDS)
@pytest.mark.parametrize("name", NETWORKS)
def test_converted_networks_agree_in_both_precisions(name: str, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    model = trained(NETWORKS[name]).to(dtype)
    for n in (1, 4):
        x = images(NETWORKS[name], dtype, n)
        with torch.no_grad():
            assert relative_error(model(x), convert(model)(x)) <= BOUNDS[dtype]


@given(config=configs())
@settings(max_examples=60, deadline=None)
def test_a_converted_state_dict_loads_into_a_network_built_for_deployment(config: MixerNet) -> None:
    model = trained(config)
    converted = convert(model)
    x = images(config, torch.float32)
    for built_from in (config, config.deployed()):
        fresh = MixerNetwork(built_from, deploy=True).eval()
        fresh.load_state_dict(converted.state_dict())
        with torch.no_grad():
            torch.testing.assert_close(fresh(x), converted(x), rtol=0, atol=0)


@pytest.mark.parametrize("name", NETWORKS)
def test_conversion_leaves_one_form(name: str) -> None:
    once = convert(trained(NETWORKS[name]))
    assert all(m.converted for m in once.modules() if isinstance(m, RepMLP))
    kept = [m for m in once.modules() if isinstance(m, Affine)]
    assert len(kept) == (2 + 1 if NETWORKS[name].style == "resmlp" else 0), "before token mixing, and before the head"
    twice = convert(once).state_dict()
    assert all(torch.equal(weight, twice[key]) for key, weight in once.state_dict().items())


def test_timm_converts_the_whole_network_too() -> None:
    model = trained(NETWORKS["resmlp, RepMLP"]).double()
    x = images(NETWORKS["resmlp, RepMLP"], torch.float64)
    converted = reparameterize_model(model)
    assert converted.state_dict().keys() == convert(model).state_dict().keys()
    with torch.no_grad():
        assert relative_error(model(x), converted(x)) <= 1e-10


def from_timm(state: Mapping[str, torch.Tensor], model: MixerNetwork) -> dict[str, torch.Tensor]:
    """Return timm's weights under our names and in our shapes."""
    ours = {
        "norm1": (0, "norm"),
        "mlp_tokens.fc1": (0, "f.0"),
        "mlp_tokens.fc2": (0, "f.2"),
        "linear_tokens": (0, "f.0"),
        "ls1": (0, "scale"),
        "norm2": (1, "norm"),
        "mlp_channels": (1, "f"),
        "ls2": (1, "scale"),
    }
    renamed = {}
    for name, weight in state.items():
        if name.startswith("blocks."):
            _, number, inside = name.split(".", 2)
            part = next(p for p in ours if inside.startswith(p))
            residual, our_part = ours[part]
            name = f"blocks.{2 * int(number) + residual}.{our_part}{inside[len(part) :]}"
        renamed[name.replace("stem.proj", "embed")] = weight
    return {name: renamed.pop(name).view_as(weight) for name, weight in model.state_dict().items()} | renamed


@pytest.mark.parametrize("name", MIXERS)
def test_published_networks_compute_what_timms_do(name: str) -> None:
    torch.manual_seed(2)
    theirs = timm.create_model(TIMM[name]).eval()
    for weight in theirs.parameters():
        if weight.dim() == 1 or weight.shape[:2] == (1, 1):
            nn.init.uniform_(weight, -1, 1)
    nn.init.normal_(theirs.head.weight)  # timm starts it at zero
    nn.init.zeros_(theirs.stem.proj.bias)  # with a faint image, so that the epsilon of the first LayerNorm shows
    ours = MixerNetwork(MIXERS[name]).eval()
    ours.load_state_dict(from_timm(theirs.state_dict(), ours))
    x = 0.01 * torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        y = theirs(x)
        assert relative_error(y, ours(x)) <= 1e-5
        assert relative_error(y, convert(ours)(x)) <= 1e-5


@pytest.mark.parametrize(
    ("name", "millions"), [("Mixer-S/16", 18.5), ("Mixer-B/16", 59.9), ("ResMLP-S12", 15.4), ("ResMLP-S24", 30.0)]
)
def test_parameters_of_the_published_networks(name: str, millions: float) -> None:
    with torch.device("meta"):
        ours, theirs = MixerNetwork(MIXERS[name]), timm.create_model(TIMM[name])
    params = sum(p.numel() for p in ours.parameters())
    assert params == sum(p.numel() for p in theirs.parameters())
    assert round(params / 1e6, 1) == millions


def macs(config: MixerNet, converted: bool) -> int:
    """Multiply-accumulates of the conv and linear layers, in closed form."""
    rows, columns = config.size[0] // config.patch, config.size[1] // config.patch
    tokens, c, spec = rows * columns, config.channels, config.mixing
    if spec is None:
        mixing = tokens * c * (2 * config.token_hidden if config.style == "mixer" else tokens)
    else:
        h, w = spec.partition
        parts = ceil(rows / h) * ceil(columns / w)
        convs = [] if converted else list(spec.kernels)
        if spec.fc3_conv is None:
            mixing = parts * c * h * w * (c // spec.groups) * h * w
        else:
            mixing = 0
            kernels = [*spec.kernels, spec.fc3_conv]
            convs = [(max(k[0] for k in kernels), max(k[1] for k in kernels))] if converted else kernels
        mixing += sum(parts * h * w * c * (c // spec.groups) * k[0] * k[1] for k in convs)
        if spec.global_perceptron and parts > 1:
            mixing += 2 * (c * parts) * (c * parts // spec.reduction)
    embed = tokens * c * config.in_channels * config.patch**2
    return embed + config.blocks * (mixing + 2 * tokens * c * config.channel_hidden) + c * config.classes


@given(config=configs(), converted=st.booleans())
@settings(max_examples=40, deadline=None)
def test_macs_follow_the_closed_form(config: MixerNet, converted: bool) -> None:
    config = config.canonical()
    model = MixerNetwork(config)
    assert count_macs(convert(model) if converted else model, (config.in_channels, *config.size)) == macs(
        config, converted
    )


def test_macs_of_a_mixer_worked_out_by_hand() -> None:
    # 24 tokens: patches of 12 values, token MLP 24-5-24 on 8 channels, channel MLP 8-12-8 on 24 tokens, classifier 8-3.
    assert macs(small(), converted=True) == 24 * 8 * 12 + 2 * (8 * 240 + 24 * 192) + 24


def test_what_has_no_effect_does_not_tell_networks_apart() -> None:
    resmlp = small(style="resmlp")
    assert resmlp.canonical() == replace(resmlp, token_hidden=9).canonical() != small().canonical()
    mixed = small(mixing=REPMLP)
    assert mixed.canonical() == replace(mixed, token_hidden=None).canonical()
    assert mixed.canonical() == replace(mixed, mixing=replace(REPMLP, kernels=((3, 1), 1, 1))).canonical()
    whole = replace(REPMLP, partition=(6, 4))
    without_global = replace(whole, global_perceptron=False)
    assert small(mixing=whole).canonical() == small(mixing=without_global).canonical()
    assert small().canonical() != replace(small(), token_hidden=6).canonical()


def test_kernels_tell_networks_apart_in_training_only() -> None:
    one, other = small(mixing=REPMLP), small(mixing=replace(REPMLP, kernels=()))
    assert one.canonical() != other.canonical()
    assert one.deployed() == other.deployed() != small(mixing=replace(REPMLP, groups=4)).deployed()


@given(config=configs())
@settings(max_examples=60, deadline=None)
def test_canonical_and_deployed_forms_are_fixed_points_and_plain_values(config: MixerNet) -> None:
    for form in (config.canonical(), config.deployed()):
        assert form.canonical() == form
        assert MixerNet(**json.loads(json.dumps(asdict(form)))) == form
    assert config.deployed().deployed() == config.deployed()


def test_only_tokens_of_one_partition_mix_without_the_global_perceptron() -> None:
    config = small(blocks=1, mixing=replace(REPMLP, global_perceptron=False))
    block = trained(config).blocks[0]
    assert isinstance(block, Residual)
    x = torch.randn(1, 6, 4, 8)
    touched = x.clone()
    touched[0, 4, 1] = torch.randn(8)
    with torch.no_grad():
        changed = (block(x) != block(touched)).any(-1)[0]
    expected = torch.zeros(6, 4, dtype=torch.bool)
    expected[3:6, 0:2] = True
    assert torch.equal(changed, expected)


@pytest.mark.parametrize(("blocks", "scale"), [(12, 0.1), (24, 1e-5), (36, 1e-6)])
def test_layer_scale_starts_nearer_to_zero_in_deeper_networks(blocks: int, scale: float) -> None:
    network = MixerNetwork(small(style="resmlp", blocks=blocks))
    torch.testing.assert_close(network.blocks[-1].scale, torch.full((8,), scale), rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_weight_learns(name: str) -> None:
    network = trained(NETWORKS[name]).train()
    network(images(NETWORKS[name], torch.float32)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"style": "vit"}, "style='vit' must be one of mixer, resmlp"),
        ({"patch": 3}, r"patch=3 does not divide the image \(12, 8\); use one of 1, 2, 4\."),
        ({"token_hidden": None}, "token_hidden=None .* such as 4"),
        ({"token_hidden": 0}, "token_hidden=0 must be a positive integer"),
        ({"channel_hidden": 1.5}, "channel_hidden=1.5 must be a positive integer"),
        ({"mixing": {"kind": "conv"}}, "mixing: kind='conv' must be one of repmlp"),
        ({"mixing": RepMLPBlock(partition=7)}, r"mixing: partition=\(7, 7\) exceeds the map \(6, 4\)"),
        ({"mixing": RepMLPBlock(partition=2, groups=3, kernels=())}, "mixing: groups=3 does not divide C=8"),
    ],
)
def test_wrong_values_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**changes)
