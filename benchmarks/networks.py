"""Claim: at batch 32 on a CPU, converted RepMLP-Res50s run faster than torchvision's ResNet-50 with its BN folded.

Light blocks in c3 and c4 (Table 7, g=8): at least 1.55x; bottlenecks (Table 4): at least 1.3x; 224 pixels, float32, two
threads, A B A B in one run. The published Light network (g=4) is measured beside them. At batch 1 the weights of FC1 to
FC3 are read once for a single image, so memory bandwidth decides: each row shows the megabytes of weights besides.
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

NETWORKS: dict[str, NetworkConfig] = {
    "resnet50": TorchvisionNet(name="resnet50"),
    "bottleneck": REPMLP_RES50,
    "light": LIGHT_RES50,
    "light_g4": LIGHT_RES50_G4,
}


def measure(models: dict[str, nn.Module], batch: int, rounds: int) -> list[dict[str, object]]:
    """Time all networks in turn at one batch size."""
    x = torch.randn(batch, 3, 224, 224)
    with torch.inference_mode():
        times = in_turn({name: partial(model, x) for name, model in models.items()}, rounds, 0.5)
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
        print(f"batch {batch:2} {name:11} {spread(seconds):36} {speedup:.2f}x  {weights:.0f} MB", flush=True)
    return rows


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(2)
    models = {name: build(config, deploy=True).eval() for name, config in NETWORKS.items()}
    rows = [row for batch, rounds in ((32, 7), (1, 15)) for row in measure(models, batch, rounds)]
    print(write_csv("networks", rows, "cpu2", "float32"))
    found = {f"{r['network']}_b{r['batch']}": r["speedup"] for r in rows if r["network"] != "resnet50"}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
