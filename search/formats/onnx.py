"""ONNX files, run by onnxruntime."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from search.formats import FileFormat, FormatError, Network
from search.formats.served import words_of

LARGEST = 1_900_000_000
"""Bytes of weights that one file holds; those of more, which Protobuf cannot hold, lie in a file beside it."""


class Onnx(FileFormat):
    """With the input `images` and the output `outputs`, for batches of any size, and metadata."""

    name, file, runtime = "onnx", "model.onnx", "onnxruntime"
    title = "ONNX Runtime"
    loading = (
        "import onnxruntime\n\nsession = onnxruntime.InferenceSession(FOLDER + '/model.onnx')\n\n\n"
        "def model(images):\n    return session.run(None, {'images': images})[0]"
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
            external_data=sum(p.numel() * p.element_size() for p in model.parameters()) > LARGEST,
            verbose=False,
        )
        described(path, words_of(model))

    def open(self, path: Path, threads: int) -> Network:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


def described(path: Path, words: Mapping[str, str]) -> None:
    """Give an ONNX file metadata, and take from it where on this machine each of its nodes comes from."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    for part in (model.graph, *model.functions):
        for node in (part, *part.node, *(getattr(part, "value_info", ()))):
            node.ClearField("metadata_props")
            node.ClearField("doc_string")
    onnx.helper.set_model_props(model, dict(words))
    onnx.save(model, path)
