"""Merging affine branches into one fully-connected kernel: BN folding and convolution to FC.

All functions are differentiable in the weights that they take, so a merged kernel can also stand in a loss.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

Size = tuple[int, int]


def bn_scale_shift(bn: _BatchNorm) -> tuple[Tensor, Tensor]:
    """Return the scale and shift, float64 `(features,)`, that `bn` applies in eval mode (RepMLP, Eq. 8).

    Raises:
        ValueError: if `bn` keeps no running statistics.
    """
    if bn.running_mean is None or bn.running_var is None:
        raise ValueError(f"{bn} keeps no running statistics, so it is not a fixed affine map; set track_running_stats.")
    scale = (bn.running_var.double() + bn.eps).rsqrt()
    if bn.weight is not None:
        scale = scale * bn.weight.double()
    shift = -bn.running_mean.double() * scale
    if bn.bias is not None:
        shift = shift + bn.bias.double()
    return scale, shift


def fold_bn(weight: Tensor, bias: Tensor | None, bn: _BatchNorm) -> tuple[Tensor, Tensor]:
    """Fold an eval-mode BN into the layer before it (RepMLP, Eq. 8 and 9).

    Args:
        weight: `(outputs, ...)`, of a convolution or a linear layer.
        bias: `(outputs,)` or None.
        bn: the normalisation of those outputs.

    Returns:
        The folded weight and bias in float64.
    """
    scale, shift = bn_scale_shift(bn)
    folded = weight.double() * scale.view(-1, *[1] * (weight.dim() - 1))
    return folded, shift if bias is None else shift + bias.double() * scale


def conv_to_fc(kernel: Tensor, size: Size) -> Tensor:
    """Build the FC kernel of a stride-1, zero-padded "same" convolution on maps of `size`, tap by tap.

    Row (o, y, x) of the FC kernel is the convolution kernel of output channel o, placed so that its centre is at
    (y, x), and cut at the border of the map: a window into the zero-extended kernel. This gives what the paper gets
    by convolving an identity matrix (Eq. 15), in the layout of FC3 for any groups, also where O differs from C.
    Extra memory is that of the result.

    Args:
        kernel: `(O, C/g, kh, kw)` with odd kh, kw.
        size: (h, w) of the map.

    Returns:
        `(O*h*w, (C/g)*h*w)`.
    """
    h, w = size
    extended = centred(kernel, (2 * h - 1, 2 * w - 1))
    windows = [extended[:, :, y : y + h, x : x + w] for y in reversed(range(h)) for x in reversed(range(w))]
    return torch.stack(windows, dim=1).view(kernel.shape[0] * h * w, -1)


def centred(kernel: Tensor, size: Size) -> Tensor:
    """Zero-extend or cut `(O, C/g, kh, kw)` about its centre to an odd `size`; the centre tap stays the centre."""
    y, x = (size[0] - kernel.shape[2]) // 2, (size[1] - kernel.shape[3]) // 2
    return F.pad(kernel, (x, x, y, y))


def affine_to_fc(branch: Callable[[Tensor], Tensor], channels: int, groups: int, size: Size) -> tuple[Tensor, Tensor]:
    """Merge any affine map of partitions with group structure: W = f(I) - f(0), b = f(0).

    Args:
        branch: maps float64 `(M, C, h, w)` to `(M, O, h, w)`; affine, and output group j reads input group j only.
        channels: C.
        groups: g.
        size: (h, w).

    Returns:
        FC kernel `(O*h*w, (C/g)*h*w)` and bias `(O*h*w,)`.
    """
    n = channels // groups * size[0] * size[1]
    basis = torch.eye(n, dtype=torch.float64).repeat(1, groups).view(n, channels, *size)
    bias = branch(torch.zeros_like(basis[:1])).reshape(-1)
    return (branch(basis).reshape(n, -1) - bias).T, bias
