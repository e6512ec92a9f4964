"""The weights, beside which the configuration lies: what this package loads."""

from pathlib import Path

from repmlp.saved import WEIGHTS, load
from search.candidate import TOLERANCE
from search.formats import FileFormat, Network


class Safetensors(FileFormat):
    """Written with the configuration, whichever formats are asked for."""

    name, file, runtime, tolerance = "safetensors", WEIGHTS, "torch", TOLERANCE
    title = "PyTorch, with this package"
    whole = False
    loading = (
        "import torch\nimport repmlp\n\nnetwork = repmlp.load(FOLDER)\n\n\n"
        "def model(images):\n    return network(torch.from_numpy(images)).detach().numpy()"
    )

    def open(self, path: Path, threads: int) -> Network:
        return load(path.parent)
