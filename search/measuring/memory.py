"""What memory inference needs: of a GPU by its allocator, else by what a fresh process grows."""

import os
import pickle
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import torch

from search.measuring.runtimes import MeasureError, Queued, Subject, named
from search.measuring.switches import switches

PASSES = 3
CHILD = "import sys; from search.measuring.memory import grow; grow(*sys.argv[1:])"


def peak_memory(subject: Subject) -> dict[str, float]:
    """Return the bytes that inference needs at most, weights included.

    On a CPU it is what a fresh process grows by from before it holds the network to the peak of its forward passes;
    what it needs only to load the network is not counted.

    Raises:
        MeasureError: where that cannot be told.
    """
    if subject.point.device == "cuda":
        return {"peak_memory": float(on_gpu(subject))}
    if subject.point.runtime == "command" or not Path("/proc/self/clear_refs").exists():
        raise MeasureError("peak_memory is measured of runtimes of this tool, on a GPU or on Linux; leave it out here.")
    given = subject.folder / "subject.pickle"
    alike = replace(subject, alone=nullcontext)
    if subject.runtime.reads:
        alike = replace(alike, model=torch.nn.Identity())
        alike.__dict__["file"] = subject.file
    given.write_bytes(pickle.dumps(alike))
    path = {"PYTHONPATH": os.pathsep.join(p or str(Path.cwd()) for p in sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(given), subject.point.runtime],
        env=os.environ | path,
        capture_output=True,
        text=True,
    )
    given.unlink()
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise MeasureError(f"peak_memory: the process that measures it failed: {said[-1] if said else 'no word'}")
    return {"peak_memory": float(done.stdout.split()[-1])}


def on_gpu(subject: Subject) -> int:
    """Return the bytes of the weights and of what the allocator holds beside them at most."""
    runner = subject.runner
    if not isinstance(runner, Queued):
        raise MeasureError("peak_memory on a GPU is known of PyTorch's runtimes; leave it out here.")
    weights = [*subject.model.parameters(), *subject.model.buffers()]
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    (runner.eager or runner.run)()
    torch.cuda.synchronize()
    images = subject.images.numel() * getattr(torch, subject.point.dtype).itemsize
    return torch.cuda.max_memory_allocated() - before + images + sum(t.numel() * t.element_size() for t in weights)


@torch.inference_mode()
def grow(given: str, runtime: str) -> None:
    """Print by how many bytes this process grows; it loads what runs the network before it loads the network."""
    torch.nn.Conv2d(3, 3, 3)(torch.zeros(1, 3, 8, 8))
    if reads := named(runtime).reads:
        import_module(reads)
    before = resident("VmRSS")
    subject: Subject = pickle.loads(Path(given).read_bytes())
    with switches(subject.point.tf32, subject.point.threads):
        runner = subject.runner
        Path("/proc/self/clear_refs").write_text("5")  # the peak from now on
        for _ in range(PASSES):
            runner.run()
    print(resident("VmHWM") - before)


def resident(which: str) -> int:
    """Return a figure of /proc/self/status in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(which))
    return 1024 * int(line.split()[1])
