"""The networks of the paper's tables, by table and row."""

from collections.abc import Mapping
from typing import Any

from repmlp.config import RepMLPBlock
from repmlp.networks import NetworkConfig
from repmlp.networks.baselines import TorchvisionNet
from repmlp.networks.cifar import TABLE_1
from repmlp.networks.mobilefacenet import MobileFaceNet
from repmlp.networks.pspnet import pspnet
from repmlp.networks.resnet import face_resnet, resnet

KERNELS_224, KERNELS_320 = ((1, 1), (3, 3), (5, 5)), ((1, 1), (3, 3), (5, 5), (7, 7))


def stage(r: int, g: int, kind: str = "bottleneck") -> Mapping[str, Any]:
    """Return a stage of the networks at 224 pixels: h=w=7, K={1, 3, 5}."""
    return {"kind": kind, "r": r, "repmlp": RepMLPBlock(partition=(7, 7), groups=g, kernels=KERNELS_224)}


def stage_320(r: int, g: int, reduction: int = 1) -> Mapping[str, Any]:
    """Return a stage of the networks at 320 pixels: h=w=10, K={1, 3, 5, 7}."""
    block = RepMLPBlock(partition=(10, 10), groups=g, kernels=KERNELS_320, reduction=reduction)
    return {"kind": "bottleneck", "r": r, "repmlp": block}


def face_stage(r: int = 2, g: int = 4) -> Mapping[str, Any]:
    """Return a stage of RepMLP-FaceRes: h=w=6; the kernels are not stated, {1, 3, 5} is assumed."""
    return {"kind": "bottleneck", "r": r, "repmlp": RepMLPBlock(partition=(6, 6), groups=g, kernels=KERNELS_224)}


REPMLP_RES50 = resnet(50, {"c3": stage(2, 8), "c4": stage(4, 8)})
LIGHT_RES50 = resnet(50, {"c3": stage(1, 8, "light"), "c4": stage(1, 8, "light")})
LIGHT_RES50_G4 = resnet(50, {"c3": stage(1, 4, "light"), "c4": stage(1, 4, "light")})
"""The Light network whose weights were published, and that of Table 7 with g=4 instead of 8."""
TABLE_3_STAGES = {"c2": stage(2, 8), "c3": stage(2, 8), "c4": stage(4, 8), "c5": stage(4, 8)}


def repmlp_res50_320(g3: int, g4: int) -> NetworkConfig:
    """Return RepMLP-Res50-g`g3`/`g4` of Table 4."""
    return resnet(50, {"c3": stage_320(2, g3), "c4": stage_320(4, g4)}, size=(320, 320))


def gc_stages() -> Mapping[str, Mapping[str, Any]]:
    return {name: {"context": "gc"} for name in ("c3", "c4", "c5")}


TABLES: dict[int, dict[str, NetworkConfig]] = {
    1: dict(TABLE_1),
    2: {
        **{f"r={r} g={g}": resnet(50, {"c4": stage(r, g)}) for r, g in ((4, 8), (4, 2), (8, 8), (2, 8))},
        "ResNet-50": resnet(50),
    },
    3: {
        names or "none": resnet(50, {name: TABLE_3_STAGES[name] for name in names.split()})
        for names in ("c2 c3 c4 c5", "c2 c3 c4", "c3 c4 c5", "c3 c4", "c3", "c4", "")
    },
    4: {
        "ResNet-50 224": TorchvisionNet(name="resnet50"),
        "ResNet-101 224": TorchvisionNet(name="resnet101"),
        "RepMLP-Res50 224": REPMLP_RES50,
        "ResNet-50 320": TorchvisionNet(name="resnet50", size=(320, 320)),
        "ResNet-101 320": TorchvisionNet(name="resnet101", size=(320, 320)),
        "RepMLP-Res50-g8/16 320": repmlp_res50_320(8, 16),
        "RepMLP-Res50-g8/8 320": repmlp_res50_320(8, 8),
        "RepMLP-Res50-g4/8 320": repmlp_res50_320(4, 8),
        "NL-Res50 320": resnet(50, {"c4": {"context": "nonlocal"}}, size=(320, 320)),
        "GC-Res50 320": resnet(50, gc_stages(), size=(320, 320)),
        "EfficientNet-B1 240": TorchvisionNet(name="efficientnet_b1", size=(240, 240)),
        "EfficientNet-B2 260": TorchvisionNet(name="efficientnet_b2", size=(260, 260)),
        "EfficientNet-B3 300": TorchvisionNet(name="efficientnet_b3", size=(300, 300)),
    },
    5: {
        "MobileFaceNet": MobileFaceNet(),
        "FaceResNet": face_resnet(),
        "RepMLP-FaceRes": face_resnet({name: face_stage() for name in ("c2", "c3", "c4")}),
    },
    6: {
        "RepMLP-Res50-g4/8": pspnet(stages={"c3": stage_320(2, 4, 4), "c4": stage_320(4, 8, 8)}),
        "ResNet-50": pspnet(),
    },
    7: {
        "original": resnet(50),
        "RepMLP Bottleneck": REPMLP_RES50,
        "RepMLP Light": LIGHT_RES50,
    },
}
"""Table 1's row A is its first row before conversion."""
