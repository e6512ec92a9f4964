"""The accuracy that a trained network keeps with 8-bit weights and activations, in the runtime that would run it."""

import copy
import tempfile
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn

from search.data import Source
from search.formats import Network, quiet
from search.formats.onnx_int8 import OnnxInt8
from search.measuring.runtimes import MeasureError
from search.training.trainer import Trainer

CALIBRATION = 512
"""Training images that a network is calibrated on."""
BATCH = 32


def calibration(source: Source, count: int = CALIBRATION) -> Tensor:
    """Return training images as they are trained on, `(N, C, H, W)` float32 on the CPU; the same ones each time."""
    batch = min(BATCH, len(source))
    batches = source.batches(batch, torch.Generator().manual_seed(0))
    return torch.cat([images.float().cpu() for images, _ in islice(batches, max(1, count // batch))])[:count]


class Session(nn.Module):
    """A network of another runtime, which runs on the CPU, where a module is wanted."""

    def __init__(self, run: Network) -> None:
        super().__init__()
        self.run = run

    def forward(self, images: Tensor) -> Tensor:
        return self.run(images.float().cpu()).to(images.device)


def accuracy_int8(trainer: Trainer, converted: nn.Module) -> float:
    """Return the accuracy of a converted network on the validation images once it is quantized, percent.

    It is quantized as `analyze.py export --format onnx-int8` does, calibrated on training images, and run by
    onnxruntime.

    Raises:
        MeasureError: if it cannot be quantized.
    """
    kind = OnnxInt8()
    with tempfile.TemporaryDirectory(prefix="repmlp-") as folder:
        path = Path(folder) / kind.file
        try:
            with quiet():
                model = (
                    copy.deepcopy(converted).to("cpu", torch.float32).eval()
                )  # which is judged after this, where it is
                kind.write(model, calibration(trainer.data), path)
        except Exception as error:  # whatever exporter and quantizer have to say of a network
            said = str(error).strip().splitlines()
            raise MeasureError(f"accuracy_int8: {said[0] if said else type(error).__name__}") from error
        session = Session(kind.open(path, torch.get_num_threads()))
    return trainer.judge(session, trainer.data.held_out()).compute()["accuracy"]
