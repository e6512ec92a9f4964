"""Number formats of training: which one a device multiplies in hardware, and what `auto` becomes there."""

import torch

from record.recipe import Precision


def native(device: str) -> Precision:
    """Return the fastest format that a device multiplies in hardware, as far as it trains networks as float32 does.

    On a CPU that is bfloat16 with AVX512_BF16 or AMX, unless oneDNN was told to leave them alone (ONEDNN_MAX_CPU_ISA);
    on CUDA, bfloat16 from compute capability 8.0 on and float16 before; else float32. Where a GPU is wanted that cannot
    be seen from here, it is taken for one of today's.

    Args:
        device: "cpu" or "cuda".
    """
    if device.startswith("cuda"):
        if not torch.cuda.is_available() or torch.cuda.is_bf16_supported(including_emulation=False):
            return "bfloat16"
        return "float16"
    units = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bfloat16" if units and torch.ops.mkldnn._is_mkldnn_bf16_supported() else "float32"


def settled(precision: Precision, device: str) -> Precision:
    """Return what a wanted format is on a device: `auto` is its native one."""
    return native(device) if precision == "auto" else precision


def slow(precision: Precision, device: str) -> bool:
    """Whether a device has to emulate a format, which is slower than float32."""
    if device.startswith("cuda"):
        return precision == "bfloat16" and native(device) != "bfloat16"
    return precision in ("bfloat16", "float16") and native(device) != precision
