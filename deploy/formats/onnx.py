"""An ONNX file, which ONNX Runtime loads."""

from pathlib import Path

import torch
from torch import Tensor, nn

from deploy.formats import needs
from deploy.verify import Network


class Onnx:
    """A graph with the input `images` and the output `outputs`."""

    name = "onnx"
    file = "model.onnx"
    tolerance = 1e-4
    runtime = "onnxruntime"
    title = "ONNX Runtime"
    loading = (
        "import numpy as np\nimport onnxruntime\n\nsession = onnxruntime.InferenceSession(FOLDER + '/model.onnx')\n"
        "(outputs,) = session.run(None, {{'images': np.zeros((1, {shape}), np.float32)}})"
    )

    def write(self, model: nn.Module, example: Tensor, path: Path) -> None:
        """Write the graph."""
        needs("onnx", "onnx", "onnxscript")
        torch.onnx.export(
            model,
            (example,),
            path,
            input_names=["images"],
            output_names=["outputs"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )

    def open(self, path: Path, threads: int) -> Network:
        """Return a session on the CPU."""
        needs("onnx", "onnxruntime")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
