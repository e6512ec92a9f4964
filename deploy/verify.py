"""Whether networks that should be equal are: their outputs on real images, and the first layer that is off."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle

from search.data.segments import IGNORED
from search.formats import Network
from search.training.tasks import Meter
from search.training.trainer import relative


@dataclass
class Agreement:
    """How far one network's outputs are from another's, over all images so far."""

    largest: float = 0.0
    """Absolute output of the other one."""
    difference: float = 0.0
    """Largest absolute one."""
    worst: int = 0
    """Batch that has it."""
    batches: int = 0
    total: float = 0.0
    count: int = 0
    same: int = 0
    judged: int = 0
    cosine: float | None = None
    """Least cosine of two embeddings of an image; None where outputs are of classes."""

    def add(self, outputs: Tensor, other: Tensor, counted: Tensor | None) -> None:
        """Add a batch; `counted` says of which positions the largest output is compared, None for nowhere."""
        gap = (outputs - other).abs()
        most = float(gap.max().nan_to_num(nan=float("inf")))  # a NaN is no agreement
        if most > self.difference:
            self.difference, self.worst = most, self.batches
        self.batches += 1
        self.largest = max(self.largest, float(other.abs().max()))
        self.total, self.count = self.total + float(gap.double().sum()), self.count + gap.numel()
        if counted is None:
            least = float(torch.cosine_similarity(outputs.double(), other.double(), dim=1).min())
            self.cosine = least if self.cosine is None else min(self.cosine, least)
        else:
            self.same += int((outputs.argmax(1) == other.argmax(1))[counted].sum())
            self.judged += int(counted.sum())

    @property
    def max_error(self) -> float:
        """Largest difference, relative to the largest output."""
        return relative(self.difference, self.largest)

    @property
    def mean_error(self) -> float:
        """Mean difference, relative to the largest output."""
        return relative(self.total / self.count, self.largest)

    @property
    def top1(self) -> float | None:
        """Share of images, or pixels, whose largest output is the same one, percent; None where that says nothing."""
        return 100 * self.same / self.judged if self.judged else None


@dataclass
class Verified:
    """One network beside the trained and the converted one."""

    trained: Agreement = field(default_factory=Agreement)
    converted: Agreement = field(default_factory=Agreement)
    accuracy: float = float("nan")
    """Percent, on the same images."""
    iou: float | None = None
    """mIoU of its label maps and the trained one's, percent; None where outputs are no maps."""


@torch.inference_mode()
def verify(
    networks: Mapping[str, Network],
    batches: Iterable[tuple[Tensor, Tensor]],
    meter: Callable[[], Meter],
    classes: bool,
    advance: Callable[[int], None] = lambda _: None,
) -> dict[str, Verified]:
    """Compare networks on the same images, each with the first, which is trained, and the second, its conversion.

    Args:
        networks: by name; modules in eval mode.
        batches: images and targets.
        meter: makes one for each network.
        classes: whether outputs are of classes, `(N, classes)` or `(N, classes, H, W)`, and not embeddings.
        advance: told the number of images after each batch.
    """
    found = {name: Verified() for name in networks}
    meters, to_trained = ({name: meter() for name in networks} for _ in range(2))
    for images, targets in batches:
        outputs = {name: network(images) for name, network in networks.items()}
        trained, converted, *_ = outputs.values()
        counted = compared(targets) if classes else None
        for name, of_network in outputs.items():
            found[name].trained.add(of_network, trained, counted)
            found[name].converted.add(of_network, converted, counted)
            meters[name].update(of_network, targets)
            if counted is not None and counted.dim() > 1:
                to_trained[name].update(of_network, trained.argmax(1).where(counted, IGNORED))
                found[name].iou = 0.0
        advance(len(images))
    for name, verified in found.items():
        verified.accuracy = meters[name].compute()["accuracy"]
        if verified.iou is not None:
            verified.iou = to_trained[name].compute()["accuracy"]
    return found


def compared(targets: Tensor) -> Tensor:
    """Return which targets count: every label, and every pixel that is not ignored."""
    return targets != IGNORED if targets.dim() > 1 else torch.ones_like(targets, dtype=torch.bool)


@torch.inference_mode()
def first_off(trained: nn.Module, converted: nn.Module, images: Tensor, tolerance: float) -> tuple[str, float]:
    """Return the first layer whose output differs by more than `tolerance` of its largest, and by how much.

    A RepMLP counts as one layer, and so does a convolution with the BN that is folded into it. If none is off by
    itself, it is the one that is off most.
    """
    before, after = outputs_of(trained, images), outputs_of(converted, images)
    kept, folded = dict(trained.named_modules()), dict(converted.named_modules())
    order = list(before)
    worst, most = "", 0.0
    for name, following in zip(order, [*order[1:], ""], strict=True):
        if isinstance(kept[following], _BatchNorm) and isinstance(folded[following], nn.Identity):
            continue  # the BN behind it is in its weights
        error = max(
            relative(float((a - b).abs().max()), float(a.abs().max()))
            for a, b in zip(before[name], after.get(name, before[name]), strict=True)
        )
        if not error <= tolerance:
            return name, error
        if error > most:
            worst, most = name, error
    return worst, most


def outputs_of(model: nn.Module, images: Tensor) -> dict[str, list[Tensor]]:
    """Return what each layer gave, by name, in the order of execution; RepMLP blocks and leaves are layers."""
    outputs: dict[str, list[Tensor]] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                outputs.setdefault(name, []).append(output.clone())

        return hook

    handles: list[RemovableHandle] = []
    blocks: list[str] = []
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{block}.") for block in blocks)
        whole = callable(getattr(module, "reparameterize", None))
        if whole:
            blocks.append(name)
        if not inside and (whole or not list(module.children())):
            handles.append(module.register_forward_hook(keep(name)))
    try:
        model(images)
    finally:
        for handle in handles:
            handle.remove()
    return outputs
