"""Cross-layer equalization (arXiv 1906.04721) of a converted network, through RepMLP blocks too."""

import copy
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from repmlp.block import RepMLP
from repmlp.convert import notrace
from repmlp.networks.repmlpnet import SharedRepMLP

SWEEPS = 20
Layer = nn.Conv2d | nn.Linear | RepMLP
PASSED = (nn.ReLU, nn.Identity, nn.MaxPool2d, nn.AdaptiveAvgPool2d, nn.AvgPool2d, nn.Flatten, nn.Dropout)
"""What lets a positive factor of a channel through."""
FUNCTIONS = (F.relu, torch.relu, F.max_pool2d, F.adaptive_avg_pool2d, torch.flatten)
METHODS = ("relu", "relu_", "flatten", "contiguous")


class Tracer(fx.Tracer):
    """Takes RepMLP blocks as they are, and what timm says that cannot be followed."""

    def __init__(self) -> None:
        super().__init__(autowrap_functions=notrace("functions"))

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        known = (RepMLP, SharedRepMLP, *notrace("modules"))
        return isinstance(m, known) or super().is_leaf_module(m, module_qualified_name)


@torch.no_grad()
def equalized(model: nn.Module) -> tuple[nn.Module, int]:
    """Return a network that computes the same with levelled ranges, and between how many pairs of layers they are."""
    model = copy.deepcopy(model)
    pairs = [(a, b) for a, b in adjacent(model) if by_output(a)[0].shape[0] == len(ranges(b))]
    for _ in range(SWEEPS):
        for first, second in pairs:
            out, into = by_output(first)[0].abs().flatten(1).amax(1), ranges(second)
            factor = torch.where((out > 0) & (into > 0), (out / into).sqrt(), 1).clamp(1e-3, 1e3)
            if isinstance(second, RepMLP) and second.spec.global_perceptron:  # what FC2 adds to the input
                shrink([t.view(len(factor), -1) for t in (second.fc2.weight, second.fc2.bias)], factor)
            shrink(by_output(first), factor)
            for part in by_input(second):
                part *= factor.view(part.shape[0], 1, part.shape[2], 1)
    return model, len(pairs)


def shrink(parts: list[Tensor], factor: Tensor) -> None:
    """Divide tensors by a factor for each entry of their first axis."""
    for part in parts:
        part /= factor.view(-1, *[1] * (part.dim() - 1))


def adjacent(model: nn.Module) -> Iterator[tuple[Layer, Layer]]:
    """Yield the pairs of layers of which only the second reads the first, with at most ReLUs and pools between."""
    modules = dict(model.named_modules())

    def module(node: fx.Node) -> nn.Module | None:
        return modules[str(node.target)] if node.op == "call_module" else None

    for node in Tracer().trace(model).nodes:
        second, above = module(node), node
        if not isinstance(second, Layer):
            continue
        while (above := above.args[0]) and isinstance(above, fx.Node) and len(above.users) == 1:
            found = module(above)
            if isinstance(found, Layer):
                yield found, second
            passed = isinstance(found, PASSED) or above.target in (*FUNCTIONS, *METHODS)
            if not passed or not above.args:
                break


def by_output(layer: Layer) -> list[Tensor]:
    """Return views of what makes the output, one entry of the first axis a channel; weights first."""
    if not isinstance(layer, RepMLP):
        return [layer.weight, *(() if layer.bias is None else (layer.bias,))]
    fc3 = layer.fc3
    return [t.view(layer.out_channels, -1) for t in (fc3.weight, *(() if fc3.bias is None else (fc3.bias,)))]


def by_input(layer: Layer) -> list[Tensor]:
    """Return views of what reads the input, `(g, *, channels / g, *)`."""
    if isinstance(layer, nn.Linear):
        return [layer.weight.view(1, *layer.weight.shape, 1)]
    if isinstance(layer, nn.Conv2d):
        groups, (out, into) = layer.groups, layer.weight.shape[:2]
        return [layer.weight.view(groups, out // groups, into, -1)]
    channels, groups = layer.in_channels, layer.spec.groups
    outputs = layer.fc3.weight.shape[0] // groups
    views = [layer.fc3.weight.view(groups, outputs, channels // groups, -1)]
    if layer.spec.global_perceptron:
        views.append(layer.fc1.weight.view(1, len(layer.fc1.weight), channels, -1))
    return views


def ranges(layer: Layer) -> Tensor:
    """Return the largest weight that reads each channel, of those that its output is a sum of."""
    return by_input(layer)[0].abs().amax((1, 3)).flatten()
