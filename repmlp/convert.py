"""Conversion of whole networks: blocks that convert themselves, and every conv-BN of the host to a conv."""

import contextlib
import copy
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from repmlp.block import replace
from repmlp.merge import fold_bn

PLAIN_FORWARD = nn.Conv2d.forward, nn.Linear.forward
"""Of layers whose weights are used as they are."""
PADDED = ("Conv2dSame",)
"""Of timm, which only pads in its own way."""


def convert(model: nn.Module) -> nn.Module:
    """Return a converted copy of `model` in eval mode: every RepMLP is three FC layers and no conv-BN is left.

    Any module with a method `reparameterize()` is converted by it, in place, and taken as it is otherwise; those of
    timm with `fuse()` give the module that takes their place. Computed in float64 from the running statistics and cast
    back, so dtype, device and outputs in eval mode are kept. Converting a converted model changes nothing; the model
    given is left as it was.

    Raises:
        ValueError: if torch.fx cannot follow the host's forward pass, which is how its conv-BN pairs are found.
    """
    model = copy.deepcopy(model).eval()
    with in_float64(model) if any(map(from_timm, model.modules())) else contextlib.nullcontext():
        for module in list(model.modules()):
            if is_reparameterizable(module):
                cast(Any, module).reparameterize()
        fuse_children(model)
    fold_host(model)
    return model


@contextlib.contextmanager
def in_float64(model: nn.Module) -> Iterator[None]:
    """Let a model of timm, whose blocks convert themselves in their own dtype, be float64 for a while."""
    dtypes = {tensor.dtype for tensor in model.parameters() if tensor.is_floating_point()}
    before = torch.get_default_dtype()
    model.double()
    torch.set_default_dtype(torch.double)  # of the layers that take their place
    try:
        yield
    finally:
        torch.set_default_dtype(before)
        model.to(next(iter(dtypes)))


def fuse_children(module: nn.Module) -> None:
    """Let each block of timm that can be fused make the module that takes its place."""
    for name, child in list(module.named_children()):
        if from_timm(child) and callable(getattr(child, "fuse", None)):
            child = cast(Any, child).fuse()
            setattr(module, name, child)
        fuse_children(child)


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
        if isinstance(layer, nn.Conv2d | nn.Linear) and foldable(layer, bn):
            replace(layer, *fold_bn(layer.weight, layer.bias, bn))
            parent, _, name = str(node.target).rpartition(".")
            setattr(modules[parent], name, activation(bn))
    for name in calls:
        if unfollowed(modules[name]):
            for child in modules[name].children():
                fold_host(child)


def foldable(layer: nn.Module, bn: _BatchNorm) -> bool:
    """Whether a layer uses its weights as they are, and a BN has statistics."""
    plain = type(layer).forward in PLAIN_FORWARD or (from_timm(layer) and type(layer).__name__ in PADDED)
    return plain and bn.running_mean is not None


def activation(bn: _BatchNorm) -> nn.Module:
    """Return what a BN does beside normalising: in timm, an activation may belong to it."""
    parts = [getattr(bn, name, None) for name in ("drop", "act")] if from_timm(bn) else []
    found = [part for part in parts if isinstance(part, nn.Module) and not isinstance(part, nn.Identity)]
    return nn.Sequential(*found) if len(found) > 1 else found[0] if found else nn.Identity()


def host_graph(model: nn.Module) -> fx.Graph:
    """Trace the forward pass around the blocks that convert themselves, and around those that cannot be followed."""
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
    """A tracer that takes as they are blocks that convert themselves, and what timm says that cannot be followed."""

    def __init__(self) -> None:
        super().__init__(autowrap_functions=notrace("functions"))

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Stop at blocks, whose forward pass checks sizes."""
        return (is_reparameterizable(m) or isinstance(m, (_BatchNorm, *notrace("modules")))) or super().is_leaf_module(
            m, module_qualified_name
        )


def notrace(what: str) -> tuple[Any, ...]:
    """Return the functions or modules of timm that torch.fx cannot follow; none where timm is not imported."""
    if "timm" not in sys.modules:
        return ()
    from timm.models import _features_fx as known

    return tuple(getattr(known, f"get_notrace_{what}")())


def unfollowed(module: nn.Module) -> bool:
    """Whether a block was taken as it is because its forward pass cannot be followed."""
    return isinstance(module, notrace("modules")) and not isinstance(module, _BatchNorm)


def from_timm(module: nn.Module) -> bool:
    return type(module).__module__.startswith("timm.")


def is_reparameterizable(module: nn.Module) -> bool:
    return callable(getattr(module, "reparameterize", None))
