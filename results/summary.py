"""Networks in one line."""

from collections.abc import Mapping
from typing import Any

Config = Mapping[str, Any]


def summary(config: Config) -> str:
    """Describe a network, given as plain values, a stage at a time."""
    kind = config["kind"]
    if kind == "pspnet":
        return f"PSP {config['channels']} over {summary(config['backbone'])}"
    if kind == "torchvision":
        return str(config["name"])
    if kind == "mobilefacenet":
        return f"MobileFaceNet x{config['width']:g}"
    if kind == "mixer":
        mixing = f" {repmlp(config['mixing'])}" if config["mixing"] else ""
        return f"{config['style']} {config['channels']}x{config['blocks']} /{config['patch']}{mixing}"
    if kind == "repmlpnet":
        return " | ".join(
            f"{s['channels']}x{s['blocks']} S{s['share_sets']} {size(s['partition'])}" for s in config["stages"]
        )
    if kind == "resnet":
        return " | ".join(f"c{i} {resnet_stage(s)}" for i, s in enumerate(config["stages"], start=2))
    return " | ".join(f"{s['channels']}x{s['blocks']} {block(s['block'])}" for s in config["stages"])


def resnet_stage(stage: Config) -> str:
    """Describe a stage: width, depth, and kind, r and RepMLP where it is not plain."""
    text = f"{stage['channels']}x{stage['blocks']}"
    if stage["context"]:
        text += f" {stage['context']}"
    if stage["kind"] == "plain":
        return text
    r = f" r{stage['r']}" if stage["r"] > 1 else ""
    return f"{text} {stage['kind']}{r} {repmlp(stage['repmlp'])}"


def block(values: Config) -> str:
    """Describe a block of a CIFAR network."""
    return f"conv {size(values['kernel'])}" if values["kind"] == "conv" else f"RepMLP {repmlp(values)}"


def repmlp(values: Config) -> str:
    """Describe a RepMLP: h x w, g, kernels, Global Perceptron."""
    parts = [f"{size(values['partition'])} g{values['groups']}"]
    if values["fc3_conv"]:
        parts.append(f"FC3 conv{size(values['fc3_conv'])}")
    if values["kernels"]:
        parts.append("k" + "+".join(size(k) for k in values["kernels"]))
    if values["global_perceptron"]:
        parts.append(f"global/{values['reduction']}" if values["reduction"] > 1 else "global")
    return " ".join(parts)


def size(given: list[int] | str) -> str:
    """Write a size, or the name of a branch."""
    if isinstance(given, str):
        return given
    return str(given[0]) if given[0] == given[1] else f"{given[0]}x{given[1]}"
