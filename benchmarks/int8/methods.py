"""Ways to 8 bits: from a converted network to one that computes as its quantized form does."""

import copy
import math
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from benchmarks.int8.equalize import equalized
from repmlp import convert
from repmlp.grouped_linear import GroupedLinear
from repmlp.penalty import crest, has_fc3
from search.formats import Network, quiet
from search.formats.onnx import Onnx
from search.formats.onnx_int8 import (
    BATCH,
    SHRUNK,
    STEPS,
    Range,
    histograms,
    least_error,
    nearest,
    prepared,
    quantize,
)

FLOAT = "float32"
DEFAULT = "exported"
LEVELS = 127
Choice = Callable[[Tensor, Tensor], Range]
"""From the histogram of an activation to the range that 8 bits cover, as `search.formats.onnx_int8.least_error`."""


class Subject:
    """A converted network, and images that it is calibrated on, `(N, C, H, W)` float32, whole batches."""

    def __init__(self, model: nn.Module, images: Tensor) -> None:
        self.model, self.images = model, images
        self.known: dict[tuple[bool, bool], tuple[Any, dict[str, tuple[Tensor, Tensor]]]] = {}

    def ready(self, equal: bool, correct: bool) -> tuple[Any, dict[str, tuple[Tensor, Tensor]]]:
        """Return the model that is quantized and histograms of its activations, which are made once."""
        if (equal, correct) not in self.known:
            module = equalized(self.model)[0] if equal else self.model
            module = unbiased(module, self.images, per_channel=True) if correct else module
            with tempfile.TemporaryDirectory() as folder, quiet():
                exact = Path(folder) / "exact.onnx"
                Onnx().write(module, self.images[:2], exact)
                model = prepared(exact)
            self.known[equal, correct] = model, histograms(model, self.images)
        return self.known[equal, correct]


Method = Callable[[Subject], Network]
"""From a network to how it computes then."""


def weights_only(subject: Subject, per_channel: bool) -> Network:
    """Round the weights to 8 bits, and nothing else."""
    model = copy.deepcopy(subject.model)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear | GroupedLinear):
            layer.weight.data = rounded(layer.weight.data, per_channel)
    return model


def rounded(weight: Tensor, per_channel: bool) -> Tensor:
    """Return a weight, output channels first, in steps of 1/127 of its largest entry."""
    rows = weight.flatten(1) if per_channel else weight.reshape(1, -1)
    step = rows.abs().amax(1, keepdim=True).clamp_min(1e-12) / LEVELS
    return ((rows / step).round() * step).view_as(weight)


def static(
    subject: Subject,
    choose: Choice = least_error,
    per_channel: bool = True,
    equal: bool = False,
    correct: bool = False,
) -> Network:
    """Quantize weights and activations by onnxruntime.

    Args:
        subject: the network.
        choose: the range of each activation.
        per_channel: whether each output channel of a layer has a scale of its own.
        equal: whether ranges are levelled across layers before.
        correct: whether biases make up for the mean error of weights.
    """
    model, seen = subject.ready(equal, correct)
    with tempfile.TemporaryDirectory() as folder, quiet():
        path = Path(folder) / "quantized.onnx"
        quantize(model, path, {name: choose(*found) for name, found in seen.items()}, per_channel)
        return Onnx().open(path, torch.get_num_threads())


def exported(subject: Subject) -> Network:
    """Quantize as an export does."""
    model, seen = subject.ready(equal=False, correct=False)
    with tempfile.TemporaryDirectory() as folder, quiet():
        path = Path(folder) / "quantized.onnx"
        nearest(model, path, seen, subject.images)
        return Onnx().open(path, torch.get_num_threads())


def whole(counts: Tensor, edges: Tensor) -> Range:
    """Take the range from the smallest to the largest value."""
    return float(edges[0]), float(edges[-1])


def percentile(counts: Tensor, edges: Tensor, share: float) -> Range:
    """Take the range that leaves out so small a share of the values at each end, but for 0."""
    below = torch.cat([counts.new_zeros(1), counts.cumsum(0) / counts.sum()])
    low, high = edges[below <= 1 - share][-1], edges[below >= share][0]
    return min(0.0, float(low)), max(0.0, float(high))


