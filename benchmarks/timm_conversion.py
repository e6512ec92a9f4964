"""Claim: converted timm networks compute what the trained ones do, to 1e-10 in float64, in every family tried.

Each has random weights and BN statistics; errors are the largest difference of outputs, relative to the largest output.
`timm` is its own `reparameterize_model`, in float32 and, where it can be run so, in float64; `convert` is ours, which
also folds the BN that timm leaves. `python -m benchmarks.timm_conversion > results/measured/timm_conversion.md`
"""

import argparse
import copy
from collections.abc import Callable

import pandas as pd
import timm
import torch
from timm.utils import reparameterize_model
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from repmlp import convert
from repmlp.networks.timm_net import TimmNet

FAMILIES = (
    "repvgg_a0", "mobileone_s0", "fastvit_t8", "repvit_m0_9", "repghostnet_050", "levit_128s", "efficientvit_m0",
    "efficientvit_b0", "mixer_s32_224", "resmlp_12_224", "gmlp_ti16_224", "tiny_vit_5m_224", "mobilenetv3_small_050",
    "mobilenetv4_conv_small", "efficientnet_b0", "regnety_002", "shvit_s1", "starnet_s1", "swiftformer_xs",
    "hgnetv2_b0", "mobilevitv2_050", "convmixer_768_32", "ghostnetv3_050", "convnext_atto", "vit_tiny_patch16_224",
    "resnet18",
)  # fmt: skip
SIDE = 64
Conversion = Callable[[nn.Module], nn.Module]


def lived_in(name: str) -> nn.Module:
    """Return a network of random weights and statistics, as trained ones have, in float64."""
    torch.manual_seed(0)
    model = TimmNet(model=name, size=(SIDE, SIDE), classes=10).build().double().eval()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, 0, 0.05)
    return model


def error(model: nn.Module, converted: Conversion, images: Tensor) -> str:
    """Return the relative error of a conversion, or why there is none."""
    expected = model(images)
    try:
        found = converted(copy.deepcopy(model))(images)
    except Exception as failure:  # of timm's own code
        return type(failure).__name__
    return f"{float((found - expected).abs().max() / expected.abs().max()):.0e}"


def batch_norms(model: nn.Module) -> int:
    return sum(isinstance(module, _BatchNorm) for module in model.modules())


@torch.inference_mode()
def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    rows = []
    for name in FAMILIES:
        model, images = lived_in(name), torch.randn(2, 3, SIDE, SIDE, dtype=torch.double)
        single = copy.deepcopy(model).float()
        rows.append(
            {
                "model": name,
                "convert, float64": error(model, convert, images),
                "convert, float32": error(single, convert, images.float()),
                "timm, float64": error(model, reparameterize_model, images),
                "timm, float32": error(single, reparameterize_model, images.float()),
                "BN": batch_norms(model),
                "left by convert": batch_norms(convert(model)),
                "left by timm": batch_norms(reparameterize_model(copy.deepcopy(single))),
            }
        )
    print(pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True))
    print(f"\ntimm {timm.__version__}, torch {torch.__version__}; `python -m benchmarks.timm_conversion`.")


if __name__ == "__main__":
    main()
