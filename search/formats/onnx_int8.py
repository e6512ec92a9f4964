"""ONNX files with 8-bit weights and activations, run by onnxruntime."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from search.formats import FormatError
from search.formats.onnx import Onnx

BATCH = 32
"""Images that are calibrated on at once."""


class OnnxInt8(Onnx):
    """Statically quantized, weights channel by channel; calibrated on the images that it is written with."""

    name, file, tolerance, calibrates = "onnx-int8", "model-int8.onnx", float("inf"), True
    title = "ONNX Runtime, 8 bits"
    loading = Onnx.loading.replace(Onnx.file, file)

    def write(self, model: nn.Module, example: Tensor, path: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            exact = Path(folder) / "exact.onnx"
            super().write(model, example[:2], exact)
            quantize(exact, path, example)


def quantize(exact: Path, path: Path, images: Tensor) -> None:
    """Write the quantized form of an ONNX file.

    Raises:
        FormatError: if it cannot be quantized.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Images(CalibrationDataReader):
        """Gives the images a batch at a time."""

        def __init__(self) -> None:
            self.batches: Iterator[Tensor] = iter(images.split(BATCH))

        def get_next(self) -> Any:
            batch = next(self.batches, None)
            return None if batch is None else {"images": batch.numpy()}

    try:
        ready = exact.with_name("ready.onnx")
        quant_pre_process(str(exact), str(ready))
        quantize_static(
            str(ready),
            str(path),
            Images(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    except (RuntimeError, ValueError, NotImplementedError) as error:
        raise FormatError(f"onnx-int8: {' '.join(str(error).split())}") from None
