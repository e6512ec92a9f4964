"""What the small sets that torchvision reads have in common."""

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from search.data.base import DataError, Located
from search.data.tensors import TensorSet


class TorchvisionSet(Located, TensorSet):
    """A set as torchvision lays it out, held in memory."""

    place: ClassVar[frozenset[str]] = frozenset({"root", "download"})
    kind: ClassVar[Any]
    """torchvision's class, whose `data` are all images."""

    download: bool = False
    """Whether torchvision may download the set into `root`."""

    def read(self, train: bool) -> tuple[Tensor, Tensor]:
        """Return one half of the set; DataError if it is not there."""
        try:
            dataset = self.kind(self.folder, train=train, download=self.download)
        except RuntimeError as error:
            raise DataError(
                f"{self.name} is not in data.root={self.root} ({error}). Name the folder that holds it as torchvision "
                "lays it out, or allow a download with data.download=true."
            ) from error
        images = torch.from_numpy(np.asarray(dataset.data))
        images = images.unsqueeze(1) if images.dim() == 3 else images.permute(0, 3, 1, 2).contiguous()
        return images, torch.as_tensor(dataset.targets)
