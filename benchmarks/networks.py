"""Claim: at batch 32 on a CPU, converted RepMLP-Res50s run faster than torchvision's ResNet-50 with its BN folded.

Light blocks in c3 and c4 (Table 7, g=8): at least 1.55x; bottlenecks (Table 4): at least 1.3x, both channels-last,
against ResNet-50 as torchvision lays it out (contiguous). A ResNet-50 that is made channels-last too is measured beside
them, as is the published Light network (g=4). 224 pixels, float32, two threads, A B A B in one run. At batch 1 the
weights of FC1 to FC3 are read for a single image, so memory bandwidth counts: each row shows the megabytes of weights.
`python -m benchmarks.networks`
"""

import json
from functools import partial

import torch
from torch import nn

from benchmarks.timing import in_turn, ratio, spread, write_csv
from repmlp import build
from repmlp.baselines import TorchvisionNet
from repmlp.networks import NetworkConfig
from repmlp.paper import LIGHT_RES50, LIGHT_RES50_G4, REPMLP_RES50

RESNET50 = TorchvisionNet(name="resnet50")
NETWORKS: dict[str, tuple[NetworkConfig, torch.memory_format]] = {
    "resnet50": (RESNET50, torch.contiguous_format),
    "resnet50_channels_last": (RESNET50, torch.channels_last),
    "bottleneck": (REPMLP_RES50, torch.channels_last),
    "light": (LIGHT_RES50, torch.channels_last),
    "light_g4": (LIGHT_RES50_G4, torch.channels_last),
}


def measure(models: dict[str, nn.Module], batch: int, rounds: int) -> list[dict[str, object]]:
    """Time all networks in turn at one batch size."""
    x = torch.randn(batch, 3, 224, 224)
    layouts = {name: x.contiguous(memory_format=layout) for name, (_, layout) in NETWORKS.items()}
    with torch.inference_mode():
        times = in_turn({name: partial(model, layouts[name]) for name, model in models.items()}, rounds, 0.5)
    rows: list[dict[str, object]] = []
    for name, seconds in times.items():
        speedup = ratio(times["resnet50"], seconds)
        weights = sum(p.numel() * p.element_size() for p in models[name].parameters()) / 1e6
        rows.append(
            {
                "network": name,
                "batch": batch,
                "images_per_s": round(batch / sorted(seconds)[len(seconds) // 2], 2),
                "speedup": round(speedup, 3),
                "weights_mb": round(weights, 1),
            }
        )
        print(f"batch {batch:2} {name:22} {spread(seconds):36} {speedup:.2f}x  {weights:.0f} MB", flush=True)
    return rows


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(2)
    models: dict[str, nn.Module] = {}
    for name, (config, layout) in NETWORKS.items():
        models[name] = build(config, deploy=True).eval().to(memory_format=layout)
    rows = [row for batch, rounds in ((32, 7), (1, 15)) for row in measure(models, batch, rounds)]
    print(write_csv("networks", rows, "cpu2", "float32"))
    found = {f"{r['network']}_b{r['batch']}": r["speedup"] for r in rows if r["network"] != "resnet50"}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
