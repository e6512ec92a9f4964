"""The trained networks of a run."""

from safetensors import SafetensorError
from safetensors.torch import load as tensors
from torch import nn

from record.folders import opened
from record.run import Run, RunError
from repmlp import build, config_from_dict, convert
from results.choice import best_trial


def load(run: Run, trial: int | None = None, *, best: bool = False) -> nn.Module:
    """Return the trained network of a trial, converted, in eval mode on the CPU.

    Without a number, or with `best`, which says so, it is that of `results.choice.best_trial`.

    Raises:
        RunError: as `trained`, or if no trial is complete.
    """
    if best and trial is not None:
        raise RunError(f"trial={trial} and best=True are two answers to one question; give one of them.")
    return convert(trained(run, best_trial(run) if trial is None else trial))


def trained(run: Run, trial: int) -> nn.Module:
    """Return the network of a trial with its trained weights, unconverted, in eval mode on the CPU.

    Raises:
        RunError: if the run has no weights of it, or they are damaged or of another network.
    """
    folder = run.folder / "weights"
    path = folder / f"{trial}.safetensors"
    known = trial in run.trials.index
    if not known or not path.is_file():
        kept = ", ".join(sorted((p.stem for p in folder.glob("*.safetensors")), key=int)) or "none"
        problem = "has no trained weights in" if known else "is not in this run; weights are in"
        raise RunError(f"trial {trial} {problem} {folder}; these have: {kept}.")
    model = build(config_from_dict(run.trials["config"][trial]))
    try:
        with opened(path) as file:
            model.load_state_dict(tensors(file.read()))
    except SafetensorError as error:
        raise RunError(f"{path} is damaged or truncated ({error}); train the trial again.") from None
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()
        raise RunError(f"{path} does not hold the network of trial {trial}: {reason}") from None
    return model.eval()
