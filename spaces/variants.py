"""Changes of a network that an ablation compares: functions from a configuration to a configuration.

They act on every RepMLP of a network. A change that has no effect, such as taking away what is not there, is an error.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar, cast

from repmlp.config import ConvBlock, RepMLPBlock, odd_pair, pair
from repmlp.networks import NetworkConfig, config_from_dict, config_to_dict, kind_of
from repmlp.networks.cifar import CifarNet
from repmlp.networks.pspnet import PSPNet
from repmlp.networks.resnet import ResNet, ResNetStage

T = TypeVar("T")


def with_blocks(config: T, change: Callable[[RepMLPBlock], Any]) -> T:
    """Return a configuration with each RepMLP in it changed."""
    if isinstance(config, RepMLPBlock):
        return cast(T, change(config))
    if isinstance(config, tuple):
        return cast(T, tuple(with_blocks(part, change) for part in config))
    if is_dataclass(config) and not isinstance(config, type):
        return replace(config, **{f.name: with_blocks(getattr(config, f.name), change) for f in fields(config)})
    return config


def with_stages(config: NetworkConfig, change: Callable[[str, ResNetStage], ResNetStage]) -> NetworkConfig:
    """Return a ResNet, or a PSPNet over one, with each stage changed, given its name (c2, c3, ...)."""
    if isinstance(config, PSPNet):
        return replace(config, backbone=cast(ResNet, with_stages(config.backbone, change)))
    if not isinstance(config, ResNet):
        raise ValueError(f"is for ResNets, not for {kind_of(config)}.")
    return replace(config, stages=tuple(change(f"c{i}", stage) for i, stage in enumerate(config.stages, start=2)))


def without_local(config: NetworkConfig) -> NetworkConfig:
    """Train without the Local Perceptron (Table 1 B)."""
    return with_blocks(config, lambda block: replace(block, kernels=()))


def without_global(config: NetworkConfig) -> NetworkConfig:
    """Leave the Global Perceptron out (Table 1 C)."""
    return with_blocks(config, lambda block: replace(block, global_perceptron=False))


def fc3_as_conv(config: NetworkConfig, kernel: Any) -> NetworkConfig:
    """Put a convolution on the partition map in the place of FC3 (Table 1 D)."""
    return with_blocks(config, lambda block: replace(block, fc3_conv=odd_pair(kernel, "fc3_as_conv")))


def repmlp_as_conv(config: NetworkConfig, kernel: Any) -> NetworkConfig:
    """Put a convolution of as many groups in the place of the whole block (Table 1 E)."""
    if not isinstance(config, CifarNet):
        raise ValueError(f"is for networks of kind cifar, not for {kind_of(config)}.")
    return with_blocks(config, lambda block: ConvBlock(kernel=odd_pair(kernel, "kernel"), groups=block.groups))


def wide_convnet(config: NetworkConfig) -> NetworkConfig:
    """Double the widths and put a dense 3x3 convolution in the place of each block (Table 1, Wide ConvNet)."""
    if not isinstance(config, CifarNet):
        raise ValueError(f"is for networks of kind cifar, not for {kind_of(config)}.")
    stages = (replace(stage, channels=2 * stage.channels, block=ConvBlock()) for stage in config.stages)
    return replace(config, stages=tuple(stages))


def before_conversion(config: NetworkConfig) -> NetworkConfig:
    """Return the same network, whose costs are counted as it is in training (Table 1 A)."""
    return config


def kernels(config: NetworkConfig, sizes: Sequence[Any]) -> NetworkConfig:
    """Use these kernels and other branches alone in the Local Perceptron."""
    return with_blocks(config, lambda block: replace(block, kernels=tuple(sizes)))


def branches(config: NetworkConfig, names: Sequence[Any]) -> NetworkConfig:
    """Add kernels or other branches, such as "identity" or "1x1-3x3", to the Local Perceptron."""
    return with_blocks(config, lambda block: replace(block, kernels=(*block.kernels, *names)))


def groups(config: NetworkConfig, number: int) -> NetworkConfig:
    """Set g."""
    return with_blocks(config, lambda block: replace(block, groups=number))


def partition(config: NetworkConfig, size: Any) -> NetworkConfig:
    """Set h and w."""
    return with_blocks(config, lambda block: replace(block, partition=pair(size, "partition")))


def reduction(config: NetworkConfig, number: int) -> NetworkConfig:
    """Set the reduction of the Global Perceptron's hidden width."""
    return with_blocks(config, lambda block: replace(block, reduction=number))


def r(config: NetworkConfig, number: int) -> NetworkConfig:
    """Set the channel reduction in front of the RepMLP of each stage that has one."""
    return with_stages(config, lambda _, stage: replace(stage, r=number) if stage.replaced() else stage)


def block_kind(config: NetworkConfig, kind: Any) -> NetworkConfig:
    """Set the kind of the blocks of each stage with RepMLP: bottleneck, light, glfp or plain (Table 7)."""
    return with_stages(config, lambda _, stage: replace(stage, kind=kind) if stage.replaced() else stage)


