"""ONNX files, run by onnxruntime."""

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from search.formats import FileFormat, FormatError, Network


class Onnx(FileFormat):
    """With the input `images` and the output `outputs`, for batches of any size."""

    name, file, runtime = "onnx", "model.onnx", "onnxruntime"
    title = "ONNX Runtime"
    loading = (
        "import numpy as np\nimport onnxruntime\n\nsession = onnxruntime.InferenceSession(FOLDER + '/model.onnx')\n"
        "(outputs,) = session.run(None, {{'images': np.zeros((1, {shape}), np.float32)}})"
    )

    def write(self, model: nn.Module, example: Tensor, path: Path) -> None:
        missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
        if missing:
            raise FormatError(
                f"onnx needs the package {missing[0]}; pip install 'repmlp-search[export]', or leave onnx out of "
                "--format."
            )
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
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
