"""Pictures of one FC3 kernel before and after the Local Perceptron is merged into it (RepMLP, Fig. 5)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from repmlp import RepMLP
from repmlp.config import Size
from repmlp.grouped_linear import GroupedLinear
from repmlp.merge import fold_bn

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Pictures = tuple[NDArray[np.float64], NDArray[np.float64]]


def fc3_blocks(model: nn.Module) -> dict[str, RepMLP]:
    """Return the RepMLP blocks with an FC3 kernel, by their names in the network."""
    found = ((n, m) for n, m in model.named_modules() if isinstance(m, RepMLP))
    return {name: block for name, block in found if isinstance(block.fc3, GroupedLinear)}


def default_block(blocks: Mapping[str, RepMLP]) -> str:
    """Return the first block with a Local Perceptron, or the first of all."""
    return next((name for name, block in blocks.items() if block.local), next(iter(blocks)))


@torch.no_grad()
def pictures(block: RepMLP, point: Size, output_channel: int = 0, input_channel: int = 0) -> Pictures:
    """Return how strongly each input position acts on one output position, before and after the merge.

    Args:
        block: in its training form.
        point: (row, column) of the output position, within the partition.
        output_channel: channel of the output position.
        input_channel: of the input, counted within the group of the output channel.

    Returns:
        Two `(h, w)` arrays: the base-10 logarithm of the absolute weights, divided by the least of both that is not
        zero, so that 0 is the weakest; a weight of zero is 0 too. Before: FC3 with its own BN; after: all branches
        merged.

    Raises:
        ValueError: if the point or a channel is outside of the block, or the block is converted.
    """
    if block.converted:
        raise ValueError("the block is converted, and FC3 alone cannot be told from it; give it as trained.")
    h, w = block.partition
    inside = 0 <= point[0] < h and 0 <= point[1] < w
    inputs = block.in_channels // block.spec.groups
    if not inside or not 0 <= output_channel < block.out_channels or not 0 <= input_channel < inputs:
        raise ValueError(
            f"point {point[0]},{point[1]}, output channel {output_channel} and input channel {input_channel} must be "
            f"within {h}x{w} positions, {block.out_channels} and {inputs} channels."
        )
    alone, _ = fold_bn(block.fc3.weight, None, block.fc3_bn)  # type: ignore[arg-type]
    merged, _ = block.merged_fc3()

    def cut(kernel: Tensor) -> NDArray[np.float64]:
        kernels = kernel.view(block.out_channels, h, w, inputs, h, w)
        return kernels[output_channel, point[0], point[1], input_channel].abs().cpu().numpy()

    before, after = cut(alone), cut(merged)
    weights = np.stack([before, after])
    least = weights[weights > 0].min(initial=np.inf)
    logs = np.log10(np.maximum(weights, least) / least) if np.isfinite(least) else weights
    return logs[0], logs[1]


def draw(block: RepMLP, name: str, point: Size, output_channel: int = 0, input_channel: int = 0) -> "Figure":
    """Draw both pictures side by side, the point marked and the largest branch around it outlined, if any."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle
    from matplotlib.ticker import MaxNLocator

    before, after = pictures(block, point, output_channel, input_channel)
    figure = Figure(figsize=(7.5, 3.6), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    kernel = block.spec.merged_kernel()
    (h, w), largest = block.partition, max(before.max(), after.max())
    for axis, picture, title in zip(
        axes, (before, after), ("FC3 before the merge", "FC3 after the merge"), strict=True
    ):
        image = axis.imshow(picture, cmap="cividis", vmin=0, vmax=largest)
        if block.local:
            top, left = max(0, point[0] - kernel[0] // 2), max(0, point[1] - kernel[1] // 2)
            bottom, right = min(h, point[0] + kernel[0] // 2 + 1), min(w, point[1] + kernel[1] // 2 + 1)
            corner, width, height = (left - 0.5, top - 0.5), right - left, bottom - top
            for colour, style in (("black", "-"), ("white", "--")):
                axis.add_patch(Rectangle(corner, width, height, fill=False, ls=style, lw=1.5, ec=colour, clip_on=False))
        axis.plot(point[1], point[0], "x", color="red", markersize=8, markeredgewidth=2)
        axis.set(title=title, xlabel="input column")
        for side in (axis.xaxis, axis.yaxis):
            side.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes[0].set_ylabel("input row")
    figure.colorbar(image, ax=axes, label="log10(|weight| / least)")
    dashed = f"dashed: largest branch, {kernel[0]}x{kernel[1]}" if block.local else "no branches"
    figure.suptitle(
        f"{name}: input channel {input_channel} to output channel {output_channel} at the cross; {dashed}", fontsize=10
    )
    return figure
