"""Candidates that go wrong, by a name under which worker processes find them."""

import os
import signal
import time
from pathlib import Path

import torch

from search.candidate import Candidate, Report


class Breaks(Candidate):
    """Raises what nobody expects."""

    def advance(self) -> Report:
        raise KeyError("no such layer")


class Dies(Candidate):
    """Loses its process in the third epoch, once."""

    def advance(self) -> Report:
        mark = Path(self.job.folder) / "died"
        if self.trainer is not None and len(self.trainer.curve) == 2 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().advance()


class SecondFails(Candidate):
    """In the second epoch the second worker of a group fails, while the first one waits for it in a collective."""

    error: Exception = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    def train(self) -> Report:
        if self.shard[0] == 1 and self.trainer is not None:
            (Path(self.job.folder) / "failed_at").write_text(str(time.time()))
            raise self.error
        return super().train()


class SecondBreaks(SecondFails):
    """The same with what nobody expects."""

    error = KeyError("no such rank")
