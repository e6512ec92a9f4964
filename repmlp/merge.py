"""Merging affine branches into one fully-connected kernel: BN folding and convolution to FC.

All functions are differentiable in the weights that they take, so a merged kernel can also stand in a loss.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

Size = tuple[int, int]
CHUNK = 2**22
"""Elements of the basis images that pass through a branch at once."""


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
    return torch.stack(windows, dim=1).reshape(kernel.shape[0] * h * w, -1)


def centred(kernel: Tensor, size: Size) -> Tensor:
    """Zero-extend or cut `(O, C/g, kh, kw)` about its centre to an odd `size`; the centre tap stays the centre."""
    y, x = (size[0] - kernel.shape[2]) // 2, (size[1] - kernel.shape[3]) // 2
    return F.pad(kernel, (x, x, y, y))


def affine_to_fc(
    branch: Callable[[Tensor], Tensor],
    channels: int,
    groups: int,
    size: Size,
    device: torch.device | None = None,
) -> tuple[Tensor, Tensor]:
    """Merge any affine map of partitions with group structure: W = f(I) - f(0), b = f(0).

    The images of the basis I pass in chunks, so that without gradients extra memory is about that of the result.

    Args:
        branch: maps float64 `(M, C, h, w)` to `(M, O, h, w)`; affine, and output group j reads input group j only.
        channels: C.
        groups: g.
        size: (h, w).
        device: where `branch` computes.

    Returns:
        FC kernel `(O*h*w, (C/g)*h*w)` and bias `(O*h*w,)`.
    """
    n = channels // groups * size[0] * size[1]
    bias = at_zero(branch, channels, size, device)
    rows = []
    for hot in torch.arange(n, device=device).split(max(1, CHUNK // (n * groups))):
        basis = F.one_hot(hot, n).double().repeat(1, groups).view(-1, channels, *size)
        rows.append(branch(basis).flatten(1) - bias)
    return torch.cat(rows).T, bias


def at_zero(branch: Callable[[Tensor], Tensor], channels: int, size: Size, device: torch.device | None) -> Tensor:
    """Return what `branch` makes of a partition of zeros, `(O*h*w,)`: the bias of an affine map."""
    return branch(torch.zeros(1, channels, *size, dtype=torch.float64, device=device)).flatten()


def affine_to_conv(
    branch: Callable[[Tensor], Tensor], channels: int, groups: int, kernel: Size, device: torch.device | None = None
) -> Tensor:
    """Return the kernel `(O, C/g, *kernel)` of an affine map whose linear part is a stride-1, zero-padded convolution.

    Its taps are the response to an impulse, f(I) - f(0), in reverse order. `affine_to_fc` needs h*w times as many
    images, for what `conv_to_fc` makes of this kernel.

    Args:
        branch: maps float64 `(M, C, *kernel)` to `(M, O, *kernel)`; output group j reads input group j only.
        channels: C.
        groups: g.
        kernel: window of the convolution, odd.
        device: where `branch` computes.
    """
    impulses = torch.eye(channels // groups, dtype=torch.float64, device=device).repeat(1, groups)
    images = centred(impulses[:, :, None, None], kernel)
    response = (branch(images).flatten(1) - at_zero(branch, channels, kernel, device)).view(len(images), -1, *kernel)
    return response.transpose(0, 1).flip(2, 3)
