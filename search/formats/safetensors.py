"""The weights, beside which the configuration lies: what this package loads."""

from pathlib import Path

from repmlp.saved import WEIGHTS, load
from search.candidate import TOLERANCE
from search.formats import FileFormat, Network


class Safetensors(FileFormat):
    """Written with the configuration, whichever formats are asked for."""

    name, file, runtime, tolerance = "safetensors", WEIGHTS, "torch", TOLERANCE
    title = "PyTorch, with this package"
    loading = "import torch\nimport repmlp\n\nmodel = repmlp.load(FOLDER)\noutputs = model(torch.zeros(1, {shape}))"

    def open(self, path: Path, threads: int) -> Network:
        return load(path.parent)
