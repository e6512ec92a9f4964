"""Folders of class folders, held in memory or streamed."""

from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torchvision import datasets
from torchvision.transforms import v2

from search.data.base import DataError, Source, TaskName
from search.data.streams import Example, OneImage, Stream, StreamedImages, once, picture, read_labelled, whole
from search.data.tensors import TensorSet, check_magnified, held_out_and_rest


class StreamedClasses(StreamedImages):
    """Class folders that are read by workers as training goes, cropped at random as for ImageNet."""

    task: ClassVar[TaskName] = "classification"

    auto_augment: bool = False
    """Streamed classification: AutoAugment, beside the random crop."""

    def load(self, device: str = "cpu") -> Source:
        """List `root/train/<class>/*`, from which the validation split is cut."""
        root, size = self.folder, self.side
        self.check_decoding(device)
        folder = class_folders(root / "train")

        def list_test() -> list[Example]:
            test = class_folders(half_of(root, train=False))
            if test.classes != folder.classes:
                raise DataError(f"{test.root} has other classes than {folder.root}; give both the same class folders.")
            return [(Path(path), label) for path, label in test.samples]

        held_out, rest = held_out_and_rest(torch.tensor(folder.targets), self.validation, self.train_images)
        examples: list[Example] = [(Path(path), label) for path, label in folder.samples]
        return Stream(
            device=device,
            train=[examples[i] for i in rest.tolist()],
            validation=[examples[i] for i in held_out.tolist()],
            list_test=list_test,
            training=OneImage(random_crop(size, self.flip, self.auto_augment)),
            evaluation=OneImage(centre_crop(size)),
            read=read_labelled,
            size=(size, size),
            classes=len(folder.classes),
            class_names=folder.classes,
            workers=self.workers,
            decode=self.decode,
        )


class ImageFolder(StreamedClasses, TensorSet):
    """`root/train/<class>/*`, and `root/test/<class>/*` or `root/val/<class>/*` as test."""

    name: Literal["image_folder"] = "image_folder"
    stream: bool = False
    """Whether images are read by workers as training goes, for sets too large to hold; they are RGB then, and cropped
    at random as for ImageNet instead of padded and shifted. `auto_augment`, `workers` and `decode` are for these."""

    def load(self, device: str = "cpu") -> Source:
        """Open the set, streamed or on the device."""
        return super().load(device) if self.stream else TensorSet.load(self, device)

    def read(self, train: bool) -> tuple[Tensor, Tensor]:
        """Read one half of a small set whole; images are scaled and centre-cropped to `size`."""
        folder = half_of(self.folder, train)
        if self.size is None:
            raise DataError("data.name=image_folder needs data.size, the side of the square images; for example 64.")
        size, crop = self.size, v2.Compose([v2.Resize(self.size, antialias=True), v2.CenterCrop(self.size)])

        def fit(image: Any) -> Tensor:
            check_magnified(size, image.height, image.width)
            return crop(v2.functional.pil_to_tensor(image))

        dataset = class_folders(folder, fit)
        return torch.stack([image for image, _ in dataset]), torch.tensor(dataset.targets)


def half_of(root: Path, train: bool) -> Path:
    """Return the folder of the training or test images; some sets call the latter val."""
    return root / "train" if train else next((f for f in (root / "test", root / "val") if f.is_dir()), root / "test")


def class_folders(folder: Path, transform: Any = None) -> datasets.ImageFolder:
    """List the images of a folder of class folders, each once, however often links lead to it.

    Raises:
        DataError: if it is none.
    """
    try:
        found = datasets.ImageFolder(folder, transform, loader=picture)
    except OSError as error:
        raise DataError(f"{folder} is not a folder of class folders with images ({error}).") from None
    found.samples = found.imgs = once(found.samples)
    found.targets = [label for _, label in found.samples]
    return found


def random_crop(size: int, flip: bool, auto_augment: bool) -> Any:
    """Return ImageNet's augmentation: a crop of random area and shape, mirroring, AutoAugment."""
    steps: list[Any] = [v2.RandomResizedCrop(size, antialias=True)]
    if flip:
        steps.append(v2.RandomHorizontalFlip())
    if auto_augment:
        steps.append(v2.AutoAugment())
    return v2.Compose(steps)


def centre_crop(size: int) -> Any:
    """Return the evaluation's crop: for 224 pixels out of 256, else the whole."""
    return v2.Compose([v2.Resize(256), v2.CenterCrop(size)]) if size == 224 else whole(size)
