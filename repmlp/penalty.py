"""A penalty on merged FC3 kernels, to train blocks whose far weights can be pruned (RepMLP, Sec. 3.3 and 3.4)."""

import torch
from torch import Tensor, nn

from repmlp.block import RepMLP
from repmlp.checks import Size
from repmlp.grouped_linear import GroupedLinear


def distance_penalty(model: nn.Module) -> Tensor:
    """Return the group lasso of the merged FC3 kernels of `model` by the distance that a weight spans.

    The paper proposes to use the merged kernel, which is differentiable, in a penalty for pruning; this form is ours:
    the sum over blocks and over d >= 1 of d * ||W_d||_2, where W_d are all weights between an output and an input
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
