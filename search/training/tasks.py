"""What networks learn: the loss of a task and how its held-out outputs are scored. Percentages are 0 to 100."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from search.data.face_folder import GALLERY, PROBE, UNSEEN, pairs
from search.data.segments import IGNORED
from search.training.recognition import identification, nearest_identity, verification

AUXILIARY = 0.4
"""Weight of PSPNet's auxiliary loss (arXiv 1612.01105)."""
Outputs = Tensor | tuple[Tensor, Tensor]
Scores = dict[str, float]
"""`accuracy` and, by name, the details of a task."""


class Meter(Protocol):
    """Collects held-out outputs batch by batch."""

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Add a batch."""

    def compute(self) -> Scores:
        """Return the scores of all batches."""

    def judged(self) -> int | None:
        """Return how many images were judged right or wrong; None where the score is no share of images."""


class Classification(nn.Module):
    """Cross-entropy; accuracy is top-1."""

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of logits `(N, classes)`; targets are labels or, after mixup, shares `(N, classes)`."""
        return cross_entropy(outputs, targets, label_smoothing=self.label_smoothing)

    def meter(self) -> Meter:
        """Return a new meter."""
        return Top1()


class Top1:
    """Share of rows whose largest logit is at the label."""

    def __init__(self) -> None:
        self.right, self.count = 0, 0

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Add logits `(N, classes)` and labels `(N,)`."""
        self.right += int((outputs.argmax(1) == targets).sum())
        self.count += len(targets)

    def compute(self) -> Scores:
        """Return `accuracy`."""
        return {"accuracy": 100 * self.right / self.count}

    def judged(self) -> int | None:
        """Return all."""
        return self.count


class Recognition(nn.Module):
    """AM-Softmax on embeddings (arXiv 1801.05599), which pytorch-metric-learning calls CosFace.

    Its accuracy is that of identification: the share of held-out pictures whose nearest one, among the enrolled
    pictures of all known people and the distractors, shows the same person. Details: `megaface`, identification by the
    protocol of MegaFace, and `verification`, on pairs of unseen people.
    """

    def __init__(self, identities: int, embedding: int, margin: float, scale: float) -> None:
        super().__init__()
        from pytorch_metric_learning.losses import CosFaceLoss

        self.am_softmax = CosFaceLoss(identities, embedding, margin=margin, scale=scale)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of embeddings `(N, D)` of the people `(N,)`, in float32 also under autocast."""
        with torch.autocast(outputs.device.type, enabled=False):
            return self.am_softmax(outputs.float(), targets)

    def meter(self) -> Meter:
        """Return a new meter."""
        return FaceMeter()


class FaceMeter:
    """Keeps all held-out embeddings, `(N, D)` float32, and compares them in the end."""

    def __init__(self) -> None:
        self.outputs: list[Tensor] = []
        self.targets: list[Tensor] = []

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Add embeddings `(N, D)` and their (identity, role), `(N, 2)`."""
        self.outputs.append(outputs.float())
        self.targets.append(targets)

    def compute(self) -> Scores:
        """Return `accuracy`, `megaface` and `verification`."""
        embeddings = torch.cat(self.outputs)
        people, role = torch.cat(self.targets).unbind(1)
        probe, unseen, compared = role == PROBE, role == UNSEEN, role != PROBE
        enrolled = torch.where(role == GALLERY, people, -1)[compared]
        first, second, same = (t.to(people.device) for t in pairs(people[unseen].cpu()))
        strangers = embeddings[unseen]
        return {
            "accuracy": nearest_identity(embeddings[probe], people[probe], embeddings[compared], enrolled),
            "megaface": identification(embeddings[probe], people[probe], strangers),
            "verification": verification(strangers[first], strangers[second], same),
        }

    def judged(self) -> int | None:
        """Return the pictures to be identified."""
        return sum(int((targets[:, 1] == PROBE).sum()) for targets in self.targets)


class Segmentation(nn.Module):
    """Cross-entropy of every pixel that counts; accuracy is mIoU, details the IoU of each class."""

    def __init__(self, classes: int, names: Sequence[str]) -> None:
        super().__init__()
        self.classes, self.names = classes, names

    def loss(self, outputs: Outputs, targets: Tensor) -> Tensor:
        """Return the mean loss of maps `(N, classes, H, W)`, or of a pair of them, the auxiliary one second."""
        if isinstance(outputs, Tensor):
            return cross_entropy(outputs, targets, ignore_index=IGNORED)
        main, auxiliary = (cross_entropy(o, targets, ignore_index=IGNORED) for o in outputs)
        return main + AUXILIARY * auxiliary

    def meter(self) -> Meter:
        """Return a new meter."""
        return MeanIoU(self.classes, self.names)


class MeanIoU:
    """Intersection over union of each class over all pixels, and the mean over the classes that occur."""

    def __init__(self, classes: int, names: Sequence[str]) -> None:
        from torchmetrics.classification import MulticlassConfusionMatrix

        self.confusion = MulticlassConfusionMatrix(classes, ignore_index=IGNORED)
        self.names = [str(n) for n in (names or range(classes))]

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Add maps `(N, classes, H, W)` and labels `(N, H, W)`."""
        self.confusion.to(outputs.device).update(outputs.argmax(1), targets)

    def compute(self) -> Scores:
        """Return `accuracy`, the mIoU, and `iou NAME` of each class that occurs."""
        counts = self.confusion.compute().double().cpu()
        both, present = counts.diagonal(), counts.sum(1) > 0
        iou = 100 * both / (counts.sum(0) + counts.sum(1) - both)
        named = {f"iou {n}": float(v) for n, v, there in zip(self.names, iou, present, strict=True) if there}
        return {"accuracy": float(iou[present].mean()), **named}

    def judged(self) -> int | None:
        """Return none: pixels of an image are not judged independently."""
        return None


Task = Classification | Recognition | Segmentation
