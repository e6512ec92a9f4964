"""The trained networks of a run."""

from typing import TYPE_CHECKING

from record.run import Run, RunError
from repmlp import build, convert
from results.choice import Rule, choose

if TYPE_CHECKING:
    from torch import nn


def most_accurate(run: Run) -> int:
    """Return the number of the most accurate trial in validation; see `results.choice.choose`.

    Raises:
        RunError: if none is complete.
    """
    try:
        return choose(run.trials, Rule.max_accuracy, run.objectives, run.maximise)
    except ValueError:
        raise RunError(f"{run.source or run.name} has no complete trial yet.") from None


def trained(run: Run, number: int) -> "nn.Module":
    """Return the network of a trial with its trained weights, in eval mode.

    Raises:
        RunError: if the run has none, or their file is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = run.folder / "weights"
    path = folder / f"{number}.safetensors"
    found = {trial.number: trial for trial in run.entries}
    if not path.is_file():
        kept = ", ".join(sorted((p.stem for p in folder.glob("*.safetensors")), key=int)) or "none"
        problem = "has no trained weights in" if number in found else "is not in this run; weights are in"
        raise RunError(f"trial {number} {problem} {folder}; these have: {kept}.")
    model = build(found[number].network)
    try:
        model.load_state_dict(load_file(path))
    except SafetensorError as error:
        raise RunError(f"{path} is damaged or truncated ({error}); train the trial again.") from None
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()
        raise RunError(f"{path} does not hold the network of trial {number}: {reason}") from None
    return model.eval()


def load(run: Run, trial: int | None = None, *, best: bool = False) -> "nn.Module":
    """Return the trained network of a trial, converted, in eval mode.

    Args:
        run: where it is.
        trial: its number; None takes the most accurate one in validation.
        best: says the same by name.

    Raises:
        RunError: if both are given, or there is no such network.
    """
    if best and trial is not None:
        raise RunError(f"trial={trial} and best=True were given; give one of them.")
    return convert(trained(run, most_accurate(run) if trial is None else trial))
