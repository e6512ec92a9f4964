"""Speed of the paper's converted networks against ResNet-50, which Tables 2-7 print for a 1080Ti.

Every network is timed in turn with its reference at the same batch: torchvision's ResNet-50 at 224 pixels with its BN
folded, in Table 5 FaceResNet and in Table 6 PSPNet over ResNet-50. Networks with equal converted forms are measured
once; a reference is measured against itself, which shows the noise. CPU, float32, two threads, fresh weights.
`python -m benchmarks.paper_speed [--batch 8] [--tables 2 3]`; tables that are not measured keep their rows.
`python analyze.py paper` shows the ratios beside the paper's.
"""

import argparse
import json
import platform
import statistics
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch

from benchmarks.timing import in_turn, ratio
from repmlp import build, deploy_id
from repmlp.networks import NetworkConfig
from repmlp.paper import TABLES

THREADS = 2
REFERENCES = {5: TABLES[5]["FaceResNet"], 6: TABLES[6]["ResNet-50"]}
RESNET50 = TABLES[4]["ResNet-50 224"]
FOLDER = Path(__file__).parents[1] / "results" / "measured"


def forward(config: NetworkConfig, batch: int) -> Callable[[], object]:
    """Return a forward pass of the converted network on a fixed batch."""
    model = build(config, deploy=True).eval()
    images = torch.randn(batch, config.in_channels, *config.size)
    return lambda: model(images)


def speed(network: Callable[[], object], reference: Callable[[], object], batch: int, rounds: int) -> dict[str, object]:
    """Return images/s of a network and the median and range of its ratio to the reference, round by round."""
    with torch.inference_mode():
        times = in_turn({"reference": reference, "network": network}, rounds)
    ratios = [r / n for r, n in zip(times["reference"], times["network"], strict=True)]
    return {
        "batch": batch,
        "images_per_s": round(batch / statistics.median(times["network"]), 3),
        "ratio": round(ratio(times["reference"], times["network"]), 3),
        "ratio_low": round(min(ratios), 3),
        "ratio_high": round(max(ratios), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=8, help="images; always 1 in Table 6")
    parser.add_argument("--tables", type=int, nargs="+", choices=range(2, 8), default=range(2, 8), metavar="N")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(THREADS)
    device, dtype, version = f"cpu{THREADS}-{platform.machine()}", "float32", torch.__version__.split("+")[0]
    rows: list[dict[str, object]] = []
    done: dict[tuple[str, str], dict[str, object]] = {}
    for number in arguments.tables:
        reference = REFERENCES.get(number, RESNET50)
        batch, rounds = (1, 2) if number == 6 else (arguments.batch, 3)
        timed = forward(reference, batch)
        for row, config in TABLES[number].items():
            pair = deploy_id(config), deploy_id(reference)
            if pair not in done:
                done[pair] = speed(forward(config, batch), timed, batch, rounds)
            rows.append({"table": number, "row": row, **done[pair], "device": device, "dtype": dtype, "torch": version})
            print(number, row, done[pair], flush=True)
    measured = pd.DataFrame(rows)
    path = FOLDER / f"paper_speed-{device}-{dtype}-torch{version}.csv"
    if path.exists():
        before = pd.read_csv(path)
        measured = pd.concat([before[~before["table"].isin(arguments.tables)], measured]).sort_values(
            "table", kind="stable"
        )
    measured.to_csv(path, index=False)
    print(path)
    print(json.dumps({f"{r['table']} {r['row']}": r["ratio"] for r in rows}))


if __name__ == "__main__":
    main()
