"""Trained weights from elsewhere: the authors' (DingXiaoH/RepMLP) and torchvision's names, and other image sizes."""

import re
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from repmlp.block import RepMLP
from repmlp.merge import fold_bn

BN = r"(weight|bias|running_mean|running_var|num_batches_tracked)"
REPMLPNET_NAMES: dict[str, str] = {
    r"conv_embedding\.conv\.(weight|bias)": r"embed.0.\1",
    rf"conv_embedding\.bn\.{BN}": r"embed.1.\1",
    r"embeds\.(\d+)\.conv\.(weight|bias)": r"downsamples.\1.0.\2",
    rf"embeds\.(\d+)\.bn\.{BN}": r"downsamples.\1.1.\2",
    rf"stages\.(\d+\.\d+)\.prebn([12])\.{BN}": r"stages.\1.norm\2.\3",
    r"stages\.(\d+\.\d+)\.repmlp_block\.gp\.(fc[12])\.(weight|bias)": r"stages.\1.block.\2.\3",
    r"stages\.(\d+\.\d+)\.repmlp_block\.fc3\.(weight|bias)": r"stages.\1.block.fc3.\2",
    rf"stages\.(\d+\.\d+)\.repmlp_block\.fc3_bn\.{BN}": r"stages.\1.block.fc3_bn.\2",
    r"stages\.(\d+\.\d+)\.repmlp_block\.repconv(\d+)\.conv\.(weight|bias)": r"stages.\1.block.local.\2x\2.0.\3",
    rf"stages\.(\d+\.\d+)\.repmlp_block\.repconv(\d+)\.bn\.{BN}": r"stages.\1.block.local.\2x\2.1.\3",
    r"stages\.(\d+\.\d+)\.ffn_block\.ffn_fc1\.conv\.(weight|bias)": r"stages.\1.ffn.0.\2",
    rf"stages\.(\d+\.\d+)\.ffn_block\.ffn_fc1\.bn\.{BN}": r"stages.\1.ffn.1.\2",
    r"stages\.(\d+\.\d+)\.ffn_block\.ffn_fc2\.conv\.(weight|bias)": r"stages.\1.ffn.3.\2",
    rf"stages\.(\d+\.\d+)\.ffn_block\.ffn_fc2\.bn\.{BN}": r"stages.\1.ffn.4.\2",
    rf"head_norm\.{BN}": r"norm.\1",
    r"head\.(weight|bias)": r"head.\1",
}
"""Pattern of the authors' name: name here."""


def repmlpnet_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the authors' RepMLPNet weights as a state dict of `RepMLPNetwork`.

    With the Local Perceptrons in it (training form) it fits `RepMLPNetwork(config)`. After the authors' Locality
    Injection, which a bias of FC3 tells, it fits `RepMLPNetwork(config, deploy=True)`: the BNs that the authors keep
    behind the other convolutions are folded into them. Their 1x1 convolutions on 1x1 maps are linear layers here.

    Raises:
        ValueError: naming the keys that no RepMLPNet of the authors has.
    """
    if any(name.endswith(".fc3.bias") for name in state):
        state = fold_conv_bns(state)
    ours = under_names(state, REPMLPNET_NAMES, "RepMLPNet of github.com/DingXiaoH/RepMLP")
    return {name: t.flatten(1) if re.search(r"\.fc[123]\.weight$", name) else t for name, t in ours.items()}


def renamed(name: str, names: Mapping[str, str]) -> str:
    """Return the name here of what the authors call `name`; empty if no pattern fits."""
    matches = ((re.fullmatch(pattern, name), ours) for pattern, ours in names.items())
    return next((match.expand(ours) for match, ours in matches if match), "")


def fold_conv_bns(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Fold each BN `X.bn`, with PyTorch's default eps, into its bias-free convolution `X.conv`, in float64."""
    folded = dict(state)
    for name, weight in state.items():
        layer = name.removesuffix(".conv.weight")
        if f"{layer}.bn.weight" not in state:
            continue
        bn = nn.BatchNorm2d(len(weight), dtype=weight.dtype, device=weight.device)
        prefix = f"{layer}.bn."
        bn.load_state_dict({key.removeprefix(prefix): folded.pop(key) for key in state if key.startswith(prefix)})
        kernel, bias = (t.detach().to(weight.dtype) for t in fold_bn(weight, None, bn))
        folded |= {f"{layer}.conv.weight": kernel, f"{layer}.conv.bias": bias}
    return folded


CONV_BNS = {
    "shortcut": ("shortcut.0", "shortcut.1"),
    "conv1": ("body.0", "body.1"),
    "conv2": ("body.3", "body.4"),
    "conv3": ("body.6", "body.7"),
    "light_conv1": ("body.0", "body.1"),
    "light_conv3": ("body.5", "body.6"),
    "btnk_conv1": ("body.0", "body.1"),
    "btnk_conv2": ("body.3", "body.4"),
    "btnk_conv4": ("body.8", "body.9"),
    "btnk_conv5": ("body.11", "body.12"),
}
"""Conv-BN of a block of the authors' ResNet: convolution and BN here."""
REPMLPS = {"light_repmlp": "body.3", "btnk_repmlp": "body.6"}
REPMLP_NAMES = {
    rf"avg\.bn\.{BN}": r"pool_bn.\2",
    r"fc1_fc2\.(fc[12])\.(weight|bias)": r"\2.\3",
    r"fc3\.(weight|bias)": r"fc3.\2",
    rf"fc3_bn\.{BN}": r"fc3_bn.\2",
    r"repconv(\d+)\.conv\.weight": r"local.\2x\2.0.weight",
    rf"repconv(\d+)\.bn\.{BN}": r"local.\2x\2.1.\3",
}
"""Pattern of the authors' name in a RepMLP: name here; group 1 is the number of the block."""
HEADS = ("head.", "classifier.", "auxiliary.")


