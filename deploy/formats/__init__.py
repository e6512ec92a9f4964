"""Formats that a converted network is exported to: a file a format, found by its name, each run by its own runtime."""

import functools
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from deploy.verify import Network
from record.plugins import in_package, names_in


class FormatError(ValueError):
    """A format that is not known, or cannot be written here."""


class Format(Protocol):
    """One kind of file, made without arguments."""

    name: str
    """As users give it: that of its module here."""
    file: str
    tolerance: float
    """Largest difference of outputs, relative to the largest output."""
    runtime: str
    title: str
    """What it takes to load it, and how, in Python: `loading`, with {shape} for `C, H, W`."""
    loading: str

    def write(self, model: nn.Module, example: Tensor, path: Path) -> None:
        """Write a converted network, given an example input, to a file."""

    def open(self, path: Path, threads: int) -> Network:
        """Open the file in its runtime, with so many CPU threads."""


@functools.cache
def formats() -> dict[str, Format]:
    """Return all formats by name; the weights and the configuration, safetensors, are always there and come first."""
    names = sorted(names_in(__name__), key=lambda name: (name != "safetensors", name))
    return {name: in_package(__name__, name, "format")() for name in names}


def chosen(names: str) -> list[str]:
    """Return the formats of a list such as `safetensors,onnx`, the weights first.

    Raises:
        FormatError: naming one that is not known.
    """
    given = [name.strip() for name in names.split(",") if name.strip()]
    if not given or not set(given) <= set(formats()):
        raise FormatError(
            f"--format {names} is not a list of {', '.join(formats())}; for example safetensors,onnx,pt2."
        )
    return list(dict.fromkeys(["safetensors", *given]))


def exported(model: nn.Module, example: Tensor) -> Any:
    """Return the program of a network, for batches of any size."""
    return torch.export.export(model, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))


def needs(name: str, *packages: str) -> None:
    """Raise FormatError unless the packages that a format needs can be imported."""
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise FormatError(
            f"{name} needs the package {missing[0]}; pip install 'repmlp-search[export]', or leave {name} out of "
            "--format."
        )
