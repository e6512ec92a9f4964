"""Claim: building the FC kernel of a convolution tap by tap is at least 5x as fast as convolving an identity matrix.

At C=128, 14x14, g=1, K=7, where peak extra memory stays within 1.5x of the kernel itself; and never slower on the
blocks of the paper. CPU, float32, two threads. `python -m benchmarks.conversion`, or `--device cuda`, without TF32,
where the memory is that of PyTorch's allocator.
"""

import json
import math
import resource
import statistics
import subprocess
import sys
import time
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from benchmarks.timing import arguments, device_of, in_turn, ratio, spread, write_csv
from repmlp.merge import conv_to_fc
from search.measuring.switches import switches

LARGE = (128, 14, 1, 7)
PAPER = [(16, 8, 2, 7), (32, 8, 2, 7), (64, 8, 2, 7), (32, 7, 8, 5), (64, 7, 8, 5), (128, 7, 8, 5), (64, 10, 4, 7),
         (64, 10, 16, 7)]  # fmt: skip
"""C, h = w, g, K: the CIFAR network, ResNet-50 c2-c5 and Light at 224, and 320."""


def through_identity(kernel: Tensor, groups: int, side: int) -> Tensor:
    """Build the kernel as the paper does (Eq. 15), a grouped identity through the convolution."""
    channels, n = kernel.shape[1] * groups, kernel.shape[1] * side * side
    identity = torch.eye(n, device=kernel.device).repeat(1, groups).view(n, channels, side, side)
    return conv2d(identity, kernel, padding=kernel.shape[2] // 2, groups=groups).view(n, -1).T.contiguous()


def kernel(shape: tuple[int, int, int, int], device: str = "cpu") -> Tensor:
    channels, _, groups, size = shape
    return torch.randn(channels, channels // groups, size, size, device=device)


def memory_ratio(device: str) -> float:
    """Return the peak memory that building the large kernel takes, over the size of the result."""
    if device == "cpu":
        command = [sys.executable, "-m", "benchmarks.conversion", "memory"]
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    weight = kernel(LARGE, device)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.max_memory_allocated()
    built = conv_to_fc(weight, (LARGE[1], LARGE[1]))
    return (torch.cuda.max_memory_allocated() - before) / (built.numel() * built.element_size())


def peak_memory(shape: tuple[int, int, int, int]) -> float:
    """Return the peak memory that building takes over the size of the result; run in a process of its own."""
    weight = kernel(shape)
    conv_to_fc(kernel((8, 4, 1, 3)), (4, 4))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    built = conv_to_fc(weight, (shape[1], shape[1]))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (after - before) * 1024 / (built.numel() * built.element_size())


def large(device: str) -> tuple[float, float, float]:
    """Return seconds of the direct way (median of 3) and of the identity way (once), and their ratio."""
    weight, direct = kernel(LARGE, device), []

    def now() -> float:
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    for _ in range(3):
        start = now()
        built = conv_to_fc(weight, (LARGE[1], LARGE[1]))
        direct.append(now() - start)
    start = now()
    other = through_identity(weight, LARGE[2], LARGE[1])
    identity = now() - start
    torch.testing.assert_close(built[::97], other[::97])
    return sorted(direct)[1], identity, identity / sorted(direct)[1]


def main() -> None:
    if sys.argv[1:] == ["memory"]:
        torch.set_num_threads(2)
        print(peak_memory(LARGE))
        return
    given = arguments(__doc__)
    torch.manual_seed(0)
    with switches(tf32=False, threads=2):
        measure(given.device, given.quick)


def measure(device: str, quick: bool) -> None:
    """Print and write all figures."""
    memory = memory_ratio(device)
    direct, identity, speedup = large(device)
    print(f"C=128 14x14 g=1 K=7: direct {direct:.2f} s, identity {identity:.2f} s, {speedup:.1f}x")
    rows: list[dict[str, object]] = []
    ratios = []
    for shape in PAPER:
        channels, side, groups, size = shape
        weight = kernel(shape, device)
        times = in_turn(
            {
                "direct": partial(conv_to_fc, weight, (side, side)),
                "identity": partial(through_identity, weight, groups, side),
            },
            rounds=2 if quick else 5,
        )
        ratios.append(ratio(times["identity"], times["direct"]))
        name = f"C={channels} {side}x{side} g={groups} K={size}"
        print(
            f"{name:22} direct {spread(times['direct']):28} identity {spread(times['identity']):28} {ratios[-1]:6.1f}x"
        )
        rows.append({"shape": name, **{f"{k}_ms": round(1e3 * statistics.median(t), 3) for k, t in times.items()}})
    rows.append(
        {"shape": "C=128 14x14 g=1 K=7", "direct_ms": round(1e3 * direct), "identity_ms": round(1e3 * identity)}
    )
    print(write_csv("conversion", rows, device_of(device), "float32"))
    geomean = math.exp(sum(map(math.log, ratios)) / len(ratios))
    print(f"geometric mean over the paper's blocks: {geomean:.1f}x")
    print(json.dumps({"speedup": round(speedup, 1), "worst": round(min(ratios), 2), "memory_ratio": round(memory, 3)}))


if __name__ == "__main__":
    main()
