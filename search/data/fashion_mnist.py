"""Fashion-MNIST."""

from typing import ClassVar, Literal

from torchvision.datasets import FashionMNIST

from search.data.torchvision_sets import TorchvisionSet


class FashionMnist(TorchvisionSet):
    """60,000 grey images of 28x28 pixels in 10 classes, and 10,000 to test."""

    kind: ClassVar = FashionMNIST
    name: Literal["fashion_mnist"] = "fashion_mnist"
