"""A linear layer in g independent groups, as one batched matrix product."""

from typing import Any

import torch
from torch import Tensor, nn


class GroupedProduct(torch.autograd.Function):
    """`(g, M, n) x (g, k, n)^T -> (g, M, k)`, with the gradient for the weight in the weight's own layout.

    Autograd's gives it transposed, and the copy back costs as much as the product.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return row_major_bmm(x, weight.transpose(1, 2))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        return (
            row_major_bmm(grads[0], weight) if ctx.needs_input_grad[0] else None,
            torch.bmm(grads[0].transpose(1, 2), x) if ctx.needs_input_grad[1] else None,
        )


def row_major_bmm(a: Tensor, b: Tensor) -> Tensor:
    """`(g, M, n) x (g, n, k) -> (g, M, k)`, laid out as `(M, g, k)` where that is faster: `(M, g*k)` is a view then.

    On CPU, float32 and float64 take the groups one by one for such a result, which costs more than the copy that it
    saves unless the result is much larger than the weight. Autograd and Dynamo do not take a strided `out`.
    """
    (g, m, n), k = a.shape, b.shape[2]
    one_by_one = a.device.type == "cpu" and a.dtype.itemsize >= 4
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or (one_by_one and m < 4 * n):
        return torch.bmm(a, b)
    return torch.bmm(a, b, out=a.new_empty_strided((g, m, k), (k, g * k, 1)))


class GroupedLinear(nn.Module):
    """Linear map of features split into `groups`; group j maps input slice j to output slice j (RepMLP, Sec. 3.1, FC3).

    The weight has the layout of a grouped 1x1 convolution without its two unit axes, so that published
    weights fit: `(out_features, in_features / groups)`.

    Args:
        in_features: size of the last axis of the input.
        out_features: size of the last axis of the output.
        groups: number of groups; divides both.
        bias: whether a bias is added. Training needs none, since a BN follows.

    Raises:
        ValueError: if `groups` does not divide both sizes.
    """

    def __init__(self, in_features: int, out_features: int, groups: int = 1, bias: bool = True) -> None:
        super().__init__()
        if groups < 1 or in_features % groups or out_features % groups:
            raise ValueError(
                f"groups={groups} must be positive and divide both in_features={in_features} and "
                f"out_features={out_features}."
            )
        self.in_features, self.out_features, self.groups = in_features, out_features, groups
        self.weight = nn.Parameter(torch.empty(out_features, in_features // groups))
        self.bias = nn.Parameter(torch.empty(out_features)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias uniformly within 1/sqrt(fan-in), PyTorch's default for linear layers and 1x1 convs."""
        bound = (self.in_features // self.groups) ** -0.5
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)

    def by_group(self, x: Tensor) -> Tensor:
        """Apply to an input already split: `(g, M, in/g)` to `(g, M, out/g)`."""
        weight = self.weight.view(self.groups, -1, self.weight.shape[1])
        if self.training:
            if torch.is_autocast_enabled(x.device.type):
                dtype = torch.get_autocast_dtype(x.device.type)
                x, weight = x.to(dtype), weight.to(dtype)
            y = GroupedProduct.apply(x, weight)
            return y if self.bias is None else y + self.bias.to(y.dtype).view(self.groups, 1, -1)
        if self.bias is None:
            return torch.bmm(x, weight.transpose(1, 2))
        return torch.baddbmm(self.bias.view(self.groups, 1, -1), x, weight.transpose(1, 2))

    def forward(self, x: Tensor) -> Tensor:
        """Apply to `(M, in_features)`, giving `(M, out_features)`."""
        split = x.view(x.shape[0], self.groups, -1).transpose(0, 1)
        return self.by_group(split).transpose(0, 1).reshape(x.shape[0], -1)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, groups={self.groups}, bias={self.bias is not None}"
