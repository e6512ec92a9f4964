"""Training one network: the recipe, one epoch at a time, exact resume, evaluation."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.distributed import all_reduce
from torch.nn.parallel import DistributedDataParallel
from torchvision.transforms import v2

from repmlp import build
from repmlp.networks import NetworkConfig
from repmlp.penalty import distance_penalty
from search.data import Batch, DataConfig, Shard, Source, TaskName, load
from search.tasks import Classification, Meter, Recognition, Scores, Segmentation, Task


class DivergedError(RuntimeError):
    """The loss is no longer finite."""


class Recipe(BaseModel):
    """How every candidate of a study is trained."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: int = Field(default=9, ge=1)
    batch: int = Field(default=128, ge=2)
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = Field(default=0.1, gt=0)
    """Peak; follows `schedule` step by step."""
    schedule: Literal["cosine", "poly", "step"] = "cosine"
    """cosine: to 0. poly: (1 - share done)^0.9. step: a tenth at each of `milestones`."""
    milestones: tuple[float, ...] = (0.6, 0.8667, 0.9667)
    """Shares of the steps after the warm-up at which the step schedule falls; those of the paper's face recipe."""
    warmup: float = Field(default=0, ge=0)
    """Epochs of linear increase before the schedule begins."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Of SGD."""
    nesterov: bool = True
    weight_decay: float = Field(default=5e-4, ge=0)
    """Not applied to biases and normalisation."""
    clip: float | None = Field(default=None, gt=0)
    """Largest norm of the gradient."""
    label_smoothing: float = Field(default=0, ge=0, lt=1)
    mixup: float = Field(default=0, ge=0)
    """alpha of mixup (arXiv 1710.09412), for classification; 0 leaves it out."""
    margin: float = Field(default=0.35, ge=0)
    """m of AM-Softmax (arXiv 1801.05599), for recognition."""
    logit_scale: float = Field(default=30.0, gt=0)
    """s of AM-Softmax."""
    fc3_penalty: float = Field(default=0, ge=0)
    """Factor of `repmlp.penalty.distance_penalty`, which drives far weights of the merged FC3 to zero."""
    bf16: bool = True
    """Mixed precision: bfloat16 products, float32 weights."""

    def share_of_rate(self, done: float) -> float:
        """Return the share of the peak rate after the share `done` of all steps."""
        if self.schedule == "poly":
            return (1 - done) ** 0.9
        if self.schedule == "step":
            return 0.1 ** sum(done >= m for m in self.milestones)
        return 0.5 * (1 + math.cos(math.pi * done))


