"""Penalties on merged FC3 kernels: to train blocks whose far weights can be pruned, or that 8 bits hold well.

That the merged kernel is differentiable, and may be penalised so, is from RepMLP, Sec. 3.3 and 3.4; the forms are ours.
"""

from typing import TypeGuard

import torch
from torch import Tensor, nn

from repmlp.block import RepMLP
from repmlp.checks import Size
from repmlp.grouped_linear import GroupedLinear
from repmlp.networks.repmlpnet import SharedRepMLP


def distance_penalty(model: nn.Module) -> Tensor:
    """Return the group lasso of the merged FC3 kernels of `model` by the distance that a weight spans.

    It is the sum over blocks and over d >= 1 of d * ||W_d||_2, where W_d are all weights between an output and an input
    position of a partition d apart, d = max(|dy|, |dx|).

    The kernel is that of inference, with BN's running statistics as constants. Blocks whose FC3 is a convolution
    (`fc3_conv`) add nothing, since their kernels end at a distance already.

    Args:
        model: a network or a block.

    Returns:
        Scalar, float32; 0 without any RepMLP. Differentiable in every weight that the merged kernels depend on.
    """
    penalty = torch.zeros(())
    for block in model.modules():
        if isinstance(block, RepMLP) and isinstance(block.fc3, GroupedLinear):
            norms = distance_norms(block)
            penalty = penalty + (torch.arange(len(norms), device=norms.device) * norms).sum().float()
    return penalty


def range_penalty(model: nn.Module) -> Tensor:
    """Return the mean over blocks of the mean over rows of the merged FC3 kernel of log(max |w| / rms(w)).

    Quantized by 127 steps to its largest weight, a row's relative error is that ratio over 127 * sqrt(12). Merging adds
    a convolution's few large taps to a row of many small weights, for which few of the steps are left then.

    The kernel is that of inference, with BN's running statistics as constants. Blocks without an FC3 of merged
    convolutions (`fc3_conv`) add nothing.

    Args:
        model: a network or a block.

    Returns:
        Scalar, float32; 0 without any RepMLP. Differentiable in every weight that the merged kernels depend on.
    """
    crests = [crest(block.merged_fc3()[0].flatten(1)) for block in model.modules() if has_fc3(block)]
    return torch.stack(crests).mean().float() if crests else torch.zeros(())


def has_fc3(block: nn.Module) -> TypeGuard[RepMLP | SharedRepMLP]:
    """Return whether a module is a block whose FC3 is fully connected."""
    return isinstance(block, RepMLP | SharedRepMLP) and isinstance(block.fc3, GroupedLinear)


def crest(rows: Tensor) -> Tensor:
    """Return the mean over rows `(N, K)` of log(max |w| / rms(w)); a row of zeros counts as level."""
    tiny = torch.finfo(rows.dtype).tiny
    return (rows.square().amax(1).clamp_min(tiny) / rows.square().mean(1).clamp_min(tiny)).log().mean() / 2


def distance_norms(block: RepMLP) -> Tensor:
    """Return ||W_d||_2 of the merged FC3 kernel for d = 0, 1, ..., max(h, w) - 1, float64."""
    kernel, _ = block.merged_fc3()
    apart = distances(block.partition).to(kernel.device)
    h, w = block.partition
    by_position = kernel.square().view(block.out_channels, h * w, -1, h * w).sum((0, 2))
    energies = kernel.new_zeros(max(h, w)).index_add(0, apart.flatten(), by_position.flatten())
    return energies.clamp_min(torch.finfo(energies.dtype).tiny).sqrt()  # the root of 0 has no gradient


def distances(size: Size) -> Tensor:
    """Return max(|dy|, |dx|) between all positions of a map, `(h*w, h*w)`."""
    positions = torch.cartesian_prod(torch.arange(size[0]), torch.arange(size[1]))
    return (positions[:, None] - positions[None]).abs().amax(2)
