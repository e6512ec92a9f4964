from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import resnet50

from repmlp import RepMLP, RepMLPBlock, convert
from repmlp.networks.cifar import CifarNet, CifarNetwork, Stage
from repmlp.networks.pspnet import PSPNetwork, pspnet
from repmlp.networks.resnet import ResNet, ResNetNetwork, ResNetStage, resnet
from repmlp.paper import LIGHT_RES50_G4, REPMLP_RES50
from repmlp.weights import repmlp_resnet_state, torchvision_resnet_state, transfer
from tests.blocks import lived_in

Shapes = Iterator[tuple[str, tuple[int, ...]]]


def conv_bn(name: str, i: int, o: int, k: int, deploy: bool) -> Shapes:
    """Names and shapes of the authors' conv-BN, i to o channels."""
    yield f"{name}.conv.weight", (o, i, k, k)
    if deploy:
        yield f"{name}.conv.bias", (o,)
    else:
        yield from bn(f"{name}.bn", o)


def bn(name: str, features: int) -> Shapes:
    yield from ((f"{name}.{key}", (features,)) for key in ("weight", "bias", "running_mean", "running_var"))
    yield f"{name}.num_batches_tracked", ()


def repmlp(name: str, c: int, side: int, h: int, g: int, deploy: bool) -> Shapes:
    """Names and shapes of the authors' RepMLP on c channels, K = 1, 3, 5."""
    if side != h:
        n = c * (side // h) ** 2
        for fc in ("fc1", "fc2"):
            yield f"{name}.fc1_fc2.{fc}.weight", (n, n)
            yield f"{name}.fc1_fc2.{fc}.bias", (n,)
        if not deploy:
            yield from bn(f"{name}.avg.bn", c)
    yield f"{name}.fc3.weight", (c * h * h, c * h * h // g, 1, 1)
    if deploy:
        yield f"{name}.fc3.bias", (c * h * h,)
        return
    yield from bn(f"{name}.fc3_bn", c * h * h)
    for k in (1, 3, 5):
        yield f"{name}.repconv{k}.conv.weight", (c, c // g, k, k)
        yield from bn(f"{name}.repconv{k}.bn", c)


def published(
    kind: str,
    deploy: bool,
    g: int,
    width: int = 64,
    blocks: tuple[int, ...] = (3, 4, 6, 3),
    side: int = 56,
    h: int = 7,
    classes: int = 1000,
    r: tuple[int, ...] = (2, 4),
) -> Shapes:
    """Names and shapes of the authors' ResNet; RepMLPs in all but the first block of the second and third stage."""
    yield from conv_bn("stage0.0", 3, width, 7, deploy)
    channels = width
    for stage, count in enumerate(blocks):
        out = 4 * width << stage
        for index in range(count):
            name = f"stage{stage + 1}.{index}"
            if index == 0:
                yield from conv_bn(f"{name}.shortcut", channels, out, 1, deploy)
            if index == 0 or stage not in (1, 2):
                m = out // 4
                yield from conv_bn(f"{name}.conv1", channels, m, 1, deploy)
                yield from conv_bn(f"{name}.conv2", m, m, 3, deploy)
                yield from conv_bn(f"{name}.conv3", m, out, 1, deploy)
            elif kind == "light":
                yield from conv_bn(f"{name}.light_conv1", out, out // 8, 1, deploy)
                yield from repmlp(f"{name}.light_repmlp", out // 8, side >> stage, h, g, deploy)
                yield from conv_bn(f"{name}.light_conv3", out // 8, out, 1, deploy)
            else:
                m, c = out // 4, out // 4 // r[stage - 1]
                yield from conv_bn(f"{name}.btnk_conv1", out, m, 1, deploy)
                yield from conv_bn(f"{name}.btnk_conv2", m, c, 3, deploy)
                yield from repmlp(f"{name}.btnk_repmlp", c, side >> stage, h, g, deploy)
                yield from conv_bn(f"{name}.btnk_conv4", c, m, 3, deploy)
                yield from conv_bn(f"{name}.btnk_conv5", m, out, 1, deploy)
            channels = out
    yield "linear.weight", (classes, channels)
    yield "linear.bias", (classes,)


def drawn(shapes: Shapes) -> dict[str, Tensor]:
    """Random weights of these names and shapes, of a size that keeps activations near 1."""
    state = {}
    for name, shape in shapes:
        fan_in = torch.Size(shape[1:]).numel()
        state[name] = torch.randn(shape) / fan_in**0.5 if len(shape) > 1 else torch.rand(shape) + 0.5
    return state


def written_out(state: dict[str, Tensor], x: Tensor, side: int, h: int, g: int) -> Tensor:
    """The authors' network in eval mode, by their names, with plain operators."""

    def norm(x: Tensor, name: str) -> Tensor:
        if f"{name}.weight" not in state:
            return x
        return F.batch_norm(x, *(state[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias")))

    def conv(x: Tensor, name: str, stride: int = 1, groups: int = 1) -> Tensor:
        weight = state[f"{name}.conv.weight"]
        bias = state.get(f"{name}.conv.bias")
        return norm(F.conv2d(x, weight, bias, stride, weight.shape[2] // 2, groups=groups), f"{name}.bn")

    def mlp(x: Tensor, name: str) -> Tensor:
        n, c, size, _ = x.shape
        p = size // h
        if p > 1:
            v = norm(F.avg_pool2d(x, h), f"{name}.avg.bn").flatten(1)
            for fc, act in (("fc1", F.relu), ("fc2", lambda y: y)):
                v = act(F.linear(v, state[f"{name}.fc1_fc2.{fc}.weight"], state[f"{name}.fc1_fc2.{fc}.bias"]))
            x = x + F.interpolate(v.view(n, c, p, p), scale_factor=h)
        rows = []
        for i in range(p):
            row = []
            for j in range(p):
                part = x[:, :, i * h : (i + 1) * h, j * h : (j + 1) * h]
                weight, bias = state[f"{name}.fc3.weight"], state.get(f"{name}.fc3.bias")
                y = F.conv2d(part.reshape(n, -1, 1, 1), weight, bias, groups=g).flatten(1)
                y = norm(y, f"{name}.fc3_bn").view(part.shape)
                for k in (1, 3, 5):
                    if f"{name}.repconv{k}.conv.weight" in state:
                        y = y + conv(part, f"{name}.repconv{k}", groups=g)
                row.append(y)
            rows.append(torch.cat(row, 3))
        return torch.cat(rows, 2)

    x = F.max_pool2d(conv(x, "stage0.0", 2).relu(), 3, 2, 1)
    for stage in range(1, 5):
        for index in range(9):
            name = f"stage{stage}.{index}"
            if not any(key.startswith(f"{name}.") for key in state):
                break
            stride = 2 if stage > 1 and index == 0 else 1
            if f"{name}.conv1.conv.weight" in state:
                y = conv(conv(x, f"{name}.conv1").relu(), f"{name}.conv2", stride).relu()
                y = conv(y, f"{name}.conv3")
            elif f"{name}.light_conv1.conv.weight" in state:
                y = mlp(conv(x, f"{name}.light_conv1").relu(), f"{name}.light_repmlp").relu()
                y = conv(y, f"{name}.light_conv3")
            else:
                y = conv(conv(x, f"{name}.btnk_conv1").relu(), f"{name}.btnk_conv2").relu()
                y = conv(mlp(y, f"{name}.btnk_repmlp").relu(), f"{name}.btnk_conv4").relu()
                y = conv(y, f"{name}.btnk_conv5")
            x = (y + (conv(x, f"{name}.shortcut", stride) if f"{name}.shortcut.conv.weight" in state else x)).relu()
    return F.linear(x.mean((2, 3)), state["linear.weight"], state["linear.bias"])


def on_meta(shapes: Shapes) -> dict[str, Tensor]:
    return {name: torch.empty(shape, device="meta") for name, shape in shapes}


@pytest.mark.parametrize("deploy", [False, True])
@pytest.mark.parametrize(("kind", "g", "config"), [("light", 4, LIGHT_RES50_G4), ("bottleneck", 8, REPMLP_RES50)])
def test_every_weight_of_the_authors_networks_has_its_place(kind: str, g: int, config: ResNet, deploy: bool) -> None:
    state = repmlp_resnet_state(on_meta(published(kind, deploy, g)))
    with torch.device("meta"):
        network = ResNetNetwork(config, deploy)
    network.load_state_dict(state, assign=True)
    assert all(network.state_dict()[name].shape == tensor.shape for name, tensor in state.items())


@pytest.mark.parametrize("deploy", [False, True])
@pytest.mark.parametrize("kind", ["light", "bottleneck"])
def test_the_authors_weights_compute_what_they_do_there(kind: str, deploy: bool) -> None:
    torch.manual_seed(0)
    small = {"width": 16, "blocks": (1, 2, 3, 1), "side": 32, "h": 8, "classes": 5, "r": (1, 1)}
    state = drawn(published(kind, deploy, 2, **small))
    state = {name: tensor.double() if tensor.dim() else tensor.long() for name, tensor in state.items()}
    repmlp = {"kind": kind, "repmlp": RepMLPBlock(partition=8, groups=2)}
    stages = [
        ResNetStage(channels=64 << i, blocks=n, stride=1 + (i > 0), **(repmlp if i in (1, 2) else {}))
        for i, n in enumerate(small["blocks"])
    ]
    network = ResNetNetwork(ResNet(stages=tuple(stages), stem_channels=16, size=128, classes=5), deploy).double().eval()
    network.load_state_dict(repmlp_resnet_state({f"module.{name}": tensor for name, tensor in state.items()}))
    x = torch.randn(2, 3, 128, 128, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(network(x), written_out(state, x, 32, 8, 2), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("key", ["stage5.0.conv1.conv.weight", "stage2.1.light_repmlp.fc4.weight", "linear.scale", ""])
def test_a_key_that_the_authors_do_not_have_is_named(key: str) -> None:
    with pytest.raises(ValueError, match=rf"^{key} is not in a RepMLP-ResNet"):
        repmlp_resnet_state({"linear.weight": torch.zeros(2, 3), key: torch.zeros(1)})


def test_torchvisions_weights_compute_the_same() -> None:
    torch.manual_seed(0)
    theirs = lived_in(resnet50(num_classes=7))
    ours = ResNetNetwork(resnet(50, size=(64, 64), classes=7)).eval()
    ours.load_state_dict(torchvision_resnet_state(theirs.state_dict()))
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=0)


def test_a_key_that_torchvision_does_not_have_is_named() -> None:
    with pytest.raises(ValueError, match=r"^layer1\.0\.conv4\.weight is not in a ResNet"):
        torchvision_resnet_state({"layer1.0.conv4.weight": torch.zeros(1)})


def tiny(size: int, classes: int = 5, partition: int = 2, **changes: object) -> ResNet:
    """A ResNet with RepMLPs in its two last stages, on maps of size/8 and size/16."""
    stage = {"kind": "bottleneck", "repmlp": RepMLPBlock(partition=partition, groups=2, kernels=(1,))}
    stages = (
        ResNetStage(channels=16, blocks=1, stride=1),
        ResNetStage(channels=32, blocks=2, **stage),
        ResNetStage(channels=32, blocks=2, **stage),
    )
    return ResNet(stages=stages, stem_channels=8, size=size, classes=classes, **changes)


def changed(model: nn.Module, state: dict[str, Tensor], before: dict[str, Tensor]) -> tuple[set[str], set[str]]:
    """Names of the weights that equal those of `state`, and of those as before."""
    own = model.state_dict()
    taken = {k for k in own if k in state and own[k].shape == state[k].shape and torch.equal(own[k], state[k])}
    return taken, {k for k in own if torch.equal(own[k], before[k])}


def fresh(model: nn.Module) -> dict[str, Tensor]:
    """Redraw every weight of a model, so that no two models share one, and return a copy."""
    for tensor in model.state_dict().values():
        tensor.copy_(torch.rand(tensor.shape) if tensor.is_floating_point() else torch.randint(10**9, ()))
    return {k: v.clone() for k, v in model.state_dict().items()}


GLOBAL = {
    f"stages.{stage}.1.body.6.{fc}.{kind}" for stage in (1, 2) for fc in ("fc1", "fc2") for kind in ("weight", "bias")
}


def test_a_larger_image_takes_all_but_fc1_and_fc2() -> None:
    state, model = fresh(ResNetNetwork(tiny(64))), ResNetNetwork(tiny(128))
    before = fresh(model)
    names = transfer(model, state)
    taken, kept = changed(model, state, before)
    assert set(names) == kept == GLOBAL
    assert names == [name for name in before if name in GLOBAL]
    assert taken == set(before) - GLOBAL
    assert model(torch.randn(2, 3, 128, 128)).shape == (2, 5)


def test_other_classes_take_all_but_the_head() -> None:
    state, model = fresh(ResNetNetwork(tiny(64))), ResNetNetwork(tiny(64, classes=6))
    before = fresh(model)
    assert transfer(model, state) == ["head.2.weight", "head.2.bias"]
    taken, kept = changed(model, state, before)
    assert kept == {"head.2.weight", "head.2.bias"}
    assert taken == set(before) - kept


def test_a_head_whose_weight_differs_is_fresh_as_a_whole() -> None:
    # The flattened map is of 2x2 instead of 1x1 positions: the weight differs, and the bias could be taken.
    state, model = fresh(ResNetNetwork(tiny(32, 5, 1, head="flatten"))), ResNetNetwork(tiny(64, 5, 1, head="flatten"))
    before = fresh(model)
    assert {"head.1.weight", "head.1.bias"} <= set(transfer(model, state))
    assert torch.equal(model.state_dict()["head.1.bias"], before["head.1.bias"])


def test_a_classifier_takes_its_layers_that_fit() -> None:
    block = RepMLPBlock(partition=4, kernels=(1,))
    config = CifarNet(stages=(Stage(channels=4, block=block),), size=8, classes=3, head=6)
    model = CifarNetwork(replace(config, classes=4))
    assert transfer(model, fresh(CifarNetwork(config))) == ["head.4.weight", "head.4.bias"]


def test_a_block_that_gets_its_first_second_partition_gets_a_global_perceptron() -> None:
    # The last stage has 2x2 maps at 32 pixels, one partition; at 64 pixels four.
    small, large = (ResNetNetwork(tiny(size)) for size in (32, 64))
    names = transfer(large, fresh(small))
    bn = {f"stages.2.1.body.6.pool_bn.{k}" for k in ("weight", "bias", "running_mean", "running_var")}
    assert set(names) == GLOBAL | bn | {"stages.2.1.body.6.pool_bn.num_batches_tracked"}
    back = ResNetNetwork(tiny(32))
    assert set(transfer(back, fresh(large))) == {name for name in GLOBAL if name.startswith("stages.1")}


def test_a_trained_network_becomes_the_backbone_of_a_segmentation_network() -> None:
    stage = {"kind": "bottleneck", "repmlp": RepMLPBlock(partition=4, groups=2, kernels=(1, 3))}
    stages = {"c3": {**stage, "r": 2}, "c4": {**stage, "r": 2}}
    trained = ResNetNetwork(resnet(50, stages, width=0.125, size=64, classes=10))
    wide = {name: {**s, "repmlp": replace(s["repmlp"], reduction=4)} for name, s in stages.items()}
    model = PSPNetwork(pspnet((97, 97), 19, wide, 0.125, 16))
    state, before = fresh(trained), fresh(model)
    names = transfer(model.backbone, state)
    blocks = [name for name, m in model.backbone.named_modules() if isinstance(m, RepMLP)]
    assert len(blocks) == 3 + 5
    assert all(any(name.startswith((f"{b}.fc1.", f"{b}.fc2.", f"{b}.pool_bn.")) for b in blocks) for name in names)
    assert {f"{b}.fc1.weight" for b in blocks} <= set(names)
    assert not any(name.startswith("stages.1") and "pool_bn" in name for name in names)
    after = model.state_dict()
    for name, tensor in state.items():
        if not name.startswith("head."):
            own = after[f"backbone.{name}"]
            assert torch.equal(own, before[f"backbone.{name}"] if name in names else tensor), name


def test_converted_networks_transfer_too() -> None:
    small, large = (convert(ResNetNetwork(tiny(size))) for size in (64, 128))
    assert set(transfer(large, small.state_dict())) == GLOBAL


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (tiny(64, partition=4), r"stages\.1\.1\.body\.6\.fc3\.weight.*h, w, g and the kernels must be kept"),
        (tiny(64, stem="small"), r"^stem\.0\.weight differs"),
    ],
)
def test_a_network_of_other_shapes_is_refused_and_left_as_it_was(config: ResNet, message: str) -> None:
    model = ResNetNetwork(config)
    before = fresh(model)
    with pytest.raises(ValueError, match=message):
        transfer(model, ResNetNetwork(tiny(64)).state_dict())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    "missing", ["stages.1.1.body.6.pool_bn.weight", "stages.1.1.body.6.local.1x1.0.weight", "stem.0.weight"]
)
def test_a_missing_or_surplus_weight_is_named(missing: str) -> None:
    state = ResNetNetwork(tiny(64)).state_dict()
    tensor = state.pop(missing)
    with pytest.raises(ValueError, match=f"^{missing} differs"):
        transfer(ResNetNetwork(tiny(64)), state)
    state |= {missing: tensor, "stages.1.1.body.6.local.3x3.0.weight": tensor}
    with pytest.raises(ValueError, match=r"^stages\.1\.1\.body\.6\.local\.3x3"):
        transfer(ResNetNetwork(tiny(64)), state)


def test_many_wrong_names_are_counted() -> None:
    with pytest.raises(ValueError, match=r"^stages\.0\.0\.body\.0\.weight, .* and \d+ more differs"):
        transfer(ResNetNetwork(tiny(64)), {})
