"""Costs of a network that are known without training: parameters and multiply-accumulates."""

import functools
import math
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from record.study import StudyError
from repmlp import build
from repmlp.networks import NetworkConfig
from repmlp.networks.parts import Part
from repmlp.paper import TABLES

with warnings.catch_warnings():  # fvcore scripts a loss when it is imported, which torch calls deprecated
    warnings.simplefilter("ignore")
    from fvcore.nn import FlopCountAnalysis
    from fvcore.nn.jit_handles import Handle, addmm_flop_jit, bmm_flop_jit, conv_flop_jit, linear_flop_jit


LARGEST = 10**10
"""Parameters of the largest network that is counted: float32 weights of 37 GiB."""


class UnknownOperatorError(StudyError):
    """An operator that the counter has no handle for."""


class TooLargeError(StudyError):
    """A network that no machine here could train."""


def baddbmm_macs(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """Count `(g, M, K) x (g, K, N)`, the grouped product of a converted FC3."""
    groups, rows, inner = inputs[1].type().sizes()
    return Counter({"baddbmm": groups * rows * inner * inputs[2].type().sizes()[2]})


def padded_macs(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """Count a convolution whose padding is a word."""
    weight, out = inputs[1].type().sizes(), outputs[0].type().sizes()
    return Counter({"conv": math.prod(out) * math.prod(weight[1:])})


HANDLES: dict[str, Handle | None] = {
    "aten::_convolution": conv_flop_jit,
    "aten::_convolution_mode": padded_macs,
    "aten::linear": linear_flop_jit,
    "aten::addmm": addmm_flop_jit,
    "aten::bmm": bmm_flop_jit,
    "aten::baddbmm": baddbmm_macs,
    **dict.fromkeys(
        (
            "aten::adaptive_avg_pool2d",
            "aten::add",
            "aten::add_",
            "aten::addcmul",
            "aten::avg_pool2d",
            "aten::batch_norm",
            "aten::clamp_min",
            "aten::cos",
            "aten::cumsum",
            "aten::div",
            "aten::dropout",
            "aten::dropout_",
            "aten::expand_as",
            "aten::feature_dropout",
            "aten::gelu",
            "aten::group_norm",
            "aten::hardsigmoid",
            "aten::hardsigmoid_",
            "aten::hardswish",
            "aten::hardswish_",
            "aten::hardtanh",
            "aten::hardtanh_",
            "aten::layer_norm",
            "aten::linalg_vector_norm",
            "aten::matmul",
            "aten::max_pool2d",
            "aten::mean",
            "aten::mul",
            "aten::mul_",
            "aten::pad",
            "aten::pow",
            "aten::prelu",
            "aten::reshape_as",
            "aten::rsub",
            "aten::scaled_dot_product_attention",
            "aten::sigmoid",
            "aten::silu",
            "aten::silu_",
            "aten::sin",
            "aten::softmax",
            "aten::sub",
            "aten::sum",
            "aten::upsample_bilinear2d",
            "aten::upsample_nearest2d",
        )
    ),
}
"""Operator to its count; None for those that the paper counts as nothing: all but conv and linear layers.

A product of two activations (`matmul`, or attention as a whole) is not counted either, as Table 4's NL-Res50 shows.
"""


class WithoutValues(TorchFunctionMode):
    """Lets networks on the meta device, which have shapes and no values, be built at once and traced for fvcore.

    Draws of first weights, and BN, which keeps shapes and counts nothing, are left out; and a convolution is traced as
    on other devices, where it is `_convolution`.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in LEFT_OUT and args and args[0].is_meta:
            return args[0]
        if func in CONVOLUTIONS and args and args[0].is_meta:
            return convolution(CONVOLUTIONS[func], *args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


LEFT_OUT = torch.Tensor.normal_, torch.Tensor.uniform_, F.batch_norm


CONVOLUTIONS: dict[Any, int] = {torch.conv1d: 1, torch.conv2d: 2, torch.conv3d: 3}


def convolution(
    dimensions: int,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """Return what `torch.conv2d` and its like do, by the operator that they consist of; `padding` may be no word."""
    steps, margins, gaps = ([v] * dimensions if isinstance(v, int) else v for v in (stride, padding, dilation))
    plain = False, [0] * dimensions, groups, False, False, True, True
    return torch._convolution(x, weight, bias, steps, margins, gaps, *plain)


def count_macs(model: nn.Module, input_shape: tuple[int, ...]) -> int:
    """Return the multiply-accumulates of the conv and linear layers of `model` for one input.

    fvcore calls them flops; the paper, whose FLOPs these are, counts neither biases, BN, pooling nor sums.

    Args:
        model: any traceable network; one on the meta device is counted without being executed.
        input_shape: without the batch, such as `(C, H, W)`.

    Raises:
        UnknownOperatorError: naming the operators, if one has no handle.
    """
    first = next(model.parameters())
    example = torch.zeros((1, *input_shape), dtype=first.dtype, device=first.device)
    analysis = FlopCountAnalysis(model.eval(), example)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    analysis.clear_op_handles().set_op_handle(**HANDLES)
    with warnings.catch_warnings(), WithoutValues():
        warnings.simplefilter("ignore")
        total = int(analysis.total())
    unknown = analysis.unsupported_ops()
    if unknown:
        raise UnknownOperatorError(
            f"no MAC count is known for {', '.join(sorted(unknown))}; add a handle in {__name__}."
        )
    return total


def network_costs(config: NetworkConfig) -> dict[str, int]:
    """Return `params` and `macs` of the converted network."""
    return dict(deployed_costs(config.deployed()))


def paper_costs(number: int, say: Callable[[str], None] = lambda _: None) -> dict[str, dict[str, int]]:
    """Return the costs of the networks of a table of the paper, by row; none if there is no such table."""
    found = {}
    for row, config in TABLES.get(number, {}).items():
        say(f"Table {number}: counting {row}")
        found[row] = network_costs(config)
    return found | ({"A) before conversion": training_costs(TABLES[1]["Pure MLP"])} if number == 1 else {})


@functools.lru_cache(maxsize=4096)
def deployed_costs(config: NetworkConfig) -> dict[str, int]:
    """Return the costs of all networks with the same `deployed()`, such as all kernel sets."""
    return counts(unset(config, deploy=True), input_shape(config))


def summed_costs(config: NetworkConfig) -> dict[str, int]:
    """Return the same as `network_costs`, where a network says its parts as a sum over these, each counted once."""
    deployed = config.deployed()
    if not hasattr(deployed, "parts"):
        return dict(deployed_costs(deployed))
    found = [part_costs(part) for part in deployed.parts()]
    return {name: sum(costs[name] for costs in found) for name in ("params", "macs")}


@functools.lru_cache(maxsize=65536)
def part_costs(part: Part) -> dict[str, int]:
    """Return the costs of a piece of a converted network."""
    with torch.device("meta"), WithoutValues():
        model = part.make(*part.arguments)
    return counts(model, part.shape)


def training_costs(config: NetworkConfig) -> dict[str, int]:
    """Return `params` and `macs` of the network in training.

    As in the paper's one such row (Table 1 A), `params` counts every element of the state dict, BN statistics included.
    """
    return dict(costs_before(config.canonical()))


@functools.lru_cache(maxsize=4096)
def costs_before(config: NetworkConfig) -> dict[str, int]:
    """Return the costs in training of a canonical network."""
    model = unset(config, deploy=False)
    return {**counts(model, input_shape(config)), "params": sum(t.numel() for t in model.state_dict().values())}


def counts(model: nn.Module, shape: tuple[int, ...]) -> dict[str, int]:
    """Return the counts of a network without weights for one input of that shape.

    It is executed only if it does what tensors without values cannot, such as a branch by a value.
    """
    params = sum(p.numel() for p in model.parameters())
    if not params:
        return {"params": 0, "macs": 0}
    try:
        macs = count_macs(model, shape)
    except (NotImplementedError, RuntimeError, TypeError):  # of operators without values
        macs = count_macs(model.to_empty(device="cpu"), shape)
    return {"params": params, "macs": macs}


@functools.lru_cache(maxsize=4096)
def deployed_parameters(config: NetworkConfig) -> int:
    """Return the parameters of all networks with the same `deployed()`."""
    return sum(p.numel() for p in unset(config, deploy=True).parameters())


def parameters_of(config: NetworkConfig) -> int:
    """Return `params` of the converted network, in a fraction of the time that `macs` take."""
    return deployed_parameters(config.deployed())


def input_shape(config: NetworkConfig) -> tuple[int, int, int]:
    return config.in_channels, *config.size


def unset(config: NetworkConfig, deploy: bool) -> nn.Module:
    """Return the network on the meta device: counting needs no values.

    Raises:
        TooLargeError: if it has more than `LARGEST` parameters.
    """
    try:
        with torch.device("meta"), WithoutValues():
            model = build(config, deploy)
        params = sum(p.numel() for p in model.parameters())
    except RuntimeError as error:
        if "overflow" not in str(error):
            raise
        params = 2**63
    if params > LARGEST:
        raise TooLargeError(
            f"a network has {'over ' * (params == 2**63)}{params:,} parameters ({config.describe()}); at most "
            f"{LARGEST:,} are handled here, so use smaller channels, partitions or widths."
        )
    return model
