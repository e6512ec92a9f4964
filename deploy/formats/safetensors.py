"""Weights beside the configuration, which this package loads."""

from pathlib import Path

from torch import Tensor, nn

from deploy.verify import Network
from repmlp.saved import WEIGHTS, load


class Safetensors:
    """A folder with the converted weights; they are written with the configuration, by `repmlp.saved.save`."""

    name = "safetensors"
    file = WEIGHTS
    tolerance = 1e-5
    runtime = "torch"
    title = "PyTorch, with this package"
    loading = "import torch\nimport repmlp\n\nmodel = repmlp.load(FOLDER)\noutputs = model(torch.zeros(1, {shape}))"

    def write(self, model: nn.Module, example: Tensor, path: Path) -> None:
        """Nothing: it is there."""

    def open(self, path: Path, threads: int) -> Network:
        """Return the network of the folder that the weights are in."""
        return load(path.parent)
