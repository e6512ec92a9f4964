"""Claim: a training step of the paper's pure MLP is at least 2.5x as fast as with grouped convolutions in float32.

Batch 128, CPU, two threads, forward, backward and SGD. Ours in bf16 (`speedup`) and in float32 (`speedup_float32`),
against the same network whose FC3 is a grouped 1x1 convolution. `python -m benchmarks.training_step`
"""

import json
import statistics
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import conv2d, cross_entropy

from benchmarks.timing import in_turn, ratio, spread, write_csv
from repmlp import build
from repmlp.cifar import pure_mlp
from repmlp.grouped_linear import GroupedLinear


class GroupedConv(GroupedLinear):
    """FC3 as the public code runs it."""

    def forward(self, x: Tensor) -> Tensor:
        return conv2d(x[:, :, None, None], self.weight[:, :, None, None], self.bias, groups=self.groups)[:, :, 0, 0]


def step(fc3: type[GroupedLinear], bf16: bool) -> Callable[[], None]:
    """Return one training step on a fixed batch."""
    torch.manual_seed(0)
    model = build(pure_mlp())
    for module in model.modules():
        if isinstance(module, GroupedLinear):
            module.__class__ = fc3
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    images, labels = torch.randn(128, 3, 32, 32), torch.randint(10, (128,))

    def run() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return run


def main() -> None:
    torch.set_num_threads(2)
    times = in_turn(
        {
            "grouped_conv": step(GroupedConv, False),
            "float32": step(GroupedLinear, False),
            "bf16": step(GroupedLinear, True),
        },
        rounds=5,
        min_time=0.5,
    )
    for side, seconds in times.items():
        print(f"{side:12} {spread(seconds)}")
    rows: list[dict[str, object]] = [
        {"side": side, "median_ms": round(1e3 * statistics.median(t), 1), "min_ms": round(1e3 * min(t), 1),
         "max_ms": round(1e3 * max(t), 1)} for side, t in times.items()]  # fmt: skip
    print(write_csv("training_step", rows, "cpu2", "float32-bf16"))
    print(
        json.dumps(
            {
                "speedup": round(ratio(times["grouped_conv"], times["bf16"]), 2),
                "speedup_float32": round(ratio(times["grouped_conv"], times["float32"]), 2),
            }
        )
    )


if __name__ == "__main__":
    main()
