"""State dicts of the authors' repository (DingXiaoH/RepMLP), under the names of the networks here."""

import re
from collections.abc import Mapping

from torch import Tensor, nn

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
    unknown = [name for name in state if not renamed(name, REPMLPNET_NAMES)]
    if unknown:
        raise ValueError(
            f"{', '.join(unknown)} is not in a RepMLPNet of github.com/DingXiaoH/RepMLP; give the state dict of the "
            "whole network alone, with names such as stages.0.0.repmlp_block.fc3.weight."
        )
    if any(name.endswith(".fc3.bias") for name in state):
        state = fold_conv_bns(state)
    ours = {renamed(name, REPMLPNET_NAMES): tensor for name, tensor in state.items()}
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
