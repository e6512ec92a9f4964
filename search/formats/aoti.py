"""Networks compiled ahead of time by AOTInductor."""

import logging
import shutil
from pathlib import Path

import torch
from torch import Tensor, nn

from search.formats import FileFormat, FormatError, Network
from search.formats.pt2 import exported

logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # no CUDA is no news here


class Aoti(FileFormat):
    """Needs a C++ compiler to be written."""

    name, file, runtime = "aoti", "model.aoti.pt2", "AOTInductor"
    title = "PyTorch, compiled ahead of time"
    loading = (
        "import torch\n\nprogram = torch._inductor.aoti_load_package(FOLDER + '/model.aoti.pt2')\n\n\n"
        "def model(images):\n    return program(torch.from_numpy(images)).numpy()"
    )

    def write(self, model: nn.Module, example: Tensor, path: Path) -> None:
        if not any(shutil.which(name) for name in ("c++", "g++", "clang++")):
            raise FormatError("aoti needs a C++ compiler, and none is on the PATH; leave it out or install g++.")
        torch._inductor.aoti_compile_and_package(exported(model, example), package_path=str(path))

    def open(self, path: Path, threads: int) -> Network:
        return torch._inductor.aoti_load_package(str(path))
