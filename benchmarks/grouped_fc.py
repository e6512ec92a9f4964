"""Claim: FC3 as a batched product is at least 5x as fast as the grouped 1x1 convolution that the public code uses.

Geometric mean over the FC3 shapes of the CIFAR network, of c2-c5 of RepMLP-ResNet-50 at 224 pixels (r = 2, 4;
g = 4, 8) and of the three networks of Table 4 at 320 (h = w = 10); never less than 1.5x. It also reaches at least 70 %
of the speed of one dense product with as many multiply-adds, inputs and weights: C*h*w features to C*h*w/g.
Both sides take partitions in the layout they are cut into and leave the output in the layout they make, since the block
puts the map together from either with one copy. CPU, float32, two threads, inference, 32 images.
`python -m benchmarks.grouped_fc`, or `--device cuda`, without TF32
"""

import json
import math

import torch
from torch.nn.functional import conv2d

from benchmarks.timing import arguments, device_of, in_turn, ratio, spread, write_csv
from repmlp.grouped_linear import GroupedLinear
from search.measuring.switches import switches

Shape = tuple[str, int, int, int, int]
IMAGES = 32


def shapes() -> list[Shape]:
    """Return (name, C, g, positions of a partition, rows): rows are partitions times images."""
    cifar = [(f"CIFAR C={c}", c, 2, 8 * 8, IMAGES * p) for c, p in ((16, 16), (32, 4), (64, 1))]
    stages = (("c2", 64, 8), ("c3", 128, 4), ("c4", 256, 2), ("c5", 512, 1))
    at_224 = [
        (f"224 {stage} r={r} g={g}", width // r, g, 7 * 7, IMAGES * grid**2)
        for stage, width, grid in stages
        for r in (2, 4)
        for g in (4, 8)
    ]
    at_320 = [(f"320 c3 r=2 g={g}", 64, g, 10 * 10, IMAGES * 16) for g in (4, 8)]
    at_320 += [(f"320 c4 r=4 g={g}", 64, g, 10 * 10, IMAGES * 4) for g in (8, 16)]
    return cifar + at_224 + at_320


def compare(shape: Shape, device: str, rounds: int) -> dict[str, object]:
    """Time one shape: built, grouped convolution, and a dense product of the same work."""
    name, channels, groups, positions, rows = shape
    features = channels * positions
    layer = GroupedLinear(features, features, groups).eval().to(device)
    x = torch.randn(rows, features, device=device)
    split = x.view(rows, groups, -1).transpose(0, 1).contiguous()
    image, kernel = x.view(rows, features, 1, 1), layer.weight.detach().view(features, -1, 1, 1)
    bias = layer.state_dict()["bias"]
    n = features // groups
    dense = torch.randn(features, n, device=device)
    with torch.inference_mode():
        times = in_turn(
            {
                "built": lambda: layer.by_group(split),
                "grouped_conv": lambda: conv2d(image, kernel, bias, groups=groups),
                "dense": lambda: torch.mm(x, dense),
            },
            rounds=rounds,
            min_time=0.05,
        )
    row = {
        "shape": name,
        "rows": rows,
        "features": features,
        "groups": groups,
        **{f"{side}_ms": round(1e3 * sorted(t)[len(t) // 2], 4) for side, t in times.items()},
        "speedup": round(ratio(times["grouped_conv"], times["built"]), 2),
        "dense_share": round(ratio(times["dense"], times["built"]), 3),
    }
    share = ratio(times["dense"], times["built"])
    shown = f"conv {spread(times['grouped_conv']):28} built {spread(times['built']):28}"
    print(f"{name:16} {shown} {row['speedup']:6.1f}x  {100 * share:.0f} % of dense", flush=True)
    return row


def main() -> None:
    given = arguments(__doc__)
    torch.manual_seed(0)
    with switches(tf32=False, threads=2):
        chosen = shapes()[::8] if given.quick else shapes()
        rows = [compare(shape, given.device, 2 if given.quick else 7) for shape in chosen]
    speedups = [float(str(r["speedup"])) for r in rows]
    shares = [float(str(r["dense_share"])) for r in rows]
    print(write_csv("grouped_fc", rows, device_of(given.device), "float32"))
    print(
        json.dumps(
            {
                "geomean": round(math.exp(sum(map(math.log, speedups)) / len(speedups)), 2),
                "worst": min(speedups),
                "dense_share": round(math.exp(sum(map(math.log, shares)) / len(shares)), 3),
            }
        )
    )


if __name__ == "__main__":
    main()
