"""CIFAR-100."""

from typing import ClassVar, Literal

from torchvision.datasets import CIFAR100

from search.data.torchvision_sets import TorchvisionSet


class Cifar100(TorchvisionSet):
    """50,000 colour images of 32x32 pixels in 100 classes, and 10,000 to test."""

    kind: ClassVar = CIFAR100
    name: Literal["cifar100"] = "cifar100"