def divergence(counts: Tensor, edges: Tensor) -> Range:
    """Take the range whose 255 steps have the least Kullback-Leibler divergence from the values, as TensorRT does."""
    values, best, least = (edges[1:] + edges[:-1]) / 2, whole(counts, edges), math.inf
    if edges[-1] == edges[0]:
        return best
    for share in SHRUNK:
        low, high = share * edges[0], share * edges[-1]
        inside = (values >= low) & (values <= high)
        exact = counts[inside]
        if not exact.sum():
            continue
        step = ((values[inside] - low) / (high - low) * STEPS).round().long()
        mass, filled = (exact.new_zeros(STEPS + 1).index_add(0, step, part) for part in (exact, (exact > 0).double()))
        coarse = torch.where(exact > 0, mass[step] / filled[step].clamp_min(1), 0)
        exact[0] += counts[values < low].sum()
        exact[-1] += counts[values > high].sum()
        p, q = exact / exact.sum(), (coarse / coarse.sum()).clamp_min(1e-12)
        found = float(torch.special.xlogy(p, p / q).sum())
        if found < least:
            best, least = (float(low), float(high)), found
    return best


@torch.no_grad()
def unbiased(model: nn.Module, images: Tensor, per_channel: bool) -> nn.Module:
    """Return a network whose biases make up for the mean error that 8-bit weights cause (arXiv 1906.04721, 4.2)."""
    model = copy.deepcopy(model)
    total: dict[nn.Module, Tensor] = {}

    def seen(layer: nn.Module, inputs: tuple[Tensor], _: Tensor) -> None:
        weight = cast(Tensor, layer.weight)
        error = copy.copy(layer)
        error.__dict__.pop("by_group", None)
        error._parameters = {"weight": nn.Parameter(weight - rounded(weight, per_channel)), "bias": None}
        found = error.forward(inputs[0])
        found = found.movedim(1, -1) if isinstance(layer, nn.Conv2d) else found
        total[layer] = total.get(layer, 0) + found.flatten(0, -2).mean(0)

    def seen_by_group(layer: GroupedLinear, x: Tensor) -> Tensor:
        seen(layer, (x.mean(1).view(1, -1),), x)  # which is linear
        return GroupedLinear.by_group(layer, x)

    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(seen)
        elif isinstance(layer, GroupedLinear):
            layer.by_group = partial(seen_by_group, layer)  # type: ignore[method-assign]
    batches = images.split(BATCH)
    for batch in batches:
        model(batch)
    for layer, error in total.items():
        if isinstance(layer.bias, Tensor):
            layer.bias += error / len(batches)
        layer._forward_hooks.clear()
        layer.__dict__.pop("by_group", None)
    return model


def crests(trained: nn.Module) -> dict[str, float]:
    """Return the geometric mean over rows of max |w| / rms(w): of FC3 alone, of the merged FC3, and of other layers."""
    blocks = [block for block in trained.modules() if has_fc3(block)]
    others = [layer for layer in convert(trained).modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    rows = {
        "fc3_alone": [block.fc3.weight for block in blocks],
        "fc3_merged": [block.merged_fc3()[0] for block in blocks],
        "others": [layer.weight for layer in others if layer.weight[0].numel() > 1],
    }
    return {name: crest_of(found) for name, found in rows.items()}


def crest_of(weights: list[Tensor]) -> float:
    """Return the mean over layers; NaN if there are none."""
    found = [float(crest(w.detach().double().flatten(1))) for w in weights]
    return math.exp(sum(found) / len(found)) if found else math.nan


METHODS: Mapping[str, Method] = {
    FLOAT: lambda subject: subject.model,
    "weights alone, per tensor": partial(weights_only, per_channel=False),
    "weights alone": partial(weights_only, per_channel=True),
    "whole range, per tensor": partial(static, choose=whole, per_channel=False),
    "whole range": partial(static, choose=whole),
    "entropy": partial(static, choose=divergence),
    "99.99 %": partial(static, choose=partial(percentile, share=0.9999)),
    "99.9 %": partial(static, choose=partial(percentile, share=0.999)),
    DEFAULT: exported,
    "per channel": static,
    "per tensor": partial(static, per_channel=False),
    "per tensor, equalized": partial(static, per_channel=False, equal=True),
    "equalized": partial(static, equal=True),
    "bias corrected": partial(static, correct=True),
    "equalized, bias corrected": partial(static, equal=True, correct=True),
}
"""By name; unless they say otherwise, weights are quantized per channel, and ranges have the least absolute error."""
