"""What must hold of a run that was hurt."""

from dataclasses import dataclass, field
from typing import Any

from benchmarks.faults.worlds import World
from record.front import front_of
from record.run import Run
from record.trial import Trial
from repmlp import config_from_dict, convert
from results.weights import trained
from search.training.trainer import Trainer

ENDED = "complete", "stopped", "duplicate", "infeasible", "failed"


@dataclass
class Verdict:
    """What was found wrong."""

    violations: list[str] = field(default_factory=list)
    lost: int = 0
    """Trials that had ended and are not there as they were."""
    retrained: int = 0
    """Trials that had ended and were trained again."""


def ended(run: Run | None) -> dict[int, Trial]:
    """Return the trials that have ended, by number; those that died before their network was chosen are none."""
    return {t.number: t for t in run.entries if t.state in ENDED and t.config} if run else {}


def kept(before: dict[int, Trial], after: Run | None) -> Verdict:
    """Hold what had ended before a fault against what is there now."""
    verdict = Verdict()
    now = {t.number: t for t in after.entries} if after else {}
    for number, was in before.items():
        found = now.get(number)
        if found is not None and found.curve != was.curve:
            verdict.retrained += 1
            verdict.violations.append(f"trial {number} was trained again")
        elif found is None or as_told(found) != as_told(was):
            verdict.lost += 1
            verdict.violations.append(f"trial {number} was {as_told(was)} and is {found and as_told(found)}")
    for trial in now.values():
        epochs = [result.epoch for result in trial.curve]
        if epochs != list(range(1, len(epochs) + 1)):
            verdict.violations.append(f"trial {trial.number} has the epochs {epochs}")
        if trial.state == "failed" and trial.config:
            verdict.violations.append(f"trial {trial.number} failed: {trial.reason}")
    return verdict


def as_told(trial: Trial) -> tuple[Any, ...]:
    """Return what counts of a trial that has ended."""
    return str(trial.state), trial.training_id, trial.seed, trial.final, trial.end


def finished(world: World, run: Run, undisturbed: Run) -> list[str]:
    """Hold a run that has come to its end against the one that nothing befell."""
    wrong = [f"trial {t.number} is {t.state} at the end" for t in run.entries if t.config and t.state not in ENDED]
    counted = [t for t in run.entries if t.config and t.state in ("complete", "stopped")]
    if len(counted) != run.study.budget:
        wrong.append(f"{len(counted)} trials were trained of {run.study.budget}")
    expected = {(t.training_id, t.seed): t for t in undisturbed.entries}
    for trial in run.entries:
        if trial.state != "complete":
            continue
        known = expected.get((trial.training_id, trial.seed))
        if known is None or known.final is None or trial.final is None:
            continue
        if trial.final.accuracy != known.final.accuracy:
            wrong.append(f"trial {trial.number} has {trial.final.accuracy} %, undisturbed {known.final.accuracy} %")
    queued_again = any(not t.config for t in run.entries)  # so that networks came in another order
    if not (world.shape == "halving" and queued_again) and front(run) != front(undisturbed):
        wrong.append(f"the front is {front(run)}, undisturbed {front(undisturbed)}")
    wrong += [f"trial {t.number}: its weights give {a} %, recorded {b} %" for t, a, b in accuracies(run) if a != b]
    left = [*world.local.rglob("*.part"), *(world.folder / "tmp").glob("repmlp*")]
    return wrong + [f"left behind: {path.name}" for path in left]


def front(run: Run) -> list[tuple[str, int, float]]:
    """Return the front by networks, not by numbers."""
    trials = {t.number: t for t in run.entries}
    members = [trials[number] for number in front_of(run)]
    return sorted((t.training_id, t.seed, t.final.accuracy) for t in members if t.final)


def accuracies(run: Run) -> list[tuple[Trial, float, float]]:
    """Return, of each complete trial, what its trained weights give once converted, and what is recorded."""
    study, found = run.study, []
    for trial in run.entries:
        if trial.state == "complete" and trial.final and trial.twin is None:
            trainer = Trainer(config_from_dict(trial.config), study.data, study.training, trial.seed)
            trainer.model.load_state_dict(trained(run, trial.number).state_dict())
            meter, _ = trainer.compare(convert(trainer.model))
            found.append((trial, meter.compute()["accuracy"], trial.final.accuracy))
    return found
