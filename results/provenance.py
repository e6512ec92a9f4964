"""Where a run was made, in a sentence."""

from results.frames import Run


def made_on(run: Run) -> str:
    """Say when, where and with what a run was last gone on with; empty if it does not say."""
    if not run.environments:
        return ""
    last = run.environments[-1]
    where = f"{last['gpu']}, {last['processor']}" if last["gpu"] else last["processor"]
    versions = ", ".join(f"{name} {version}" for name, version in last["packages"].items() if version)
    hours = run.trials["seconds"].sum() / 3600
    return (
        f"Made {last['date'][:10]} at commit {(last['commit'] or 'unknown')[:12]} on {where} ({last['cores']} cores, "
        f"{last['system']}), Python {last['python']}, {versions}; {hours:.2f} hours of training in all, in "
        f"{run.study['training']['precision']}{waiting(run)}."
    )


def waiting(run: Run) -> str:
    """Say which share of its time training has waited for measurements; empty if it never did."""
    waited = run.epochs["waited"].sum()
    return f", {waited / run.epochs['seconds'].sum():.1%} of them waiting for measurements" if waited else ""
