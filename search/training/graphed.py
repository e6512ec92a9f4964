"""A training step replayed as one CUDA graph."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

WARM_UP = 3
"""Steps launched one by one before the capture, so that whatever is allocated once is there; they count as training."""
CHECKED = 2
"""Replays that are compared with the same steps launched one by one."""
TOLERANCE = 1e-2
"""Largest difference of loss, weights and statistics between both, relative to the largest value of each tensor:
bfloat16 products differ by the order of summation."""


class GraphedStep:
    """Takes training steps, after the first few by replaying one captured step on buffers that stay where they are.

    The first replays are compared with the same steps launched one by one; where a step cannot be captured, or does
    not come out the same, steps go on one by one and `refused` says why.

    Args:
        step: from images and targets to the loss, detached, after a step of `optimizer`; gradients are none before it.
        optimizer: fused, so that it takes its rate as a tensor.
        module: whose weights are trained.
    """

    def __init__(
        self,
        step: Callable[[Tensor, Tensor], Tensor],
        optimizer: torch.optim.Optimizer,
        module: nn.Module,
    ) -> None:
        self.step, self.optimizer, self.module = step, optimizer, module
        self.rate = torch.zeros((), device=next(module.parameters()).device)
        self.steps = 0
        self.refused = ""
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, images: Tensor, targets: Tensor, learning_rate: float) -> Tensor:
        """Take a step; return its loss, which stays as it is in later steps."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate
        self.rate.fill_(learning_rate)
        self.steps += 1
        if self.steps <= WARM_UP:
            return self.launched(images, targets)
        if self.graph is None:
            try:
                self.capture(images, targets)
            except RuntimeError as error:
                self.refuse(f"it cannot be captured: {str(error).splitlines()[0]}")
                return self.launched(images, targets)
        if self.steps <= WARM_UP + CHECKED:
            return self.compared(images, targets)
        return self.replayed(images, targets)

    def launched(self, images: Tensor, targets: Tensor) -> Tensor:
        """Take a step operator by operator, on a stream of its own, as a capture wants it."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self.optimizer.zero_grad(set_to_none=True)
            loss = self.step(images, targets)
        torch.cuda.current_stream().wait_stream(stream)
        return loss

    def capture(self, images: Tensor, targets: Tensor) -> None:
        """Capture a step on copies of images and targets; nothing is trained by it."""
        self.images, self.targets = images.clone(), targets.clone()
        self.optimizer.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.loss = self.step(self.images, self.targets)
        self.graph = graph

    def replayed(self, images: Tensor, targets: Tensor) -> Tensor:
        """Take a step by replaying the captured one."""
        assert self.graph is not None
        self.images.copy_(images)
        self.targets.copy_(targets)
        self.graph.replay()
        return self.loss.clone()

    def compared(self, images: Tensor, targets: Tensor) -> Tensor:
        """Take a step both ways from the same state, and keep the replay's if they come out the same."""
        before, generator = self.snapshot(), torch.cuda.get_rng_state()
        loss = self.replayed(images, targets)
        after, moved = self.snapshot(), torch.cuda.get_rng_state()
        self.put_back(before)
        torch.cuda.set_rng_state(generator)
        expected = self.launched(images, targets)
        wrong = max(relative(a, b) for a, b in zip([loss, *after], [expected, *self.tensors()], strict=True))
        if not wrong <= TOLERANCE:
            self.refuse(f"its replay differs by {wrong:.1e}")
            return expected
        self.put_back(after)
        torch.cuda.set_rng_state(moved)
        return loss

    def refuse(self, why: str) -> None:
        """Go on without a graph."""
        self.graph = None
        self.refused = f"training.graph=auto: the step is launched operator by operator, since {why}."

    def tensors(self) -> list[Tensor]:
        """Return what a step changes: weights, statistics, and what the optimizer keeps of each weight."""
        kept = [v for state in self.optimizer.state.values() for v in state.values() if isinstance(v, Tensor)]
        return [*self.module.parameters(), *self.module.buffers(), *kept]

    def snapshot(self) -> list[Tensor]:
        """Return copies of what a step changes."""
        return [t.detach().clone() for t in self.tensors()]

    @torch.no_grad()
    def put_back(self, copies: Sequence[Tensor]) -> None:
        """Restore what `snapshot` copied, in place."""
        for tensor, copy in zip(self.tensors(), copies, strict=True):
            tensor.copy_(copy)


def relative(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference relative to the largest value."""
    return float((found - expected.detach()).abs().max() / expected.detach().abs().max().clamp_min(1e-6))
