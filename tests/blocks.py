"""Random blocks and networks in the state that training leaves them in, and a count of what they copy."""

from typing import Any

import torch
from hypothesis import strategies as st
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode

from repmlp import RepMLP, RepMLPBlock


def lived_in(model: nn.Module) -> nn.Module:
    """Give every BN statistics and weights as after training, some nearly zero, and return the model in eval mode."""
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            nn.init.uniform_(module.running_var, 0.1, 2)
            nn.init.normal_(module.running_mean)
            if module.affine:
                nn.init.uniform_(module.weight, -1.5, 1.5)
                nn.init.normal_(module.bias)
    return model.eval()


@st.composite
def blocks(draw: st.DrawFn) -> RepMLP:
    """Draw a block: C, O, g, h, w, H, W, kernels, reduction and parts."""
    groups = draw(st.sampled_from([1, 2, 3]))
    channels, out = (groups * draw(st.integers(1, 3)) for _ in range(2))
    h, w = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    size = draw(st.integers(h, 11)), draw(st.integers(w, 11))
    odd = st.tuples(*(st.sampled_from([k for k in (1, 3, 5) if k <= side]) for side in (h, w)))
    spec = RepMLPBlock(
        partition=(h, w),
        groups=groups,
        kernels=tuple(draw(st.lists(odd, max_size=4, unique=True))),
        reduction=draw(st.sampled_from([1, 2])),
        global_perceptron=draw(st.booleans()),
        fc3_conv=draw(st.sampled_from([None, None, 3, (7, 5)])),
    )
    if spec.grid(size) != (1, 1) and channels * spec.grid(size)[0] * spec.grid(size)[1] < 2:
        spec = RepMLPBlock(partition=(h, w), groups=groups)
    torch.manual_seed(draw(st.integers(0, 2**16)))
    return lived_in(RepMLP(channels, out, size, spec))


def images(block: RepMLP, dtype: torch.dtype = torch.float32, n: int = 3) -> torch.Tensor:
    return torch.randn(n, block.in_channels, *block.size, dtype=dtype)


class Copies(TorchDispatchMode):
    """Counts the tensors that are copied into another layout."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten.clone.default
        return func(*args, **kwargs or {})
