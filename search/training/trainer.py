"""Training one network: the recipe, one epoch at a time, exact resume, evaluation."""

import math
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.distributed import all_reduce
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel
from torchvision.transforms import v2

from record.recipe import Recipe
from record.trial import EpochResult
from repmlp import build
from repmlp.networks import NetworkConfig
from repmlp.penalty import distance_penalty, range_penalty
from search.data import Batch, DataConfig, Shard, Source, TaskName, load
from search.measuring.switches import switches
from search.training.checkpoints import Owner, read, write
from search.training.graphed import GraphedStep
from search.training.precision import settled
from search.training.tasks import Classification, Meter, Recognition, Scores, Segmentation, Task


class DivergedError(RuntimeError):
    """The loss is no longer finite."""


class Trainer:
    """Trains one network; on a CPU the same seed on the same machine gives the same weights.

    Order and augmentation of epoch e are drawn from (seed, e), so a run resumed from `checkpoint` equals the
    uninterrupted one, bit for bit on CPU in float32.

    Args:
        config: the network.
        data: where images come from.
        recipe: how it is trained.
        seed: of the initial weights, order and augmentation.
        device: "cpu" or "cuda".
        between: called between batches; returns the seconds that it waited for others, such as measurements.
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
        between: Callable[[], float] = lambda: 0.0,
        shard: Shard = (0, 1),
    ) -> None:
        self.recipe, self.seed, self.device, self.shard = recipe, seed, device, shard
        self.precision = settled(recipe.precision, device)
        self.data = load(data, device)
        self.steps = len(self.data) // recipe.batch
        if self.steps == 0:
            raise ValueError(f"training.batch={recipe.batch} exceeds the {len(self.data)} training images.")
        if recipe.batch % shard[1]:
            raise ValueError(f"training.batch={recipe.batch} cannot be shared by {shard[1]} workers evenly.")
        self.between = between
        self.waited = 0.0
        """Seconds that this epoch waited for others."""
        self.curve: list[EpochResult] = []
        self.note = ""
        """What does not go as the recipe has it, in a sentence."""
        last = device == "cpu" if recipe.channels_last is None else recipe.channels_last
        self.layout = torch.channels_last if last else torch.contiguous_format
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = build(config).to(device).to(memory_format=self.layout)
            self.task = make_task(data.task, self.data, config.classes, recipe).to(device)
        objective: nn.Module = Objective(self.model, self.task, recipe)
        parameters = list(objective.parameters())
        if recipe.compiled:
            torch._dynamo.reset()
            objective.compile(dynamic=False, fullgraph=True)
        self.objective = parallel(objective, recipe.sync_bn) if shard[1] > 1 else objective
        self.scaler = torch.amp.GradScaler(device, enabled=self.precision == "float16")
        graphs = recipe.graph == "auto" and device != "cpu"
        if graphs and (shard[1] > 1 or self.scaler.is_enabled()):
            graphs, why = False, "of several workers" if shard[1] > 1 else "with a scaled loss (float16)"
            self.note = (
                f"training.graph=auto: steps are launched operator by operator, since one {why} is not captured."
            )
        self.optimizer = make_optimizer(recipe, parameters, graphs)
        self.graphed = GraphedStep(self.forward_backward, self.optimizer, objective) if graphs else None

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
        self.waited = 0.0
        devices = [] if self.device == "cpu" else [torch.cuda.current_device()]
        with torch.random.fork_rng(devices=devices), uncounted(self.model, self.steps):
            torch.manual_seed(seed + self.shard[0])  # of dropout and mixup
            batches = self.data.batches(self.recipe.batch, generator, self.shard)
            for index, (images, targets) in enumerate(batches, start=epoch * self.steps):
                total += self.step(images, targets, self.learning_rate(index))
                self.waited += self.between()
        if self.shard[1] > 1:
            all_reduce(total)
        loss = float(total) / self.steps / self.shard[1]
        if not math.isfinite(loss):
            raise DivergedError(f"the training loss became {loss} in epoch {epoch + 1}; try a lower learning rate.")
        scores = self.evaluate(self.model) if self.shard[0] == 0 else {"accuracy": math.nan}
        accuracy = scores.pop("accuracy")
        self.curve.append(EpochResult(epoch + 1, accuracy, loss, time.perf_counter() - start, scores, self.waited))
        return self.curve[-1]

    def step(self, images: Tensor, targets: Tensor, learning_rate: float) -> Tensor:
        """Take one step and return the loss, detached."""
        if self.recipe.mixup:
            images, targets = v2.MixUp(alpha=self.recipe.mixup, num_classes=self.data.classes)(images, targets)
        images = images.contiguous(memory_format=self.layout)
        if self.graphed is not None and not self.graphed.refused:
            loss = self.graphed(images, targets, learning_rate)
            self.note = self.graphed.refused
            return loss
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.zero_grad()
        return self.forward_backward(images, targets)

    def forward_backward(self, images: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of a batch, detached, after a step against its gradient; gradients are none before."""
        dtype = torch.float16 if self.precision == "float16" else torch.bfloat16
        with torch.autocast(self.device, dtype, enabled=self.precision != "float32"):
            loss, objective = self.objective(images, targets)
        self.scaler.scale(objective).backward()
        if self.recipe.clip is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.objective.parameters(), self.recipe.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
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

        The distance is the largest difference on the validation split, relative to the largest output, in float32
        without TF32.
        """
        meter = self.task.meter()
        with switches(tf32=False):
            return meter, self.distance(self.model, converted, meter)

    def distance(
        self, trained: nn.Module, converted: nn.Module, meter: Meter | None = None, dtype: torch.dtype | None = None
    ) -> float:
        """Return the largest difference of two networks' outputs on the validation split, relative to the largest.

        Args:
            trained: the first, whose outputs set the scale.
            converted: the second.
            meter: told the second one's outputs.
            dtype: that the images are cast to.
        """
        difference = largest = torch.zeros((), device=self.device)
        for (first, second), targets in self.outputs(self.data.held_out(), trained, converted, dtype=dtype):
            if meter is not None:
                meter.update(second, targets)
            difference = torch.maximum(difference, (first - second).abs().max())
            largest = torch.maximum(largest, first.abs().max())
        return relative(float(difference), float(largest))

    def outputs(
        self, batches: Iterator[Batch], *models: nn.Module, dtype: torch.dtype | None = None
    ) -> Iterator[tuple[list[Tensor], Tensor]]:
        """Yield the outputs of each model for each batch, and the targets.

        Raises:
            DivergedError: after the last batch, if an output was not finite.
        """
        for model in models:
            model.eval()
        finite = torch.ones((), dtype=torch.bool, device=self.device)
        with torch.inference_mode():
            for images, targets in batches:
                found = [model(images.to(dtype)) for model in models]
                for outputs in found:
                    finite &= outputs.isfinite().all()
                yield found, targets
                self.waited += self.between()
        if not finite:
            raise DivergedError("an output on held-out images is not finite; try a lower learning rate.")

    def save(self, path: Path, owner: Owner) -> None:
        """Write a checkpoint whole or not at all."""
        state = {
            "model": self.model.state_dict(),
            "task": self.task.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "curve": [asdict(result) for result in self.curve],
        }
        write(path, owner, state)

    def restore(self, path: Path, owner: Owner) -> None:
        """Go on from a checkpoint.

        Raises:
            CheckpointError: if it is of another training, or cannot be read; nothing is changed then.
        """
        state = read(path, owner, self.device)
        self.model.load_state_dict(state["model"])
        self.task.load_state_dict(state["task"])
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self.curve = [EpochResult(**result) for result in state["curve"]]


class Objective(nn.Module):
    """Network, task and penalties as one module, which data-parallel training needs to see whole."""

    def __init__(self, model: nn.Module, task: Task, recipe: Recipe) -> None:
        super().__init__()
        self.model, self.task = model, task
        self.penalties = [
            (factor, penalty)
            for factor, penalty in ((recipe.fc3_penalty, distance_penalty), (recipe.fc3_range, range_penalty))
            if factor
        ]

    def forward(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the task's loss, and what is minimised."""
        loss = minimised = self.task.loss(self.model(images), targets)
        for factor, penalty in self.penalties:
            minimised = minimised + factor * penalty(self.model)
        return loss, minimised


