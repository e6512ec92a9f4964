"""Archives of torch.export."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from search.formats import FileFormat, Network


class Pt2(FileFormat):
    """The program of a network, for batches of any size."""

    name, file, runtime = "pt2", "model.pt2", "torch.export"
    title = "PyTorch alone"
    loading = (
        "import torch\n\nmodel = torch.export.load(FOLDER + '/model.pt2').module()\n"
        "outputs = model(torch.zeros(1, {shape}))"
    )

    def write(self, model: nn.Module, example: Tensor, path: Path) -> None:
        torch.export.save(exported(model, example), path)

    def open(self, path: Path, threads: int) -> Network:
        return torch.export.load(path).module()


def exported(model: nn.Module, example: Tensor) -> Any:
    """Return the program of a network."""
    return torch.export.export(model, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
