"""What a new study begins with: networks that it names, and what earlier runs know."""

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from record.folders import hidden, opened, whole
from record.front import front_of
from record.run import Run, RunError, open_run
from record.same import measures_alike, trains_alike
from record.study import Search, Study, StudyError
from record.trial import State
from search.journal import Journal
from search.networks import Networks
from search.samplers.proposing import Params
from spaces.choices import Preset, Recorded
from spaces.named import WAYS
from spaces.starts import PAPER


def begin(study: Study, networks: Networks, journal: Journal) -> None:
    """Take over what earlier runs know, then put the networks to start with in front of the sampler's.

    Raises:
        StudyError: if a run cannot be read, or a network to start with is not one of the space's.
    """
    if "begun" in journal.optuna.user_attrs or not isinstance(study, Search):
        return
    for values in rivals(study, networks):
        journal.enqueue({}, values)
    first = starts(study, networks)
    for run in study.from_runs:
        first += take_over(run, study, networks, journal)
    for params in first:
        journal.enqueue(params)
    journal.optuna.set_user_attr("begun", True)


def check(study: Study, networks: Networks) -> None:
    """Raise StudyError unless all that a study is to begin with is there; nothing is written."""
    if isinstance(study, Search):
        starts(study, networks)
        rivals(study, networks)
        for run in study.from_runs:
            read_earlier(run)


def rivals(study: Search, networks: Networks) -> list[dict[str, Any]]:
    """Return the descriptions of networks to start with that need not be the space's."""
    found = [wanted for wanted in study.start_with if isinstance(wanted, dict) and not set(WAYS).isdisjoint(wanted)]
    for values in found:
        try:
            networks.given(values)
        except ValueError as error:
            raise StudyError(f"start_with: {error}") from None
    return found


def starts(study: Search, networks: Networks) -> list[Params]:
    """Return the parameters of the space's networks that the study names."""
    found: list[Params] = []
    others = rivals(study, networks)
    for wanted in (wanted for wanted in study.start_with if wanted not in others):
        if wanted == "paper":
            drawn = [Preset(params) for params in PAPER.values()]
            for preset in drawn:
                networks.suggest(preset)
            fitting = [preset.params for preset in drawn if preset.fits]
            if not any(preset.fits and preset.wanted for preset in drawn):
                raise StudyError("start_with=paper: the space holds no network of the paper's Tables 2-4.")
            found += fitting
        else:
            preset = Preset(wanted)
            networks.suggest(preset)
            refuse(preset)
            found.append(preset.params)
    return found


def refuse(preset: Preset) -> None:
    """Raise StudyError unless everything that a preset wants was asked and offered."""
    for name, offered in preset.refused.items():
        raise StudyError(
            f"start_with: {name}={preset.wanted[name]!r} is not offered; there are {', '.join(map(str, offered))}."
        )
    never = sorted(set(preset.wanted) - preset.asked)
    if never:
        raise StudyError(
            f"start_with: {never[0]} is not asked; parameters of that network are {', '.join(sorted(preset.asked))}."
        )


def take_over(run: str, study: Search, networks: Networks, journal: Journal) -> list[Params]:
    """Take over the results of an earlier run if they are what this study would get; else return its front.

    Its complete trials are complete here, without training; those that were stopped early, after as many epochs as the
    first rung, teach the sampler. Neither counts against the budget. Networks that this space does not hold are left
    out.
    """
    earlier = read_earlier(run)
    alike = trains_alike(earlier.study, study) and (measures_alike(earlier.study, study) or not study.times)
    best = set(front_of(earlier))
    front: list[Params] = []
    for trial in earlier.entries:
        if not trial.config or trial.twin is not None:
            continue
        preset = Preset(trial.params)
        if networks.identify(networks.suggest(preset))[1] != trial.training_id:
            continue
        stopped = trial.state is State.stopped and len(trial.curve) >= study.budgets[0]
        if not alike and trial.number in best:
            front.append(preset.params)
        elif alike and (trial.state is State.complete or stopped) and trial.training not in journal.first:
            journal.optuna.enqueue_trial(preset.params)
            live = journal.optuna.ask()
            asked = Recorded(live)
            description = networks.describe(networks.suggest(asked))
            known = journal.add(live, asked.params, description, trial.seed)
            keep_weights(earlier.folder, trial.number, study.folder, known.number)
            journal.take_over(known, trial, hidden(f"{run} trial {trial.number}"))
    return front


def keep_weights(run: Path, number: int, folder: Path, here: int) -> None:
    """Copy the trained weights of a trial, where there are any."""
    weights = run / "weights" / f"{number}.safetensors"
    target = folder / "weights" / f"{here}.safetensors"
    with suppress(FileNotFoundError), opened(weights) as source, whole(target) as part, part.open("wb") as file:
        shutil.copyfileobj(source, file)


def read_earlier(run: str) -> Run:
    """Return an earlier run; nothing of it is changed.

    Raises:
        StudyError: if there is none.
    """
    try:
        return open_run(run)
    except RunError as error:
        raise StudyError(f"from_runs: {error}") from None
