"""A converted network as it is deployed: from the pixels of images that a user has to outputs."""

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from search.formats import FormatError


class Served(nn.Module):
    """A network with what turns images into its input, and with what there is to know of both.

    Args:
        model: converted; it takes normalised images, `(N, C, H, W)` float32.
        about: `shape` (C, H, W), `mean` and `std` of each channel in 0..255, and whatever else, as plain values.
        pixels: whether it takes uint8 `(N, H, W, C)`, as image files are read, and normalises them.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, about: Mapping[str, Any], pixels: bool) -> None:
        super().__init__()
        self.model, self.about, self.pixels = model, dict(about), pixels
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(about[name], dtype=torch.float32).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Return the outputs of a batch."""
        if self.pixels:
            images = (images.permute(0, 3, 1, 2).float() - self.mean) / self.std
        return self.model(images)

    def given(self, images: Tensor) -> Tensor:
        """Return normalised images as this network takes them.

        Raises:
            FormatError: if it takes pixels, and they were none.
        """
        if not self.pixels:
            return images
        exact = images * self.std + self.mean
        pixels = exact.round().clamp(0, 255)
        if not float((exact - pixels).abs().max()) < 0.01:
            raise FormatError("images of this data set are no whole numbers in 0..255; export with --input float32.")
        return pixels.to(torch.uint8).permute(0, 2, 3, 1).contiguous()

    def words(self) -> dict[str, str]:
        """Return what there is to know as texts, for the metadata of a file."""
        known = {"input": "uint8 (N, H, W, C)" if self.pixels else "float32 (N, C, H, W), normalised", **self.about}
        return {name: value if isinstance(value, str) else json.dumps(value) for name, value in known.items()}


def words_of(model: nn.Module) -> dict[str, str]:
    """Return what there is to know of a network that is written, if it says."""
    return model.words() if isinstance(model, Served) else {}
