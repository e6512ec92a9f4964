"""CIFAR-10."""

from typing import ClassVar, Literal

from torchvision.datasets import CIFAR10

from search.data.torchvision_sets import TorchvisionSet


class Cifar10(TorchvisionSet):
    """50,000 colour images of 32x32 pixels in 10 classes, and 10,000 to test."""

    kind: ClassVar = CIFAR10
    name: Literal["cifar10"] = "cifar10"
