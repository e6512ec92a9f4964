"""The paper's networks of Tables 2-4 as parameters of the spaces over ResNets, to start a search with."""

from collections.abc import Mapping
from typing import Any

Params = Mapping[str, Any]


def stage(name: str, r: int, groups: int, partition: int = 7, kernels: tuple[int, ...] = (1, 3, 5)) -> dict[str, Any]:
    """Return a stage of RepMLP Bottlenecks."""
    block = {"kind": "bottleneck", "r": r, "partition": partition, "groups": groups, "kernels": kernels}
    return {f"{name}.{key}": value for key, value in block.items()}


def stages_320(groups_c3: int, groups_c4: int) -> dict[str, Any]:
    """Return c3 and c4 of Table 4's networks for 320 pixels."""
    kernels = (1, 3, 5, 7)
    return {**stage("c3", 2, groups_c3, 10, kernels), **stage("c4", 4, groups_c4, 10, kernels)}


TABLE_3 = {"c2": stage("c2", 2, 8), "c3": stage("c3", 2, 8), "c4": stage("c4", 4, 8), "c5": stage("c5", 4, 8)}

PAPER: dict[str, Params] = {
    "ResNet-50": {},
    **{f"Table 2, r={r} g={g}": stage("c4", r, g) for r, g in ((4, 8), (4, 2), (8, 8), (2, 8))},
    **{
        f"Table 3, {names}": {k: v for name in names.split() for k, v in TABLE_3[name].items()}
        for names in ("c2 c3 c4 c5", "c2 c3 c4", "c3 c4 c5", "c3 c4", "c3")
    },
    **{f"Table 4, g{a}/{b} at 320": stages_320(a, b) for a, b in ((8, 16), (8, 8), (4, 8))},
}
"""Stages that are not named are plain."""
