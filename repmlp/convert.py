"""Conversion of whole networks: RepMLP blocks to FC layers, and every conv-BN of the host to a conv."""

import copy
from collections import Counter
from typing import Any, cast

import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from repmlp.block import replace
from repmlp.merge import fold_bn


def convert(model: nn.Module) -> nn.Module:
    """Return a converted copy of `model` in eval mode: every RepMLP is three FC layers and no conv-BN is left.

    Any module with a method `reparameterize()` is converted by it, in place, and taken as it is otherwise.
    Computed in float64 from the running statistics and cast back, so dtype, device and outputs in eval mode are kept.
    Converting a converted model changes nothing; the model given is left as it was.

    Raises:
        ValueError: if torch.fx cannot follow the host's forward pass, which is how its conv-BN pairs are found.
    """
    model = copy.deepcopy(model).eval()
    for module in list(model.modules()):
        if is_reparameterizable(module):
            cast(Any, module).reparameterize()
    fold_host(model)
    return model


@torch.no_grad()
def fold_host(model: nn.Module) -> None:
    """Fold in place each BN that alone reads the output of a convolution or linear layer; both are called once."""
    graph = host_graph(model)
    modules = dict(model.named_modules())
    calls = Counter(str(node.target) for node in graph.nodes if node.op == "call_module")
    called_once = {name: modules[name] for name, count in calls.items() if count == 1}
    for node in graph.nodes:
        bn = called_once.get(str(node.target))
        before = node.args[0] if node.args else None
        if not isinstance(bn, _BatchNorm) or not isinstance(before, fx.Node) or len(before.users) > 1:
            continue
        layer = called_once.get(str(before.target))
        if isinstance(layer, nn.Conv2d | nn.Linear):
            replace(layer, *fold_bn(layer.weight, layer.bias, bn))
            parent, _, name = str(node.target).rpartition(".")
            setattr(modules[parent], name, nn.Identity())


def host_graph(model: nn.Module) -> fx.Graph:
    """Trace the forward pass around the RepMLP blocks."""
    if HostTracer().is_leaf_module(model, ""):
        return fx.Graph()
    try:
        return HostTracer().trace(model)
    except Exception as error:
        raise ValueError(
            f"convert cannot follow the forward pass of {type(model).__name__} to find its conv-BN pairs ({error}). "
            "Make it traceable by torch.fx, or call reparameterize() on its RepMLP blocks alone."
        ) from error


class HostTracer(fx.Tracer):
    """A tracer that takes blocks that convert themselves as they are."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Stop at blocks, whose forward pass checks sizes."""
        return is_reparameterizable(m) or super().is_leaf_module(m, module_qualified_name)


def is_reparameterizable(module: nn.Module) -> bool:
    return callable(getattr(module, "reparameterize", None))
