"""Pieces that networks consist of, so that what is a sum over them can be kept by piece."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import nn


class Part(NamedTuple):
    """A piece of a converted network; equal ones cost the same."""

    make: Callable[..., nn.Module]
    """Makes it, converted, from `arguments`, on the default device."""
    arguments: tuple[Any, ...]
    """Values that can be hashed."""
    shape: tuple[int, ...]
    """Of its input, without the batch."""