def stages(config: NetworkConfig, names: str | Sequence[str]) -> NetworkConfig:
    """Keep RepMLP in these stages alone, such as "c3 c4" (Table 3); the others become plain.

    Stages of a CIFAR network are stage1, stage2, ...; a 3x3 convolution takes the place of their RepMLPs.
    """
    kept = names.split() if isinstance(names, str) else list(names)
    if isinstance(config, CifarNet):
        present = [f"stage{i + 1}" for i in range(len(config.stages))]
        chosen = tuple(
            stage if name in kept else replace(stage, block=ConvBlock())
            for name, stage in zip(present, config.stages, strict=True)
        )
        changed: NetworkConfig = replace(config, stages=chosen)
    else:
        present = []

        def keep(name: str, stage: ResNetStage) -> ResNetStage:
            present.append(name)
            return stage if name in kept else replace(stage, kind="plain", replace_first=False)

        changed = with_stages(config, keep)
    unknown = sorted(set(kept) - set(present))
    if unknown:
        raise ValueError(f"has no stage {', '.join(unknown)}; there are {', '.join(present)}.")
    return changed


PLAIN: dict[str, Callable[[NetworkConfig], NetworkConfig]] = {
    "without_local": without_local,
    "without_global": without_global,
    "wide_convnet": wide_convnet,
    "before_conversion": before_conversion,
}
"""Changes that need no value."""
VALUED: dict[str, Callable[[NetworkConfig, Any], NetworkConfig]] = {
    "fc3_as_conv": fc3_as_conv,
    "repmlp_as_conv": repmlp_as_conv,
    "kernels": kernels,
    "branches": branches,
    "groups": groups,
    "partition": partition,
    "reduction": reduction,
    "r": r,
    "block_kind": block_kind,
    "stages": stages,
}
"""Changes that take one."""


def set_field(config: NetworkConfig, path: str, value: Any) -> NetworkConfig:
    """Set a field by its place, such as `stages.0.block.groups`; `*` stands for every entry of a list.

    Raises:
        ValueError: if there is no such place.
    """
    values = config_to_dict(config)
    *way, last = path.split(".")
    places: list[Any] = [values]
    for key in way:
        places = [found for place in places for found in entries(place, key)]
    for place in places:
        entries(place, last)
        for index in range(len(place)) if isinstance(place, list) and last == "*" else [position(place, last)]:
            place[index] = value
    return config_from_dict(values)


def entries(place: Any, key: str) -> list[Any]:
    """Return what lies at `key` of a mapping or list, or all of it for `*`."""
    if isinstance(place, list) and key == "*":
        return place
    known = [
        str(k) for k in (place if isinstance(place, dict) else range(len(place) if isinstance(place, list) else 0))
    ]
    if key not in known:
        raise ValueError(f"there is no {key}; there are {', '.join(known) or 'no parts'}.")
    return [place[position(place, key)]]


def position(place: Any, key: str) -> Any:
    return int(key) if isinstance(place, list) else key


def changed(config: NetworkConfig, change: str | Mapping[str, Any]) -> NetworkConfig:
    """Return a configuration after a change as studies write it.

    Args:
        config: the network to change.
        change: the name of a change without a value, or a mapping of names to values and of fields, given with dots,
            to values, which are taken in order.

    Raises:
        ValueError: if a change is unknown or does not fit the network, or all of them have no effect.
    """
    steps = {change: None} if isinstance(change, str) else dict(change)
    result = config
    for name, value in steps.items():
        try:
            if name in PLAIN:
                result = PLAIN[name](result)
            elif name in VALUED:
                result = VALUED[name](result, value)
            elif "." in name:
                result = set_field(result, name, value)
            else:
                known = ", ".join([*PLAIN, *VALUED])
                raise ValueError(f"no such change; known are {known}, and fields such as stages.*.block.groups.")
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name}: {error}") from None
    return result.canonical()


def sweep(name: str, values: Sequence[Any]) -> dict[str, dict[str, Any]]:
    """Return a variant for each value of one of `VALUED`, by what it is called in a table.

    `kernels_alone` takes each of some kernels by itself, and `kernels_cumulative` one more from variant to variant.
    """
    if name == "kernels_alone":
        sets: list[list[Any]] = [[value] for value in values]
    elif name == "kernels_cumulative":
        sets = [list(values[: i + 1]) for i in range(len(values))]
    elif name in VALUED:
        return {f"{name}={written(value)}": {name: value} for value in values}
    else:
        known = ", ".join(["kernels_alone", "kernels_cumulative", *VALUED])
        raise ValueError(f"sweeps: {name} is not one of {known}.")
    return {f"K={{{', '.join(map(written, s))}}}": {"kernels": s} for s in sets}


def written(value: Any) -> str:
    """Write a value in a table: 7, 3x5, or the parts of a list."""
    if isinstance(value, list | tuple):
        return "x".join(map(str, value)) if all(isinstance(v, int) for v in value) else "+".join(map(written, value))
    return str(value)