def relative(difference: float, largest: float) -> float:
    """Return a difference as a share of the largest output, which is 0 where a network is dead."""
    return difference / largest if largest else math.inf if difference else 0.0


def make_task(name: TaskName, source: Source, outputs: int, recipe: Recipe) -> Task:
    """Return the task of a source, for a network of so many outputs."""
    if name == "recognition":
        return Recognition(source.classes, outputs, recipe.margin, recipe.logit_scale)
    if name == "segmentation":
        return Segmentation(source.classes, source.class_names)
    return Classification(recipe.label_smoothing)


def make_optimizer(recipe: Recipe, parameters: list[nn.Parameter], capturable: bool) -> torch.optim.Optimizer:
    """Return the recipe's optimizer, whose weight decay spares biases and normalisation."""
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.learning_rate, fused=True, capturable=capturable)
    nesterov = recipe.nesterov and recipe.momentum > 0
    return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum, nesterov=nesterov, fused=True)


def parallel(model: nn.Module, sync_bn: bool) -> nn.Module:
    """Return the data-parallel form, whose gradients are means over all workers; the first one's BN statistics count.

    Args:
        model: on its worker's device.
        sync_bn: whether BN's statistics are those of all workers, for GPUs.
    """
    if sync_bn:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch 2.15 has another name, which 2.11 does not know
        return DistributedDataParallel(model, broadcast_buffers=False)


@contextmanager
def uncounted(model: nn.Module, steps: int) -> Iterator[None]:
    """Let BN leave its count of batches alone, an operator a BN and step, and add `steps` to it in the end.

    A BN without momentum averages over all batches, and needs its count.
    """
    counts = {
        bn: bn.num_batches_tracked
        for bn in model.modules()
        if isinstance(bn, _BatchNorm) and bn.momentum is not None and bn.num_batches_tracked is not None
    }
    for bn in counts:
        bn.num_batches_tracked = None
    try:
        yield
    finally:
        for bn, count in counts.items():
            bn.num_batches_tracked = count.add_(steps)
