"""The RepMLP block: Global, Partition and Local Perceptron in training, three FC layers after conversion."""

import copy
import functools
from collections.abc import Callable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from repmlp.checks import Size
from repmlp.config import RepMLPBlock, branch_of
from repmlp.grouped_linear import GroupedLinear
from repmlp.merge import affine_to_conv, affine_to_fc, at_zero, bn_scale_shift, centred, conv_to_fc, fold_bn


class ConvBN(nn.Sequential):
    """A bias-free, stride-1 "same" convolution and its BN: one branch of the Local Perceptron."""

    def __init__(self, in_channels: int, out_channels: int, kernel: Size, groups: int) -> None:
        padding = (kernel[0] // 2, kernel[1] // 2)
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel, padding=padding, groups=groups, bias=False),
            nn.BatchNorm2d(out_channels),
        )

    def merged(self) -> tuple[Tensor, Tensor]:
        """Return kernel `(O, C/g, *K)` and bias `(O,)`, float64, of both as one convolution (RepMLP, Eq. 8)."""
        conv, bn = cast(nn.Conv2d, self[0]), cast(nn.BatchNorm2d, self[1])
        return fold_bn(conv.weight, conv.bias, bn)


class NamedBranch(nn.Sequential):
    """A branch of the Local Perceptron beyond a conv-BN; O = C for "identity".

    A chain is zero-padded between its layers, which counts in an average. Its first BN shifts the map before that, so
    that with its bias it is no convolution at the border, but it is affine and merges into FC3 exactly.
    """

    def __init__(self, in_channels: int, out_channels: int, name: str, groups: int) -> None:
        kind, size = branch_of(name)
        layers: list[nn.Module]
        if kind == "identity":
            layers = [nn.BatchNorm2d(out_channels)]
        elif kind == "average":
            layers = [
                ConvBN(in_channels, out_channels, (1, 1), groups),
                nn.AvgPool2d(size, stride=1, padding=(size[0] // 2, size[1] // 2)),
                nn.BatchNorm2d(out_channels),
            ]
        else:
            layers = [
                ConvBN(in_channels, in_channels, (1, 1), groups),
                ConvBN(in_channels, out_channels, size, groups),
            ]
        super().__init__(*layers)
        self.window = size

    def merged(self, in_channels: int, groups: int, size: Size) -> tuple[Tensor, Tensor]:
        """Return kernel `(O, C/g, *K)` and bias `(O*h*w,)`, float64, of the branch on partitions of `size`."""
        branch, device = in_float64(self), next(self.parameters()).device
        kernel = affine_to_conv(branch, in_channels, groups, self.window, device)
        return kernel, at_zero(branch, in_channels, size, device)


class RepMLP(nn.Module):
    """RepMLP, C -> O channels on maps of one fixed size (RepMLP, Sec. 3.1 and 3.2; conversion Sec. 3.3 and 3.4).

    1. Global Perceptron, if there is more than one partition: average-pool each partition, BN, FC1, ReLU, FC2, and
       add the result to every position of its partition.
    2. Partition Perceptron: FC3, grouped, on each partition of h x w positions, then a BN over the O*h*w outputs.
    3. Local Perceptron: convolutions with BN on each partition, zero-padded at the partition's border, added to 2;
       also the branches of RepVGG and Diverse Branch Block, by name.

    Maps that the partition does not divide are zero-padded below and to the right, and cropped back. `reparameterize`
    folds 3 into 2, and every BN, leaving FC1, FC2 and FC3 with biases. Any affine module `(M, C, h, w) -> (M, O, h, w)`
    with the block's group structure may be added to `local`; it merges too.

    Args:
        in_channels: C.
        out_channels: O.
        size: (H, W) of the maps, fixed because FC1 and FC2 depend on the number of partitions.
        spec: partition (h, w), groups g, kernels K, reduction and the parts present.
        deploy: build the converted form at once, to load converted weights.

    Shapes:
        `(N, C, H, W) -> (N, O, H, W)`.

    Raises:
        ValueError: if g does not divide C and O, or a size is not positive; in `forward`, if the map is not (H, W).
    """

    def __init__(
        self, in_channels: int, out_channels: int, size: Size, spec: RepMLPBlock, deploy: bool = False
    ) -> None:
        super().__init__()
        spec.check(in_channels, out_channels, size)
        spec = spec.canonical(size)
        self.in_channels, self.out_channels, self.size, self.spec = in_channels, out_channels, size, spec
        self.grid = spec.grid(size)
        h, w = self.partition = spec.partition
        if spec.global_perceptron:
            features = in_channels * self.grid[0] * self.grid[1]
            hidden = max(1, features // spec.reduction)
            self.pool_bn: nn.BatchNorm2d | nn.Identity = nn.Identity() if deploy else nn.BatchNorm2d(in_channels)
            self.fc1 = nn.Linear(features, hidden)
            self.fc2 = nn.Linear(hidden, features)
        self.fc3: GroupedLinear | nn.Conv2d
        self.fc3_bn: nn.BatchNorm1d | nn.BatchNorm2d | nn.Identity
        if spec.fc3_conv is None:
            self.fc3 = GroupedLinear(in_channels * h * w, out_channels * h * w, spec.groups, bias=deploy)
            self.fc3_bn = nn.BatchNorm1d(out_channels * h * w)
        else:
            kernel = spec.merged_kernel() if deploy else spec.fc3_conv
            self.fc3 = nn.Conv2d(
                in_channels,
                out_channels,
                kernel,
                padding=(kernel[0] // 2, kernel[1] // 2),
                groups=spec.groups,
                bias=deploy,
            )
            self.fc3_bn = nn.BatchNorm2d(out_channels)
        if deploy:
            self.fc3_bn = nn.Identity()
        self.local = nn.ModuleDict()
        for branch in () if deploy else spec.kernels:
            if isinstance(branch, str):
                self.local[branch] = NamedBranch(in_channels, out_channels, branch, spec.groups)
            else:
                self.local[f"{branch[0]}x{branch[1]}"] = ConvBN(in_channels, out_channels, branch, spec.groups)

    @property
    def converted(self) -> bool:
        """Whether the block is in its converted form."""
        return isinstance(self.fc3_bn, nn.Identity)

    def forward(self, x: Tensor) -> Tensor:
        channels, height, width = x.shape[1:]
        if (channels, height, width) != (self.in_channels, *self.size):
            raise ValueError(
                f"RepMLP was built for {self.in_channels} channels on {self.size[0]}x{self.size[1]} maps and was given "
                f"{channels} channels on {height}x{width}; FC1, FC2 and the partition map are tied to the size."
            )
        (h, w), (rows, columns), (height, width) = self.partition, self.grid, self.size
        below, right = rows * h - height, columns * w - width
        if below or right:
            x = F.pad(x, (0, right, 0, below))
        if self.spec.global_perceptron:
            x = self.add_global(x)
        y = (
            self.converted_branch(x, self.fc3)
            if self.converted and isinstance(self.fc3, GroupedLinear)
            else self.branches(x)
        )
        return y[:, :, :height, :width] if below or right else y

    def add_global(self, x: Tensor) -> Tensor:
        """Global Perceptron on the padded map (RepMLP, Sec. 3.2); features are ordered (C, row, column)."""
        (h, w), (rows, columns) = self.partition, self.grid
        v = self.pool_bn(F.avg_pool2d(x, (h, w))).flatten(1)
        v = self.fc2(F.relu(self.fc1(v)))
        grid = x.view(-1, self.in_channels, rows, h, columns, w) + v.view(-1, self.in_channels, rows, 1, columns, 1)
        return grid.reshape(x.shape)

    def converted_branch(self, x: Tensor, fc3: GroupedLinear) -> Tensor:
        """Converted FC3 on the padded map: one copy into groups of partitions, one product, one copy back.

        The output is laid out as the input is, so that a channels-last host stays channels-last.
        """
        (h, w), (rows, columns), g = self.partition, self.grid, self.spec.groups
        n = x.shape[0]
        groups = x.view(n, g, -1, rows, h, columns, w).permute(1, 0, 3, 5, 2, 4, 6).reshape(g, n * rows * columns, -1)
        y = fc3.by_group(groups).view(g, n, rows, columns, -1, h, w)
        if x.is_contiguous(memory_format=torch.channels_last):
            return y.permute(1, 2, 5, 3, 6, 0, 4).reshape(n, rows * h, columns * w, -1).permute(0, 3, 1, 2)
        return y.permute(1, 0, 4, 2, 5, 3, 6).reshape(n, self.out_channels, rows * h, columns * w)

    def branches(self, x: Tensor) -> Tensor:
        """Partition and Local Perceptron on the padded map, by way of the partition map `(N*P, C, h, w)`."""
        (h, w), (rows, columns) = self.partition, self.grid
        n = x.shape[0]
        parts = x.view(n, -1, rows, h, columns, w).permute(0, 2, 4, 1, 3, 5).reshape(n * rows * columns, -1, h, w)
        if self.spec.fc3_conv is None:
            y = self.fc3_bn(self.fc3(parts.flatten(1))).view(parts.shape[0], self.out_channels, h, w)
        else:
            y = self.fc3_bn(self.fc3(parts))
        if self.local:
            y = y + self.local_perceptron(parts)
        y = y.view(n, rows, columns, self.out_channels, h, w).permute(0, 3, 1, 4, 2, 5)
        return y.reshape(n, self.out_channels, rows * h, columns * w)

    def local_perceptron(self, parts: Tensor) -> Tensor:
        """Sum the branches on the partition map, in channels-last layout both ways.

        Partitions are small and groups narrow, where CPU convolutions are faster so; the hook lays out
        the gradient once for all branches instead of once in each.
        """
        parts = parts.contiguous(memory_format=torch.channels_last)
        y = sum_of([branch(parts) for branch in self.local.values()])
        if y.requires_grad:
            y.register_hook(lambda grad: grad.contiguous(memory_format=torch.channels_last))
        return y

    def merged_fc3(self) -> tuple[Tensor, Tensor]:
        """Return FC3's kernel `(O*h*w, (C/g)*h*w)` and bias `(O*h*w,)` with all branches merged, in float64.

        RepMLP, Sec. 3.3 and 3.4. Differentiable in every weight of the block.

        Raises:
            ValueError: if FC3 is a convolution (`fc3_conv`), which `reparameterize` merges as one.
        """
        if not isinstance(self.fc3, GroupedLinear):
            raise ValueError(f"FC3 is a convolution here (fc3_conv={self.spec.fc3_conv}), so there is no FC3 kernel.")
        if isinstance(self.fc3_bn, nn.Identity):
            return self.fc3.weight.double(), cast(Tensor, self.fc3.bias).double()
        kernel, bias = fold_bn(self.fc3.weight, None, self.fc3_bn)
        (h, w), groups, taps = self.partition, self.spec.groups, []
        for branch in self.local.values():
            if isinstance(branch, ConvBN):
                conv, shift = branch.merged()
                taps.append(conv)
                bias = bias + shift.repeat_interleave(h * w)
            elif isinstance(branch, NamedBranch):
                conv, shift = branch.merged(self.in_channels, groups, (h, w))
                taps.append(conv)
                bias = bias + shift
            else:
                fc, shift = affine_to_fc(in_float64(branch), self.in_channels, groups, (h, w), kernel.device)
                kernel, bias = kernel + fc, bias + shift
        if taps:
            kernel = kernel + conv_to_fc(sum_of([centred(t, (2 * h - 1, 2 * w - 1)) for t in taps]), (h, w))
        return kernel, bias

    def merged_conv(self, conv: nn.Conv2d, bn: _BatchNorm) -> tuple[Tensor, Tensor]:
        """Return kernel `(O, C/g, *K)` and bias `(O,)` of FC3's convolution and BN with all branches merged, float64.

        Raises:
            ValueError: if a branch is not a conv-BN.
        """
        others = [name for name, branch in self.local.items() if not isinstance(branch, ConvBN)]
        if others:
            raise ValueError(
                f"the branches {', '.join(others)} do not merge into a convolution (fc3_conv={self.spec.fc3_conv}); "
                "use conv-BNs alone, or fc3_conv=None."
            )
        merged = [fold_bn(conv.weight, None, bn), *(cast(ConvBN, b).merged() for b in self.local.values())]
        size = max(k.shape[2] for k, _ in merged), max(k.shape[3] for k, _ in merged)
        return sum_of([centred(k, size) for k, _ in merged]), sum_of([b for _, b in merged])

    @torch.no_grad()
    def reparameterize(self) -> None:
        """Convert in place to three FC layers (RepMLP, Sec. 3.3 and 3.4); a second call changes nothing.

        Computed in float64 from the running statistics, then cast back: dtype and device are kept.
        """
        if isinstance(self.fc3_bn, nn.Identity):
            return
        if isinstance(self.fc3, GroupedLinear):
            kernel, bias = self.merged_fc3()
        else:
            kernel, bias = self.merged_conv(self.fc3, self.fc3_bn)
            height, width = kernel.shape[2:]
            self.fc3.kernel_size, self.fc3.padding = (height, width), (height // 2, width // 2)
        replace(self.fc3, kernel, bias)
        if self.spec.global_perceptron and not isinstance(self.pool_bn, nn.Identity):
            # FC1 sees each channel P times in a row, so the pooled BN scales its columns in runs of P (Sec. 3.4).
            scale, shift = (t.repeat_interleave(self.grid[0] * self.grid[1]) for t in bn_scale_shift(self.pool_bn))
            weight = self.fc1.weight.double()
            replace(self.fc1, weight * scale, self.fc1.bias.double() + weight @ shift)
            self.pool_bn = nn.Identity()
        self.fc3_bn = nn.Identity()
        self.local = nn.ModuleDict()

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, size={self.size}, partition={self.partition}"


def sum_of(tensors: Sequence[Tensor]) -> Tensor:
    """Add tensors without the extra zero that `sum` starts from."""
    return functools.reduce(torch.add, tensors)


def replace(layer: GroupedLinear | nn.Conv2d | nn.Linear, weight: Tensor, bias: Tensor) -> None:
    """Give `layer` new weights, cast to the dtype of its old ones."""
    old = layer.weight
    layer.weight = nn.Parameter(weight.to(old.dtype), requires_grad=old.requires_grad)
    layer.bias = nn.Parameter(bias.to(old.dtype), requires_grad=old.requires_grad)


def in_float64(branch: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return `branch` in eval mode and float64, as a function of its own weights, which keep their dtype."""
    weights = {k: v.double() for k, v in [*branch.named_parameters(), *branch.named_buffers()] if v.is_floating_point()}
    skeleton = copy.deepcopy(branch).eval()
    return lambda x: functional_call(skeleton, weights, (x,))
