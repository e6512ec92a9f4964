"""Files that a converted network is exported to, each written and run by its own runtime."""

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from repmlp.saved import WEIGHTS, load
from results.verify import Network

logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # no CUDA is no news here


class FormatError(ValueError):
    """A format that is not known, or cannot be written here."""


@dataclass(frozen=True)
class Format:
    """One kind of file."""

    file: str
    write: Callable[[nn.Module, Tensor, Path], None]
    """Writes a converted network, given an example input, to a file."""
    open: Callable[[Path, int], Network]
    """Opens the file in its runtime, with so many CPU threads."""
    tolerance: float
    """Largest difference of outputs, relative to the largest output."""
    runtime: str


def exported(model: nn.Module, example: Tensor) -> Any:
    """Return the program of a network, for batches of any size."""
    return torch.export.export(model, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))


def write_pt2(model: nn.Module, example: Tensor, path: Path) -> None:
    """Write a .pt2 archive of torch.export."""
    torch.export.save(exported(model, example), path)


def open_pt2(path: Path, threads: int) -> Network:
    """Return the program of an archive."""
    return torch.export.load(path).module()


def write_onnx(model: nn.Module, example: Tensor, path: Path) -> None:
    """Write an ONNX file with the input `images` and the output `outputs`."""
    needs("onnx", "onnxscript")
    torch.onnx.export(
        model,
        (example,),
        path,
        input_names=["images"],
        output_names=["outputs"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        dynamo=True,
        external_data=False,
        verbose=False,
    )


def open_onnx(path: Path, threads: int) -> Network:
    """Return a session of onnxruntime on the CPU."""
    needs("onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


def write_aoti(model: nn.Module, example: Tensor, path: Path) -> None:
    """Compile a network ahead of time (AOTInductor), which needs a C++ compiler."""
    if not any(shutil.which(name) for name in ("c++", "g++", "clang++")):
        raise FormatError("aoti needs a C++ compiler, and none is on the PATH; leave it out or install g++.")
    torch._inductor.aoti_compile_and_package(exported(model, example), package_path=str(path))


def open_aoti(path: Path, threads: int) -> Network:
    """Return a compiled network."""
    return torch._inductor.aoti_load_package(str(path))


def open_folder(path: Path, threads: int) -> Network:
    """Return the network of the folder that a file of weights is in."""
    return load(path.parent)


FORMATS = {
    "safetensors": Format(WEIGHTS, lambda *_: None, open_folder, 1e-5, "torch"),
    "onnx": Format("model.onnx", write_onnx, open_onnx, 1e-4, "onnxruntime"),
    "pt2": Format("model.pt2", write_pt2, open_pt2, 1e-4, "torch.export"),
    "aoti": Format("model.aoti.pt2", write_aoti, open_aoti, 1e-4, "AOTInductor"),
}
"""By the name that users give. The weights and the configuration are always there."""


def chosen(names: str) -> list[str]:
    """Return the formats of a list such as `safetensors,onnx`, the weights first.

    Raises:
        FormatError: naming one that is not known.
    """
    given = [name.strip() for name in names.split(",") if name.strip()]
    unknown = [name for name in given if name not in FORMATS]
    if unknown or not given:
        raise FormatError(f"--format {names} is not a list of {', '.join(FORMATS)}; for example safetensors,onnx,pt2.")
    return list(dict.fromkeys(["safetensors", *given]))


def needs(*packages: str) -> None:
    """Raise FormatError unless packages can be imported."""
    from importlib.util import find_spec

    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise FormatError(
            f"onnx needs the package {missing[0]}; pip install 'repmlp-search[export]', or leave onnx out of --format."
        )
