"""ResNets whose stages c2-c5 can hold RepMLP blocks (RepMLP, Sec. 4.2-4.4), from plain ones to face networks."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

from torch import Tensor, nn

from repmlp.block import RepMLP
from repmlp.checks import Size, check_fields, factor, made, mapping, naming, one_of, set_, stages_of
from repmlp.networks.parts import Part
from repmlp.networks.resnet_stage import ResNetStage, conv_bn, stage_blocks

STAGES = ("c2", "c3", "c4", "c5")


@dataclass(frozen=True, kw_only=True)
class ResNet:
    """A ResNet with bottleneck blocks (torchvision's: the stride is on the 3x3)."""

    kind: Literal["resnet"] = "resnet"
    stages: tuple[ResNetStage, ...]
    """c2, c3, ...; four in the paper."""
    stem: Literal["imagenet", "face", "small"] = "imagenet"
    """imagenet: 7x7/2 and 3x3/2 max pooling. face: two more 3x3. small: 3x3/2 alone, for images of about 64 pixels."""
    stem_channels: int = 64
    expansion: int = 4
    """C / m of the blocks; 1 in the face networks, whose 1x1 convolutions do not reduce."""
    head: Literal["pool", "flatten", "none"] = "pool"
    """pool: global average, then linear. flatten: linear on the whole map. none: the map itself, for a decoder."""
    in_channels: int = 3
    size: Size = (224, 224)
    """(H, W) of the images."""
    classes: int = 1000
    """Outputs: classes, or the dimensions of an embedding. Without effect for head none."""

    def __post_init__(self) -> None:
        check_fields(self)
        set_(self, "stages", stages_of(ResNetStage, self.stages))
        for number, (stage, size) in enumerate(zip(self.stages, self.stage_sizes(), strict=True), start=2):
            with naming(f"stage c{number}"):
                stage.check(size, self.expansion)

    def stage_sizes(self) -> list[Size]:
        """Return (H, W) of the maps of each stage; every stride rounds up."""
        size = strided(self.size, 2 if self.stem == "small" else 4)
        sizes = []
        for stage in self.stages:
            size = strided(size, stage.stride)
            sizes.append(size)
        return sizes

    def canonical(self) -> Self:
        """Return the equal network without fields that have no effect."""
        stages = tuple(s.canonical(z) for s, z in zip(self.stages, self.stage_sizes(), strict=True))
        return replace(self, stages=stages, classes=1 if self.head == "none" else self.classes)

    def deployed(self) -> Self:
        """Return the canonical network that conversion leaves."""
        config = self.canonical()
        return replace(config, stages=tuple(s.deployed() for s in config.stages))

    def build(self, deploy: bool = False) -> nn.Module:
        """Return the network with fresh weights; with `deploy`, in its converted form."""
        return ResNetNetwork(self, deploy)

    def parts(self) -> Iterator[Part]:
        """Yield the pieces of the converted network, of a configuration that is `deployed`."""
        yield Part(stem, (self.in_channels, self.stem_channels, self.stem, True), (self.in_channels, *self.size))
        width, before = self.stem_channels, strided(self.size, 2 if self.stem == "small" else 4)
        for stage, size in zip(self.stages, self.stage_sizes(), strict=True):
            yield Part(made_stage, (stage, width, size, self.expansion, True), (width, *before))
            width, before = stage.channels, size
        yield Part(head, (self.head, width, before, self.classes), (width, *before))

    def describe(self) -> str:
        """Describe the network in one line, a stage at a time."""
        return " | ".join(f"c{i} {stage.describe()}" for i, stage in enumerate(self.canonical().stages, start=2))

    def placement(self) -> str:
        """Name the stages that hold a RepMLP, such as `c3 + c4`; none if there is none."""
        return " + ".join(f"c{i}" for i, stage in enumerate(self.stages, start=2) if stage.replaced()) or "none"


def strided(size: Size, stride: int) -> Size:
    """Return the size of the map after a padded, strided convolution."""
    return -(-size[0] // stride), -(-size[1] // stride)


class ResNetNetwork(nn.Module):
    """Network of a `ResNet`. Convolutions start as torchvision's do, RepMLP blocks with PyTorch's defaults.

    Shapes:
        `(N, in_channels, H, W) -> (N, classes)`, or for head none `(N, C, H', W')`.
    """

    def __init__(self, config: ResNet, deploy: bool = False) -> None:
        super().__init__()
        self.config = config = config.canonical()
        width, sizes = config.stem_channels, config.stage_sizes()
        self.stem = stem(config.in_channels, width, config.stem, deploy)
        self.stages = nn.ModuleList()
        for stage, size in zip(config.stages, sizes, strict=True):
            self.stages.append(made_stage(stage, width, size, config.expansion, deploy))
            width = stage.channels
        self.head = head(config.head, width, sizes[-1], config.classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return self.head(x)


def stem(in_channels: int, width: int, kind: str, deploy: bool) -> nn.Sequential:
    """Return what is in front of the first stage."""
    layers = conv_bn(in_channels, width, 3 if kind == "small" else 7, deploy, stride=2)
    if kind != "small":
        layers.append(nn.MaxPool2d(3, 2, 1))
    if kind == "face":
        layers += [*conv_bn(width, width, 3, deploy), *conv_bn(width, width, 3, deploy)]
    return nn.Sequential(*layers)


def made_stage(stage: ResNetStage, in_channels: int, size: Size, expansion: int, deploy: bool) -> nn.Sequential:
    """Return a stage, whose maps are of `size`."""
    return nn.Sequential(*stage_blocks(stage, in_channels, size, expansion, deploy))


def head(kind: str, channels: int, size: Size, classes: int) -> nn.Module:
    """Return what follows the last stage, for its maps of `size`."""
    if kind == "none":
        return nn.Identity()
    if kind == "pool":
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * size[0] * size[1], classes))


def initialise(model: nn.Module) -> None:
    """Draw the host's convolutions from a normal distribution by fan-out, as torchvision does."""
    inside = {id(m) for block in model.modules() if isinstance(block, RepMLP) for m in block.modules()}
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and id(module) not in inside:
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def resnet(
    depth: Literal[50, 101] = 50,
    stages: Mapping[str, Mapping[str, Any]] | None = None,
    width: float = 1.0,
    **changes: Any,
) -> ResNet:
    """Return a ResNet of a known depth.

    Args:
        depth: 50 or 101 layers.
        stages: what of c2, c3, c4 and c5 differs from a plain stage, as fields of `ResNetStage`.
        width: factor on all widths, rounded to multiples of 32 (8 in the stem).
        changes: fields of `ResNet`.

    As Tables 3 and 4 count, a replaced c2 is replaced whole, and c3-c5 but for their first block, which has the stride.
    """
    blocks = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
    one_of(depth, "depth", blocks)
    changed = changes_of(stages)
    changed["c2"] = {"replace_first": True, **changed.get("c2", {})}
    return ResNet(**{**scaled(256, blocks[depth], changed, width), **changes})


def face_resnet(stages: Mapping[str, Mapping[str, Any]] | None = None, width: float = 1.0, **changes: Any) -> ResNet:
    """Return FaceResNet, or with `stages` a RepMLP-FaceRes (RepMLP, Sec. 4.3; 96x96 images, embedding of 1024).

    Blocks 3, 2, 2, 2 at widths 128 to 1024, whose 1x1 convolutions do not reduce; the first block of each stage stays
    plain. Stem and head are not described in the paper; those here (7x7/2, max pooling, two 3x3 convolutions, one
    linear layer on the 3x3 map) are the reading that gives both figures of Table 5.
    """
    fixed = {"stem": "face", "expansion": 1, "head": "flatten", "size": (96, 96), "classes": 1024}
    return ResNet(**{**scaled(128, (3, 2, 2, 2), changes_of(stages), width), **fixed, **changes})


def changes_of(stages: Any) -> dict[str, Mapping[str, Any]]:
    """Return what differs from plain stages, by name; ValueError if a stage is unknown or not given as fields."""
    stages = {} if stages is None else mapping(stages, "stages", "stages c2 to c5")
    for name, values in stages.items():
        one_of(name, "stage", STAGES)
        mapping(values, f"stage {name}", "fields of a ResNetStage")
    return dict(stages)


def scaled(channels: int, blocks: Sequence[int], changed: Mapping[str, Any], width: float) -> dict[str, Any]:
    """Return the stem's width and the stages of a ResNet.

    Args:
        channels: of c2 at width 1; they double from stage to stage.
        blocks: of each stage.
        changed: what of some stages differs from plain ones, by name.
        width: factor on all channels, rounded to multiples of 32 (8 in the stem).
    """
    factor(width, "width")
    stages = []
    for index, (name, count) in enumerate(zip(STAGES, blocks, strict=True)):
        stride = 1 if index == 0 else 2
        plain = {"channels": rounded((channels << index) * width, 32), "blocks": count, "stride": stride}
        stages.append(made(ResNetStage, {**plain, **changed.get(name, {})}, f"stage {name}"))
    return {"stem_channels": rounded(64 * width, 8), "stages": stages}


def rounded(channels: float, multiple: int) -> int:
    """Return the nearest positive multiple."""
    return max(multiple, round(channels / multiple) * multiple)
