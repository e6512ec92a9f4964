"""Images with label maps for semantic segmentation: listing, reading, augmenting, and cutting into tiles.

Label maps are uint8; 255 marks pixels that do not count.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad
from torchvision import datasets, tv_tensors
from torchvision.transforms import InterpolationMode, v2

from search.data.tensors import DataConfig, DataError

IGNORED = 255
FILL = {tv_tensors.Image: (124, 116, 104), tv_tensors.Mask: IGNORED}
"""Outside of the image: ImageNet's mean colour, and pixels that do not count."""
Pair = tuple[Path, Path]


def list_folder(root: Path, split: str) -> list[Pair]:
    """Return the images `root/SPLIT/*.jpg` (or png) with the label maps of the same stem in `root/SPLITannot`.

    Raises:
        DataError: naming the first image without a map, or the folder if it has no image.
    """
    images = sorted(p for p in (root / split).glob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not images:
        raise DataError(f"{root / split} has no images (jpg or png); segmentation_folder needs them there.")
    maps = [root / f"{split}annot" / f"{image.stem}.png" for image in images]
    for image, labels in zip(images, maps, strict=True):
        if not labels.is_file():
            raise DataError(f"{image} has no label map {labels}.")
    return list(zip(images, maps, strict=True))


def folder_classes(root: Path) -> tuple[list[str], list[int]]:
    """Return the names in `root/classes.txt` without void, and the class of each of the 256 possible labels.

    Label n is line n, counted from 0 without blank ones.
    """
    try:
        lines = [line.strip() for line in (root / "classes.txt").read_text().splitlines() if line.strip()]
    except OSError:
        raise DataError(f"{root / 'classes.txt'} is missing; it names the classes, one a line.") from None
    names: list[str] = []
    table = [IGNORED] * 256
    for label, name in enumerate(lines):
        if name != "void":
            table[label] = len(names)
            names.append(name)
    return names, table


def list_cityscapes(root: Path, split: str = "train") -> list[Pair]:
    """Return the finely labelled images of Cityscapes and their maps; its labelled "val" is our test."""
    try:
        found = datasets.Cityscapes(str(root), split=split, mode="fine", target_type="semantic")
    except RuntimeError as error:
        raise DataError(f"Cityscapes is not in data.root={root} as torchvision lays it out ({error}).") from None
    return [(Path(image), Path(maps[0])) for image, maps in zip(found.images, found.targets, strict=True)]


def cityscapes_classes() -> tuple[list[str], list[int]]:
    """Return the names of the 19 classes, and the class of each of the 256 possible labels."""
    counted = sorted((c for c in datasets.Cityscapes.classes if 0 <= c.train_id < 19), key=lambda c: c.train_id)
    table = [IGNORED] * 256
    for entry in counted:
        table[entry.id] = entry.train_id
    return [entry.name for entry in counted], table


class ReadPair:
    """Reads an image `(3, H, W)` and its label map `(H, W)`, as tensors that torchvision transforms together."""

    def __init__(self, table: Sequence[int]) -> None:
        self.table = np.array(table, dtype=np.uint8)
        """Class of each label."""

    def __call__(self, example: Pair) -> tuple[Any, Any]:
        with Image.open(example[0]) as image, Image.open(example[1]) as labels:
            pixels = v2.functional.pil_to_tensor(image.convert("RGB"))
            classes = torch.from_numpy(self.table[np.asarray(labels)])
        if classes.shape != pixels.shape[1:]:
            raise DataError(f"{example[1]} is {tuple(classes.shape)}, but its image is {tuple(pixels.shape[1:])}.")
        return tv_tensors.Image(pixels), tv_tensors.Mask(classes)


class RandomCrop:
    """Scale, rotate and mirror an image with its map at random, and crop a square out of it."""

    def __init__(self, config: DataConfig, size: int) -> None:
        self.config = config
        steps: list[Any] = []
        if config.rotate:
            steps.append(v2.RandomRotation(config.rotate, InterpolationMode.BILINEAR, fill=FILL))
        if config.flip:
            steps.append(v2.RandomHorizontalFlip())
        steps.append(v2.RandomCrop(size, pad_if_needed=True, fill=FILL))
        self.steps = v2.Compose(steps)

    def __call__(self, image: Any, labels: Any) -> tuple[Tensor, Tensor]:
        low, high = self.config.scale
        scale = float(torch.empty(()).uniform_(low, high))
        image, labels = self.steps(*resized(image, labels, self.config.resize, scale))
        return image.as_subclass(Tensor).unsqueeze(0), labels.as_subclass(Tensor).long().unsqueeze(0)


class Tiles:
    """Cut an image into squares that cover it; where they overlap, a pixel counts in one of them only."""

    def __init__(self, config: DataConfig, size: int) -> None:
        self.config, self.size = config, size

    def __call__(self, image: Any, labels: Any) -> tuple[Tensor, Tensor]:
        image, labels = (t.as_subclass(Tensor) for t in resized(image, labels, self.config.resize))
        below, right = (max(0, self.size - side) for side in labels.shape)
        image = v2.functional.pad(image, [0, 0, right, below], fill=FILL[tv_tensors.Image])
        labels = pad(labels, (0, right, 0, below), value=IGNORED).long()
        crops, maps = [], []
        for top, new_top in starts(labels.shape[0], self.size):
            for left, new_left in starts(labels.shape[1], self.size):
                window = (slice(top, top + self.size), slice(left, left + self.size))
                crops.append(image[(slice(None), *window)])
                counted = torch.full_like(labels[window], IGNORED)
                new = (slice(new_top - top, None), slice(new_left - left, None))
                counted[new] = labels[window][new]
                maps.append(counted)
        return torch.stack(crops), torch.stack(maps)


def starts(side: int, size: int) -> list[tuple[int, int]]:
    """Return where tiles along a side begin, and from where each one's pixels are new."""
    found = [(start, start) for start in range(0, side - size + 1, size)]
    covered = found[-1][0] + size
    return found if covered == side else [*found, (side - size, covered)]


def resized(image: Any, labels: Any, shorter: int | None, scale: float = 1.0) -> tuple[Any, Any]:
    """Resize both so that the shorter side is `shorter * scale` (its own length, for None)."""
    height, width = image.shape[1:]
    factor = scale * (shorter / min(height, width) if shorter else 1.0)
    if factor == 1.0:
        return image, labels
    size = [max(1, round(height * factor)), max(1, round(width * factor))]
    # "nearest" would read labels up to a pixel above and left of where the image is read
    return v2.functional.resize(image, size), v2.functional.resize(labels, size, InterpolationMode.NEAREST_EXACT)
