"""Archives of torch.export."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from search.formats import FileFormat, Network
from search.formats.served import words_of


class Pt2(FileFormat):
    """The program of a network, for batches of any size."""

    name, file, runtime = "pt2", "model.pt2", "torch.export"
    title = "PyTorch alone"
    loading = (
        "import torch\n\nprogram = torch.export.load(FOLDER + '/model.pt2').module()\n\n\n"
        "def model(images):\n    return program(torch.from_numpy(images)).detach().numpy()"
    )

    def write(self, model: nn.Module, example: Tensor, path: Path) -> None:
        torch.export.save(exported(model, example), path, extra_files={"metadata.json": json.dumps(words_of(model))})

    def open(self, path: Path, threads: int) -> Network:
        return torch.export.load(path).module()


def exported(model: nn.Module, example: Tensor) -> Any:
    """Return the program of a network, without where on this machine each of its nodes comes from."""
    program = torch.export.export(model, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    for module in program.graph_module.modules():
        for node in getattr(getattr(module, "graph", None), "nodes", ()):
            node.meta.pop("stack_trace", None)
    return program
