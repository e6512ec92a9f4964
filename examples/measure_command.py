"""A program that times an exported ONNX file, as `runtime: command` of a measurement point starts one.

Here it runs onnxruntime in a process of its own; over ssh or adb the same few lines time a board or a phone:

    measure:
      board:
        batch: 1
        runtime: command
        device: board
        command: scp -q {file} pi@board:m.onnx && ssh pi@board python measure_command.py m.onnx {samples} {batch}
        timeout: 120
        retries: 2
"""

import json
import sys
import time

import numpy as np
import onnxruntime


def main(file: str, samples: int, batch: int) -> list[float]:
    """Return the seconds of each of so many batches, after a warm-up."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    (images,) = session.get_inputs()
    given = {images.name: np.random.default_rng(0).standard_normal((batch, *images.shape[1:]), dtype=np.float32)}
    seconds = []
    for _ in range(samples + 3):
        start = time.perf_counter()
        session.run(None, given)
        seconds.append(time.perf_counter() - start)
    return seconds[3:]


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