def repmlp_resnet_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the authors' RepMLP-ResNet weights as a state dict of `ResNetNetwork`, in training or converted form.

    The published Light network is `repmlp.paper.LIGHT_RES50_G4`. FC3 is a 1x1 convolution there, a matrix here. A
    "module." before the names, of data-parallel training, is dropped.

    Raises:
        ValueError: naming the keys that no RepMLP-ResNet of the authors has.
    """
    state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    ours = under_names(state, repmlp_resnet_names(), "RepMLP-ResNet of github.com/DingXiaoH/RepMLP")
    return {name: t.flatten(1) if name.endswith(".fc3.weight") else t for name, t in ours.items()}


def torchvision_resnet_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights of torchvision's ResNet-50 or -101 as a state dict of `ResNetNetwork(resnet(50))` or 101.

    Raises:
        ValueError: naming the keys that no such ResNet of torchvision has.
    """
    return under_names(state, torchvision_resnet_names(), "ResNet with bottlenecks of torchvision")


def repmlp_resnet_names() -> dict[str, str]:
    """Return pattern of the authors' name: name here."""
    names = {
        r"stage0\.0\.conv\.(weight|bias)": r"stem.0.\1",
        rf"stage0\.0\.bn\.{BN}": r"stem.1.\1",
        r"linear\.(weight|bias)": r"head.2.\1",
    }
    for stage in range(4):
        theirs, ours = rf"stage{stage + 1}\.(\d+)", rf"stages.{stage}.\1"
        for layer, (conv, bn) in CONV_BNS.items():
            names[rf"{theirs}\.{layer}\.conv\.(weight|bias)"] = rf"{ours}.{conv}.\2"
            names[rf"{theirs}\.{layer}\.bn\.{BN}"] = rf"{ours}.{bn}.\2"
        for block, place in REPMLPS.items():
            names |= {rf"{theirs}\.{block}\.{k}": f"{ours}.{place}.{v}" for k, v in REPMLP_NAMES.items()}
    return names


def torchvision_resnet_names() -> dict[str, str]:
    """Return pattern of torchvision's name: name here."""
    names = {
        r"conv1\.weight": "stem.0.weight",
        rf"bn1\.{BN}": r"stem.1.\1",
        r"fc\.(weight|bias)": r"head.2.\1",
    }
    for stage in range(4):
        theirs, ours = rf"layer{stage + 1}\.(\d+)", rf"stages.{stage}.\1"
        names[rf"{theirs}\.downsample\.0\.weight"] = rf"{ours}.shortcut.0.weight"
        names[rf"{theirs}\.downsample\.1\.{BN}"] = rf"{ours}.shortcut.1.\2"
        for layer in range(3):
            names[rf"{theirs}\.conv{layer + 1}\.weight"] = rf"{ours}.body.{3 * layer}.weight"
            names[rf"{theirs}\.bn{layer + 1}\.{BN}"] = rf"{ours}.body.{3 * layer + 1}.\2"
    return names


def under_names(state: Mapping[str, Tensor], names: Mapping[str, str], network: str) -> dict[str, Tensor]:
    """Return `state` under the names here, by pattern; ValueError naming keys without one."""
    ours = {name: renamed(name, names) for name in state}
    unknown = [name for name in state if not ours[name]]
    if unknown:
        raise ValueError(
            f"{listed(unknown)} is not in a {network}; give the state dict of the whole network, and no other."
        )
    return {ours[name]: tensor for name, tensor in state.items()}


def listed(names: Sequence[str]) -> str:
    """Return the first ten names, and how many there are more."""
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def transfer(model: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """Load weights trained at another image size or for other classes into `model`, in place (RepMLP, Sec. 4.4).

    FC1 and FC2 of a RepMLP depend on the number of partitions, and a head on the classes; where they differ, or are
    absent from `state`, those layers of `model` stay as they are. A block that has one partition on one side alone has
    no Global Perceptron there. Everything else must fit, so h, w, g and the kernels stay the same.

    Args:
        model: the network to fill, such as a `ResNetNetwork`, or the `backbone` of a `PSPNetwork`.
        state: of the trained network, under the same names.

    Returns:
        Names of the weights that were not loaded, in the model's order.

    Raises:
        ValueError: naming the keys that do not fit; the model is left as it was.
    """
    own = model.state_dict()
    other = {name for name in [*own, *state] if name not in own or name not in state}
    other |= {name for name in own.keys() & state.keys() if own[name].shape != state[name].shape}
    free = free_layers(model, state)
    wrong = sorted(name for name in other if not name.startswith(free))
    if wrong:
        raise ValueError(
            f"{listed(wrong)} differs between {type(model).__name__} and the state given, in shape or by being in "
            "one of them alone. Only FC1 and FC2 of RepMLP blocks and the head may; h, w, g and the kernels must be "
            "kept, since FC3 and the local kernels are tied to them."
        )
    layers = {name.rpartition(".")[0] for name in other}
    kept = {name for name in own if name.rpartition(".")[0] not in layers}
    model.load_state_dict({name: state[name] for name in kept}, strict=False)
    return [name for name in own if name not in kept]


def free_layers(model: nn.Module, state: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Return how the names begin that may differ between `model` and a trained `state`."""
    free = [*HEADS]
    for name, module in model.named_modules():
        if isinstance(module, RepMLP):
            block = f"{name}." if name else ""
            free += [f"{block}fc1.", f"{block}fc2."]
            if module.spec.global_perceptron != (f"{block}fc1.weight" in state):
                free.append(f"{block}pool_bn.")
    return tuple(free)
