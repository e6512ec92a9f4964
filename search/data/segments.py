"""Images with label maps for semantic segmentation: reading, augmenting, and cutting into tiles.

Label maps are uint8; 255 marks pixels that do not count.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor
from torch.nn.functional import pad
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2

from search.data.base import LARGEST, DataError, TaskName
from search.data.streams import Stream, StreamedSet, picture

IGNORED = 255
FILL = {tv_tensors.Image: (124, 116, 104), tv_tensors.Mask: IGNORED}
"""Outside of the image: ImageNet's mean colour, and pixels that do not count."""
Pair = tuple[Path, Path]
"""File of an image, and of its label map."""
T = TypeVar("T")


class SegmentedSet(StreamedSet):
    """A streamed set of images with label maps."""

    task: ClassVar[TaskName] = "segmentation"

    resize: int | None = Field(default=None, ge=4, le=LARGEST)
    """Shorter side to which images are resized when they are read."""
    scale: tuple[float, float] = (1.0, 1.0)
    """Range of the random scale of a training image, such as (0.5, 2)."""
    rotate: float = Field(default=0.0, ge=0, le=180)
    """Largest random rotation, degrees."""

    @field_validator("scale")
    @classmethod
    def check_scale(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 < value[0] <= value[1]:
            raise ValueError("the smallest scale must be positive and come first, such as [0.5, 2]")
        return value

    def stream(
        self,
        device: str,
        train: list[Pair],
        validation: list[Pair],
        list_test: Callable[[], list[Pair]],
        classes: tuple[list[str], list[int]],
    ) -> Stream:
        """Return the stream of listed images, of whose training images `train_images` are used.

        `classes` are names, and the class of each of the 256 possible labels.
        """
        if self.train_images is not None and self.train_images < len(train):
            train, _ = cut(train, 1 - self.train_images / len(train))
        names, table = classes
        return Stream(
            device=device,
            train=train,
            validation=validation,
            list_test=list_test,
            training=RandomCrop(self, self.side),
            evaluation=Tiles(self, self.side),
            read=ReadPair(table),
            size=(self.side, self.side),
            classes=len(names),
            class_names=names,
            workers=self.workers,
        )


def cut(examples: list[T], share: float) -> tuple[list[T], list[T]]:
    """Cut a random `share` off, the same each time; both parts keep their order."""
    order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(0))
    taken = set(order[: max(1, round(share * len(examples)))].tolist())
    return [e for i, e in enumerate(examples) if i not in taken], [examples[i] for i in sorted(taken)]


class ReadPair:
    """Reads an image `(3, H, W)` and its label map `(H, W)`, as tensors that torchvision transforms together."""

    def __init__(self, table: Sequence[int]) -> None:
        self.table = np.array(table, dtype=np.uint8)
        """Class of each label."""

    def __call__(self, example: Pair) -> tuple[Any, Any]:
        pixels = v2.functional.pil_to_tensor(picture(example[0]))
        classes = torch.from_numpy(self.table[np.asarray(picture(example[1], None))])
        if classes.shape != pixels.shape[1:]:
            raise DataError(f"{example[1]} is {tuple(classes.shape)}, but its image is {tuple(pixels.shape[1:])}.")
        return tv_tensors.Image(pixels), tv_tensors.Mask(classes)


class RandomCrop:
    """Scale, rotate and mirror an image with its map at random, and crop a square out of it."""

    def __init__(self, config: SegmentedSet, size: int) -> None:
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

    def __init__(self, config: SegmentedSet, size: int) -> None:
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
