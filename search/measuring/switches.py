"""PyTorch's global switches that change what a network computes or how fast, set for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.backends import cuda, cudnn


@contextmanager
def switches(tf32: bool, threads: int | None = None) -> Iterator[None]:
    """Set the switches, and restore all of them in the end.

    cuDNN takes the algorithm of its rules, not the one that is fastest at the first call, which depends on the moment.

    Args:
        tf32: whether products and convolutions of float32 may use TF32's 10 bits of mantissa on a GPU; both or neither,
            where PyTorch's default is convolutions alone.
        threads: of the CPU; None leaves them as they are.
    """
    before = cuda.matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, torch.get_num_threads()
    try:
        cuda.matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = tf32, tf32, False
        if threads is not None:
            torch.set_num_threads(threads)
        yield
    finally:
        cuda.matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = before[:3]
        torch.set_num_threads(before[3])
