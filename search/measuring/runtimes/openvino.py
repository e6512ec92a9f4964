"""The exported ONNX file, run by OpenVINO on the CPU."""

from pathlib import Path
from typing import Any

from search.measuring.runtimes import MeasureError, Runner, Runtime, Subject
from search.measuring.runtimes.onnx import written


class OpenVino(Runtime):
    """OpenVINO's CPU plug-in, which keeps the file's dtype."""

    reads = "openvino"

    def written(self, subject: Subject) -> Path:
        return written(subject)

    def prepared(self, subject: Subject) -> Runner:
        if subject.point.device != "cpu":
            raise MeasureError(f"runtime=openvino runs on the CPU here, not on {subject.point.device}.")
        try:
            import openvino
        except ImportError:
            raise MeasureError("runtime=openvino needs the package openvino; pip install openvino.") from None
        core = openvino.Core()
        exact = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        model = core.read_model(subject.file)
        model.reshape({0: list(subject.images.shape)})
        compiled = core.compile_model(model, "CPU", {**exact, "INFERENCE_NUM_THREADS": subject.point.threads})
        request = compiled.create_infer_request()
        given = {0: subject.images.numpy()}

        def run() -> Any:
            return request.infer(given)

        for _ in range(2):
            run()
        return Runner(run)
