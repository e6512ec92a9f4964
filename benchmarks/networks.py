"""Claim: at batch 32 on a CPU, converted RepMLP-Res50s run faster than torchvision's ResNet-50 with its BN folded.

Light blocks in c3 and c4 (Table 7, g=8): at least 1.55x; bottlenecks (Table 4): at least 1.3x, both channels-last,
against ResNet-50 as torchvision lays it out (contiguous). A ResNet-50 that is made channels-last too is measured beside
them, as is the published Light network (g=4). 224 pixels, float32, two threads, A B A B in one run.

At batch 1 all weights are read for a single image, and RepMLP has more of them: each row shows its megabytes. Two
things help, and are measured there for every network, ResNet-50 too: `torch.compile` with frozen weights, which are
then laid out for the convolutions once instead of at every call, and bfloat16 weights, which are half as many bytes.
`python -m benchmarks.networks`

On a GPU (`--device cuda`) each network is replayed as a CUDA graph in float32, TF32 and bfloat16 at batch 1, 32 and
128, and ratios are to a channels-last ResNet-50 of the same precision: at least 1.5x for Light at batch 128.
"""

import copy
import json
from collections.abc import Callable
from functools import partial

import torch
import torch._inductor.config
from torch import nn

from benchmarks.timing import arguments, device_of, in_turn, ratio, spread, write_csv
from repmlp import build
from repmlp.networks import NetworkConfig
from repmlp.networks.baselines import TorchvisionNet
from repmlp.paper import LIGHT_RES50, LIGHT_RES50_G4, REPMLP_RES50
from search.measuring.runtimes.pytorch import captured
from search.measuring.switches import switches

RESNET50 = TorchvisionNet(name="resnet50")
NETWORKS: dict[str, tuple[NetworkConfig, torch.memory_format]] = {
    "resnet50": (RESNET50, torch.contiguous_format),
    "resnet50_channels_last": (RESNET50, torch.channels_last),
    "bottleneck": (REPMLP_RES50, torch.channels_last),
    "light": (LIGHT_RES50, torch.channels_last),
    "light_g4": (LIGHT_RES50_G4, torch.channels_last),
}
Forward = Callable[[], torch.Tensor]


def eager(model: nn.Module, images: torch.Tensor, layout: torch.memory_format) -> Forward:
    return partial(model, images.contiguous(memory_format=layout))


def bfloat16(model: nn.Module, images: torch.Tensor, layout: torch.memory_format) -> Forward:
    return eager(copy.deepcopy(model).bfloat16(), images.bfloat16(), layout)


def compiled(model: nn.Module, images: torch.Tensor, layout: torch.memory_format) -> Forward:
    """Return the forward pass compiled for these images, with frozen weights."""
    forward = partial(torch.compile(model, dynamic=False), images.contiguous(memory_format=layout))
    with torch._inductor.config.patch(freezing=True):
        forward()
    return forward


def measure(models: dict[str, nn.Module], batch: int, rounds: int) -> list[dict[str, object]]:
    """Time all networks in turn at one batch size; at batch 1 compiled and in bfloat16 too."""
    images = torch.randn(batch, 3, 224, 224)
    ways = {"": eager} if batch > 1 else {"": eager, "_compiled": compiled, "_bf16": bfloat16}
    layouts = {name: layout for name, (_, layout) in NETWORKS.items()}
    with torch.no_grad():
        sides = {n + end: way(m, images, layouts[n]) for end, way in ways.items() for n, m in models.items()}
        times = in_turn(sides, rounds, 0.5)
    rows: list[dict[str, object]] = []
    for name, seconds in times.items():
        speedup = ratio(times["resnet50"], seconds)
        model = models[name.removesuffix("_compiled").removesuffix("_bf16")]
        weights = sum(p.numel() for p in model.parameters()) * (2 if name.endswith("_bf16") else 4) / 1e6
        rows.append(
            {
                "network": name,
                "batch": batch,
                "images_per_s": round(batch / sorted(seconds)[len(seconds) // 2], 2),
                "speedup": round(speedup, 3),
                "weights_mb": round(weights, 1),
            }
        )
        print(f"batch {batch:2} {name:31} {spread(seconds):36} {speedup:.2f}x  {weights:.0f} MB", flush=True)
    return rows


def on_gpu(models: dict[str, nn.Module], rounds: int) -> list[dict[str, object]]:
    """Time all networks in turn, replayed as CUDA graphs, in three precisions and three batch sizes."""
    rows: list[dict[str, object]] = []
    for precision, dtype in (("float32", torch.float32), ("tf32", torch.float32), ("bfloat16", torch.bfloat16)):
        for batch in (1, 32, 128):
            sides: dict[str, Callable[[], object]] = {}
            with torch.inference_mode(), switches(tf32=precision == "tf32"):
                for name, (_, layout) in NETWORKS.items():
                    images = torch.randn(batch, 3, 224, 224, device="cuda", dtype=dtype).to(memory_format=layout)
                    run = partial(models[name].to("cuda", dtype), images)
                    for _ in range(3):
                        run()
                    sides[name] = captured(run)
                times = in_turn(sides, rounds, 0.2)
            for name, seconds in times.items():
                speedup = ratio(times["resnet50_channels_last"], seconds)
                speed = round(batch / sorted(seconds)[len(seconds) // 2], 1)
                rows.append(
                    {"network": name, "precision": precision, "batch": batch, "images_per_s": speed,
                     "speedup": round(speedup, 3)})  # fmt: skip
                print(f"{precision:8} batch {batch:3} {name:24} {spread(seconds):36} {speedup:.2f}x", flush=True)
    return rows


def main() -> None:
    given = arguments(__doc__)
    torch.manual_seed(0)
    torch.set_num_threads(2)
    models: dict[str, nn.Module] = {}
    for name, (config, layout) in NETWORKS.items():
        models[name] = build(config, deploy=True).eval().to(memory_format=layout)
    if given.device == "cuda":
        rows = on_gpu(models, 2 if given.quick else 7)
        print(write_csv("networks", rows, device_of("cuda"), "float32-tf32-bfloat16"))
        print(json.dumps({f"{r['network']}_{r['precision']}_b{r['batch']}": r["speedup"] for r in rows}))
        return
    sizes = ((2, 2),) if given.quick else ((32, 7), (1, 15))
    rows = [row for batch, rounds in sizes for row in measure(models, batch, rounds)]
    print(write_csv("networks", rows, device_of("cpu"), "float32"))
    found = {f"{r['network']}_b{r['batch']}": r["speedup"] for r in rows if r["network"] != "resnet50"}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
