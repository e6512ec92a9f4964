"""Where a run was made, in a sentence."""

from record.measure import DEFAULT
from record.run import Run


def made_on(run: Run) -> str:
    """Say when, where and with what a run was last gone on with; empty if it does not say."""
    if not run.environments:
        return ""
    last = run.environments[-1]
    where = f"{last['gpu']}, {last['processor']}" if last["gpu"] else last["processor"]
    versions = ", ".join(f"{name} {version}" for name, version in last["packages"].items() if version)
    return (
        f"Made {last['date'][:10]} at commit {(last['commit'] or 'unknown')[:12]} on {where} ({last['cores']} cores, "
        f"{last['system']}), Python {last['python']}, {versions}. {training(run)}."
    )


def training(run: Run) -> str:
    """Say in which precision and for how long all has been trained, and how long of that it waited for measurements."""
    seconds, waited = run.epochs["seconds"].sum(), run.epochs["waited"].sum()
    text = f"Training took {seconds / 3600:.2f} hours in all, in {run.study.training.precision}"
    return f"{text}; {waited / seconds:.1%} of them passed in waiting for measurements" if waited else text


def measured_at(run: Run) -> str:
    """Say under which conditions networks were measured, at each measurement point."""
    said = {}
    for name, point in run.study.points.items():
        runtime = "" if point.runtime in ("torch", "cuda-graph") else f", {point.runtime}"
        said[name] = f"batch {point.batch}, {point.dtype}{runtime}"
    if list(said) == [DEFAULT]:
        return f"at {said[DEFAULT]}"
    return f"at {', '.join(f'{name} ({text})' for name, text in said.items())}"
