"""Claim: a training step of the paper's pure MLP is much faster than with grouped convolutions in float32.

On a CPU at least 1.7x, and 2.5x where it multiplies bfloat16 in hardware; and what a study takes by itself
(`training.precision: auto`) is at least 0.95 times as fast as float32 anywhere. Batch 128, forward, backward and SGD of
the trainer, two threads, on digits of 32 pixels; the other side is the same network, contiguous, whose FC3 is a grouped
1x1 convolution. `python -m benchmarks.training_step`

On a GPU (`--device cuda`) the step is also measured replayed as a CUDA graph (`graph`) and through torch.compile
(`compiled`), as ratios to auto's.
"""

import json
import statistics
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from benchmarks.timing import arguments, device_of, in_turn, ratio, spread, write_csv
from repmlp.grouped_linear import GroupedLinear
from repmlp.networks.cifar import pure_mlp
from search.data.mnist5k import Mnist5k
from search.measuring.switches import switches
from search.training.precision import native
from search.training.trainer import Recipe, Trainer

NETWORK = replace(pure_mlp(), in_channels=1)
DATA = Mnist5k(size=32)


class GroupedConv(GroupedLinear):
    """FC3 as the public code runs it."""

    def forward(self, x: Tensor) -> Tensor:
        return conv2d(x[:, :, None, None], self.weight[:, :, None, None], self.bias, groups=self.groups)[:, :, 0, 0]


def step(device: str, fc3: type[GroupedLinear] = GroupedLinear, **recipe: object) -> Callable[[], object]:
    """Return the trainer's step on a fixed batch."""
    trainer = Trainer(NETWORK, DATA, Recipe(batch=128, learning_rate=0.01, **recipe), 0, device)  # type: ignore[arg-type]
    for module in trainer.model.modules():
        if isinstance(module, GroupedLinear):
            module.__class__ = fc3
    images, labels = next(trainer.data.batches(128, torch.Generator()))
    run = partial(trainer.step, images, labels, 0.01)
    for _ in range(8 if trainer.graphed else 1):
        run()
    if trainer.graphed and trainer.graphed.refused:
        raise SystemExit(trainer.graphed.refused)
    return run


def main() -> None:
    given = arguments(__doc__)
    device = given.device
    torch.set_num_threads(2)
    sides = {
        "grouped_conv": step(device, GroupedConv, precision="float32", channels_last=False),
        "float32": step(device, precision="float32"),
        "auto": step(device),
    }
    if device == "cuda":
        sides |= {"graph": step(device, graph="auto"), "compiled": step(device, compiled=True)}
        sides["compiled_graph"] = step(device, graph="auto", compiled=True)
        sides["channels_last"] = step(device, channels_last=True)
    with switches(tf32=False):
        times = in_turn(sides, rounds=2 if given.quick else 7, min_time=0.5)
    for side, seconds in times.items():
        print(f"{side:14} {spread(seconds)}")
    rows: list[dict[str, object]] = [
        {"side": side, "median_ms": round(1e3 * statistics.median(t), 2), "min_ms": round(1e3 * min(t), 2),
         "max_ms": round(1e3 * max(t), 2)} for side, t in times.items()]  # fmt: skip
    print(write_csv("training_step", rows, device_of(device), f"float32-{native(device)}"))
    found = {
        "precision": native(device),
        "speedup": round(ratio(times["grouped_conv"], times["auto"]), 2),
        "auto_vs_float32": round(ratio(times["float32"], times["auto"]), 2),
        "speedup_float32": round(ratio(times["grouped_conv"], times["float32"]), 2),
    }
    extra = {f"{side}_vs_auto": round(ratio(times["auto"], times[side]), 2) for side in list(times)[3:]}
    print(json.dumps(found | extra))


if __name__ == "__main__":
    main()
