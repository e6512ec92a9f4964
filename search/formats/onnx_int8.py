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
PERCENTILE = 99.99
"""Of activations that 8 bits cover: the rare largest ones would take the steps of all others."""


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
    import onnx
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Images(CalibrationDataReader):
        """Gives the images a batch at a time."""

        def __init__(self) -> None:
            self.batches: Iterator[Tensor] = iter(images.split(BATCH))

        def get_next(self) -> Any:
            batch = next(self.batches, None)
            return None if batch is None else {"images": batch.numpy()}

    ready = exact.with_name("ready.onnx")
    try:
        quant_pre_process(str(exact), str(ready))
        model = onnx.load(ready)
        part_groups(model.graph)
        quantize_static(
            model,
            str(path),
            Images(),
            calibrate_method=CalibrationMethod.Percentile,
            extra_options={"CalibPercentile": PERCENTILE},
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    except (RuntimeError, ValueError, NotImplementedError) as error:
        raise FormatError(f"onnx-int8: {' '.join(str(error).split())}") from None


def part_groups(graph: Any) -> None:
    """Make each product by a constant of `(g, K, N)`, a grouped FC3, one by `(K, N)` for each group.

    Only these have 8-bit kernels in onnxruntime; batched ones are computed in float32 from 8-bit weights.
    """
    from onnx import helper, numpy_helper

    constants = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[Any] = []
    used: set[str] = set()
    for node in graph.node:
        weights = constants.get(node.input[1]) if node.op_type == "MatMul" else None
        if weights is None or len(weights.dims) != 3:
            nodes.append(node)
            continue
        groups, name, used = weights.dims[0], node.output[0], used | {weights.name}
        parts, products = ([f"{name}_{what}{group}" for group in range(groups)] for what in ("in", "out"))
        nodes.append(helper.make_node("Split", [node.input[0]], parts, axis=0, num_outputs=groups))
        for group, matrix in enumerate(numpy_helper.to_array(weights)):
            graph.initializer.append(numpy_helper.from_array(matrix.copy(), f"{name}_weight{group}"))
            nodes.append(helper.make_node("MatMul", [parts[group], f"{name}_weight{group}"], [products[group]]))
        nodes.append(helper.make_node("Concat", products, [name], axis=0))
    kept = [tensor for tensor in graph.initializer if tensor.name not in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept)
