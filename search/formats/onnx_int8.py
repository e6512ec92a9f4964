"""ONNX files with 8-bit weights and activations, run by onnxruntime."""

import copy
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from search.formats import FormatError
from search.formats.onnx import Onnx

BATCH = 8
"""Images at a time of which all activations are held."""
STEPS = 255
BINS = 2048
"""Of the histogram of an activation."""
SHRUNK = torch.linspace(0.02, 1, 197, dtype=torch.float64)
"""Ranges that are tried, as shares of the whole."""
POWERS = 1.0, 1.5, 2.0
"""Of errors, whose least mean makes a range: the larger, the more a rare large value counts. No one is best for all
networks (`results/measured/int8.md`)."""
Range = tuple[float, float]
Histogram = tuple[Tensor, Tensor]
"""Counts and edges, see `least_error`."""


class OnnxInt8(Onnx):
    """Statically quantized, weights channel by channel; calibrated on the images that it is written with.

    The ranges of activations are those that `nearest` takes.
    """

    name, file, tolerance, calibrates = "onnx-int8", "model-int8.onnx", float("inf"), True
    title = "ONNX Runtime, 8 bits"
    loading = Onnx.loading.replace(Onnx.file, file)

    def write(self, model: nn.Module, example: Tensor, path: Path) -> None:
        with tempfile.TemporaryDirectory() as folder:
            exact = Path(folder) / "exact.onnx"
            super().write(model, example[:2], exact)
            ready = prepared(exact)
            nearest(ready, path, histograms(ready, example), example)


def prepared(exact: Path) -> Any:
    """Return the model of an ONNX file as it can be quantized.

    Raises:
        FormatError: if it cannot be.
    """
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    ready = exact.with_name("ready.onnx")
    try:
        quant_pre_process(str(exact), str(ready))
    except (RuntimeError, ValueError, NotImplementedError) as error:
        raise FormatError(f"onnx-int8: {' '.join(str(error).split())}") from None
    model = onnx.load(ready)
    part_groups(model.graph)
    return onnx.shape_inference.infer_shapes(model)


def least_error(counts: Tensor, edges: Tensor, power: float = 1.0) -> Range:
    """Return the share of the whole range of which 255 steps have the least mean of a power of the absolute error.

    Rare large values would take the steps of all others; those beyond the range are clipped to it.

    Args:
        counts: `(B,)`, how many values are in each bin.
        edges: `(B + 1,)`, of the bins; 0 is within.
        power: of the error.
    """
    values = (edges[1:] + edges[:-1]) / 2
    lows, highs = SHRUNK[:, None] * edges[0], SHRUNK[:, None] * edges[-1]
    clipped = (values - values.clamp(lows, highs)).abs() ** power
    rounded = ((highs - lows) / STEPS / 2) ** power / (power + 1)
    errors = torch.where(clipped > 0, clipped, rounded)
    best = int((counts * errors).sum(1).argmin())
    return float(lows[best]), float(highs[best])


def nearest(model: Any, path: Path, seen: Mapping[str, Histogram], images: Tensor) -> None:
    """Write the quantized form of a model by each of `POWERS`; the one stays whose outputs have the nearest directions.

    Outputs are compared by their cosines with those of float32 for the images, which suits logits, embeddings and maps.

    Args:
        model: as `prepared`.
        path: to write.
        seen: its `histograms`.
        images: `(N, C, H, W)` float32.
    """
    wanted = outputs(model.SerializeToString(), images)
    tried = {power: path.with_name(f"{power}-{path.name}") for power in POWERS}
    cosines = {}
    for power, file in tried.items():
        quantize(model, file, ranges(seen, power))
        cosines[power] = float(torch.cosine_similarity(outputs(str(file), images), wanted, dim=1).mean())
    tried.pop(max(cosines, key=cosines.__getitem__)).replace(path)
    for file in tried.values():
        file.unlink()


def outputs(model: bytes | str, images: Tensor) -> Tensor:
    """Return the outputs of a model, given whole or as a path, for images."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0].name
    return torch.cat([torch.from_numpy(session.run(None, {given: b.numpy()})[0]) for b in images.split(BATCH)])


def ranges(seen: Mapping[str, Histogram], power: float) -> dict[str, Range]:
    """Return the range that 8 bits cover of each activation of a model."""
    return {name: least_error(*found, power) for name, found in seen.items()}


def histograms(model: Any, images: Tensor) -> dict[str, Histogram]:
    """Return counts and edges of the values of each activation of a model, see `least_error`."""
    low: dict[str, float] = {}
    high: dict[str, float] = {}
    for name, values in activations(model, images):
        low[name] = min(low.get(name, 0.0), float(values.min()))
        high[name] = max(high.get(name, 0.0), float(values.max()))
    counts = {name: torch.zeros(BINS, dtype=torch.float64) for name in low}
    for name, values in activations(model, images):
        if high[name] > low[name]:
            counts[name] += torch.histc(values, BINS, low[name], high[name])
    return {n: (found, torch.linspace(low[n], high[n], BINS + 1, dtype=torch.float64)) for n, found in counts.items()}


def activations(model: Any, images: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield for some images at a time the name and all values of each float tensor of a model."""
    import onnx
    import onnxruntime

    float32 = onnx.TensorProto.FLOAT
    given = {value.name for value in model.graph.input}
    kinds = {v.name: v.type.tensor_type.elem_type for v in (*model.graph.value_info, *model.graph.output)}
    made = [name for node in model.graph.node for name in node.output if kinds.get(name, float32) == float32]
    seen = copy.deepcopy(model)
    del seen.graph.output[:]
    seen.graph.output.extend(onnx.ValueInfoProto(name=name) for name in made)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(seen.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for batch in images.split(BATCH):
        yield from ((name, batch.float()) for name in given)
        found = session.run(made, {"images": batch.numpy()})
        yield from ((name, torch.from_numpy(values)) for name, values in zip(made, found, strict=True))


def quantize(model: Any, path: Path, known: Mapping[str, Range], per_channel: bool = True) -> None:
    """Write the quantized form of a model.

    Args:
        model: as `prepared`; it is left as it is.
        path: to write.
        known: range of each activation.
        per_channel: whether each output channel of a layer has a scale of its own.

    Raises:
        FormatError: if it cannot be quantized.
    """
    import numpy as np
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    data = {n: TensorData(lowest=np.float32(low), highest=np.float32(high)) for n, (low, high) in known.items()}
    try:
        quantizer = QDQQuantizer(
            copy.deepcopy(model),
            per_channel=per_channel,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=TensorsData(CalibrationMethod.MinMax, data),
            nodes_to_quantize=[],
            nodes_to_exclude=[],
            op_types_to_quantize=sorted({*QDQRegistry, *QLinearOpsRegistry}),
            extra_options={},
        )
        quantizer.quantize_model()
    except (RuntimeError, ValueError, NotImplementedError) as error:
        raise FormatError(f"onnx-int8: {' '.join(str(error).split())}") from None
    quantizer.model.save_model_to_file(str(path), False)


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
