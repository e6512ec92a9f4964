"""The exported ONNX file, run by onnxruntime: on the CPU, on a GPU, or by TensorRT."""

from pathlib import Path
from typing import Any, ClassVar

import torch

from search.formats import FormatError, quiet
from search.formats.onnx import Onnx
from search.formats.onnx_int8 import OnnxInt8
from search.measuring.runtimes import MeasureError, Runner, Runtime, Subject

CALIBRATION = 32
"""Random images that a file is calibrated on for a measurement."""


class OnnxRuntime(Runtime):
    """onnxruntime on the point's device."""

    providers: ClassVar[dict[str, str]] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
    reads = "onnxruntime"

    def written(self, subject: Subject) -> Path:
        return written(subject)

    def prepared(self, subject: Subject) -> Runner:
        path = subject.file
        import onnxruntime

        wanted = self.providers[str(subject.point.device)]
        if wanted not in onnxruntime.get_available_providers():
            raise MeasureError(f"onnxruntime has no {wanted} here; install onnxruntime-gpu, or use device=cpu.")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = subject.point.threads
        session = onnxruntime.InferenceSession(path, options, providers=[wanted])
        if session.get_providers()[0] != wanted:
            raise MeasureError(f"onnxruntime cannot load {wanted}: its libraries are missing.")
        given = {"images": subject.images.numpy()}

        def run() -> Any:
            return session.run(None, given)

        for _ in range(2):
            run()
        return Runner(run)


class TensorRT(OnnxRuntime):
    """TensorRT, through onnxruntime's provider."""

    providers: ClassVar[dict[str, str]] = {"cuda": "TensorrtExecutionProvider"}


def written(subject: Subject) -> Path:
    """Write the ONNX file of a point's dtype; an int8 one is calibrated on random images.

    Raises:
        MeasureError: if it cannot be written here.
    """
    kind = OnnxInt8() if subject.point.dtype == "int8" else Onnx()
    path = subject.folder / kind.file
    if path.exists():
        return path
    generator = torch.Generator().manual_seed(1)
    example = torch.randn(CALIBRATION if kind.calibrates else 2, *subject.shape, generator=generator)
    try:
        with quiet():
            kind.write(subject.model.to("cpu", torch.float32).eval(), example, path)
    except FormatError as error:
        raise MeasureError(str(error)) from None
    except Exception as error:  # whatever the exporter has to say of a network
        said = str(error).strip().splitlines()
        raise MeasureError(f"the network cannot be exported: {said[0] if said else type(error).__name__}") from error
    return path
