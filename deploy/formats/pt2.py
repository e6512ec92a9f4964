"""An archive of torch.export, which PyTorch alone loads."""

from pathlib import Path

import torch
from torch import Tensor, nn

from deploy.formats import exported
from deploy.verify import Network


class Pt2:
    """A program of torch.export."""

    name = "pt2"
    file = "model.pt2"
    tolerance = 1e-4
    runtime = "torch.export"
    title = "PyTorch alone"
    loading = (
        "import torch\n\nmodel = torch.export.load(FOLDER + '/model.pt2').module()\n"
        "outputs = model(torch.zeros(1, {shape}))"
    )

    def write(self, model: nn.Module, example: Tensor, path: Path) -> None:
        """Write the program."""
        torch.export.save(exported(model, example), path)

    def open(self, path: Path, threads: int) -> Network:
        """Return the program."""
        return torch.export.load(path).module()