@dataclass(frozen=True)
class EpochResult:
    """What one epoch gave."""

    epoch: int
    """1 for the first."""
    accuracy: float
    """Percent, on the validation split: top-1, identification or mIoU."""
    loss: float
    """Mean training loss."""
    seconds: float
    """Training and evaluation."""
    details: dict[str, float] = field(default_factory=dict)
    """Other scores of the task, percent."""


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
        shard: rank and number of data-parallel workers, whose process group is ready.

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
        shard: Shard = (0, 1),
    ) -> None:
        self.recipe, self.seed, self.device, self.shard = recipe, seed, device, shard
        self.data = load(data, device)
        self.steps = len(self.data) // recipe.batch
        if self.steps == 0:
            raise ValueError(f"training.batch={recipe.batch} exceeds the {len(self.data)} training images.")
        if recipe.batch % shard[1]:
            raise ValueError(f"training.batch={recipe.batch} cannot be shared by {shard[1]} workers evenly.")
        self.during_batch = during_batch
        self.curve: list[EpochResult] = []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = build(config).to(device)
            self.task = make_task(data.task, self.data, config.classes, recipe).to(device)
        objective = Objective(self.model, self.task, recipe.fc3_penalty)
        self.objective = parallel(objective, device) if shard[1] > 1 else objective
        parameters = list(objective.parameters())
        matrices = [p for p in parameters if p.dim() > 1]
        others = [p for p in parameters if p.dim() <= 1]
        groups = [
            {"params": matrices, "weight_decay": recipe.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        self.optimizer: torch.optim.Optimizer = (
            torch.optim.AdamW(groups, lr=recipe.learning_rate)
            if recipe.optimizer == "adamw"
            else torch.optim.SGD(
                groups,
                lr=recipe.learning_rate,
                momentum=recipe.momentum,
                nesterov=recipe.nesterov and recipe.momentum > 0,
            )
        )

    def learning_rate(self, step: int) -> float:
        """Return the rate of training step `step`, counted from 0 over all epochs."""
        warmup, total = self.recipe.warmup * self.steps, self.recipe.epochs * self.steps
        if step < warmup:
            return self.recipe.learning_rate * (step + 1) / warmup
        done = (step - warmup) / max(1, total - warmup)
        return self.recipe.learning_rate * self.recipe.share_of_rate(done)

    def train_epoch(self) -> EpochResult:
        """Train for one epoch and evaluate on the validation split.

        Raises:
            DivergedError: if the loss, or an output on the validation split, is not finite.
        """
        start = time.perf_counter()
        epoch = len(self.curve)
        seed = self.seed * 1_000_003 + epoch
        generator = torch.Generator().manual_seed(seed)
        self.model.train()
        total = torch.zeros((), device=self.device)
        with torch.random.fork_rng(devices=None if self.device == "cuda" else []):
            torch.manual_seed(seed + self.shard[0])  # of dropout and mixup
            batches = self.data.batches(self.recipe.batch, generator, self.shard)
            for index, (images, targets) in enumerate(batches, start=epoch * self.steps):
                with self.during_batch():
                    total += self.step(images, targets, self.learning_rate(index))
        if self.shard[1] > 1:
            all_reduce(total)
        loss = float(total) / self.steps / self.shard[1]
        if not math.isfinite(loss):
            raise DivergedError(f"the training loss became {loss} in epoch {epoch + 1}; try a lower learning rate.")
        scores = self.evaluate(self.model) if self.shard[0] == 0 else {"accuracy": math.nan}
        accuracy = scores.pop("accuracy")
        self.curve.append(EpochResult(epoch + 1, accuracy, loss, time.perf_counter() - start, scores))
        return self.curve[-1]

    def step(self, images: Tensor, targets: Tensor, learning_rate: float) -> Tensor:
        """Take one step and return the loss, detached."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        if self.recipe.mixup:
            images, targets = v2.MixUp(alpha=self.recipe.mixup, num_classes=self.data.classes)(images, targets)
        with torch.autocast(self.device, torch.bfloat16, enabled=self.recipe.bf16):
            loss, objective = self.objective(images, targets)
        self.optimizer.zero_grad()
        objective.backward()
        if self.recipe.clip is not None:
            nn.utils.clip_grad_norm_(self.objective.parameters(), self.recipe.clip)
        self.optimizer.step()
        return loss.detach()

    def evaluate(self, model: nn.Module) -> Scores:
        """Return the scores of `model` on the validation split, in eval mode and float32."""
        return self.judge(model, self.data.held_out()).compute()

    def judge(self, model: nn.Module, batches: Iterator[Batch]) -> Meter:
        """Return a meter that has seen the outputs of `model` for all batches, in eval mode and float32."""
        meter = self.task.meter()
        for (outputs,), targets in self.outputs(batches, model):
            meter.update(outputs, targets)
        return meter

    def compare(self, converted: nn.Module) -> tuple[Meter, float]:
        """Return a meter of a converted network's outputs, and how far these are from the trained one's.

        The distance is the largest difference on the validation split, relative to the largest output.
        """
        meter = self.task.meter()
        difference, largest = 0.0, 0.0
        for (trained, outputs), targets in self.outputs(self.data.held_out(), self.model, converted):
            meter.update(outputs, targets)
            difference = max(difference, float((trained - outputs).abs().max()))
            largest = max(largest, float(trained.abs().max()))
        return meter, difference / largest

    def outputs(self, batches: Iterator[Batch], *models: nn.Module) -> Iterator[tuple[list[Tensor], Tensor]]:
        """Yield the outputs of each model for each batch, and the targets.

        Raises:
            DivergedError: if an output is not finite.
        """
        for model in models:
            model.eval()
        with torch.inference_mode():
            for images, targets in batches:
                with self.during_batch():
                    found = [model(images) for model in models]
                    if not all(bool(outputs.isfinite().all()) for outputs in found):
                        raise DivergedError("an output on held-out images is not finite; try a lower learning rate.")
                    yield found, targets

    def save(self, path: Path) -> None:
        """Write a checkpoint whole or not at all."""
        state = {
            "model": self.model.state_dict(),
            "task": self.task.state_dict(),
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
        self.task.load_state_dict(state["task"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.curve = [EpochResult(**result) for result in state["curve"]]


class Objective(nn.Module):
    """Network, task and penalty as one module, which data-parallel training needs to see whole."""

    def __init__(self, model: nn.Module, task: Task, fc3_penalty: float) -> None:
        super().__init__()
        self.model, self.task, self.fc3_penalty = model, task, fc3_penalty

    def forward(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the task's loss, and what is minimised."""
        loss = self.task.loss(self.model(images), targets)
        if not self.fc3_penalty:
            return loss, loss
        return loss, loss + self.fc3_penalty * distance_penalty(self.model)


def make_task(name: TaskName, source: Source, outputs: int, recipe: Recipe) -> Task:
    """Return the task of a source, for a network of so many outputs."""
    if name == "recognition":
        return Recognition(source.classes, outputs, recipe.margin, recipe.logit_scale)
    if name == "segmentation":
        return Segmentation(source.classes, source.class_names)
    return Classification(recipe.label_smoothing)


def parallel(model: nn.Module, device: str) -> nn.Module:
    """Return the data-parallel form, whose gradients are means over all workers."""
    if device == "cuda":
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    return DistributedDataParallel(model)
