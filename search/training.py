"""Training one network: the recipe, one epoch at a time, exact resume, evaluation."""

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from repmlp import build
from repmlp.networks import NetworkConfig
from search.data import DataConfig, Split, batches, load


class DivergedError(RuntimeError):
    """The loss is no longer finite."""


class Recipe(BaseModel):
    """How every candidate of a study is trained: SGD with momentum and a cosine schedule."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int = Field(default=9, ge=1)
    batch: int = Field(default=128, ge=2)
    learning_rate: float = Field(default=0.1, gt=0)
    """Peak; follows a cosine to 0 step by step."""
    warmup: float = Field(default=0, ge=0)
    """Epochs of linear increase before the cosine."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = True
    weight_decay: float = Field(default=5e-4, ge=0)
    """Not applied to biases and BN."""
    label_smoothing: float = Field(default=0, ge=0, lt=1)
    bf16: bool = True
    """Mixed precision: bfloat16 products, float32 weights."""


@dataclass(frozen=True)
class EpochResult:
    """What one epoch gave."""

    epoch: int
    """1 for the first."""
    accuracy: float
    """Top-1, percent, on the validation split."""
    loss: float
    """Mean training loss."""
    seconds: float
    """Training and evaluation."""


class Trainer:
    """Trains one network; the same seed on the same machine gives the same weights.

    Order and augmentation of epoch e are drawn from (seed, e), so a run resumed from `checkpoint` equals the
    uninterrupted one, bit for bit on CPU in float32.

    Args:
        config: the network.
        data: where images come from.
        recipe: how it is trained.
        seed: of the initial weights, order and augmentation.
        device: "cpu" or "cuda".
        during_batch: makes the context of each batch, such as a device lock.

    Raises:
        DataError: if the data is missing.
        ValueError: if there are fewer training images than a batch takes.
    """

    def __init__(
        self,
        config: NetworkConfig,
        data: DataConfig,
        recipe: Recipe,
        seed: int,
        device: str = "cpu",
        during_batch: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.recipe, self.data_config, self.seed, self.device = recipe, data, seed, device
        self.data = load(data, device)
        self.steps = len(self.data.train) // recipe.batch
        if self.steps == 0:
            raise ValueError(f"training.batch={recipe.batch} exceeds the {len(self.data.train)} training images.")
        self.during_batch = during_batch
        self.curve: list[EpochResult] = []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = build(config)
        self.model = self.model.to(device)
        decayed = [p for p in self.model.parameters() if p.dim() > 1]
        others = [p for p in self.model.parameters() if p.dim() <= 1]
        self.optimizer = torch.optim.SGD(
            [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}],
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov and recipe.momentum > 0,
        )

    def learning_rate(self, step: int) -> float:
        """Return the rate of training step `step`, counted from 0 over all epochs."""
        warmup, total = self.recipe.warmup * self.steps, self.recipe.epochs * self.steps
        if step < warmup:
            return self.recipe.learning_rate * (step + 1) / warmup
        done = (step - warmup) / max(1, total - warmup)
        return self.recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * done))

    def train_epoch(self) -> EpochResult:
        """Train for one epoch and evaluate on the validation split.

        Raises:
            DivergedError: if the loss is not finite.
        """
        start = time.perf_counter()
        epoch = len(self.curve)
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        self.model.train()
        total = torch.zeros((), device=self.device)
        for index, (images, labels) in enumerate(
            batches(self.data, self.data_config, self.recipe.batch, generator), start=epoch * self.steps
        ):
            with self.during_batch():
                total += self.step(images, labels, self.learning_rate(index))
        loss = float(total) / self.steps
        if not math.isfinite(loss):
            raise DivergedError(f"the training loss became {loss} in epoch {epoch + 1}; try a lower learning rate.")
        accuracy = self.evaluate(self.model, self.data.validation)
        self.curve.append(EpochResult(epoch + 1, accuracy, loss, time.perf_counter() - start))
        return self.curve[-1]

    def step(self, images: Tensor, labels: Tensor, learning_rate: float) -> Tensor:
        """Take one step and return the loss, detached."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        with torch.autocast(self.device, torch.bfloat16, enabled=self.recipe.bf16):
            loss = cross_entropy(self.model(images), labels, label_smoothing=self.recipe.label_smoothing)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def evaluate(self, model: nn.Module, split: Split) -> float:
        """Return the top-1 accuracy, in percent, of `model` in eval mode and float32."""
        return top_1(self.predict(model, split), split.labels)

    @torch.inference_mode()
    def predict(self, model: nn.Module, split: Split) -> Tensor:
        """Return logits `(N, classes)`."""
        model.eval()
        parts = []
        for images in split.images.split(256):
            with self.during_batch():
                parts.append(model(self.data.normalise(images)))
        return torch.cat(parts)

    def save(self, path: Path) -> None:
        """Write a checkpoint whole or not at all."""
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "curve": [asdict(result) for result in self.curve],
        }
        path.parent.mkdir(exist_ok=True)
        part = path.with_suffix(".part")
        torch.save(state, part)
        part.replace(path)

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint."""
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.curve = [EpochResult(**result) for result in state["curve"]]


def top_1(logits: Tensor, labels: Tensor) -> float:
    """Return the accuracy, in percent, of logits `(N, classes)`."""
    return 100 * int((logits.argmax(1) == labels).sum()) / len(labels)
