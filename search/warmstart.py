"""What a new study begins with: networks that it names, and what earlier runs know."""

import shutil
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from pydantic import ValidationError

from record.stored import upgraded
from search.journal import Journal, entry_of
from search.networks import Networks
from search.samplers.proposing import Params
from search.study import Study, StudyError
from spaces.choices import Preset
from spaces.starts import PAPER


def begin(study: Study, networks: Networks, journal: Journal) -> None:
    """Take over what earlier runs know, then put the networks to start with in front of the sampler's.

    Raises:
        StudyError: if a run cannot be read, or a network to start with is not one of the space's.
    """
    if "begun" in journal.optuna.user_attrs:
        return
    first = starts(study, networks)
    for run in study.from_runs:
        first += take_over(run, study, networks, journal)
    for params in first:
        journal.optuna.enqueue_trial(params, skip_if_exists=True)
    journal.optuna.set_user_attr("begun", True)


def check(study: Study, networks: Networks) -> None:
    """Raise StudyError unless all that a study is to begin with is there; nothing is written."""
    starts(study, networks)
    for run in study.from_runs:
        read_earlier(run)


def starts(study: Study, networks: Networks) -> list[Params]:
    """Return the parameters of the networks that the study names."""
    found: list[Params] = []
    for wanted in study.start_with:
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


def take_over(run: str, study: Study, networks: Networks, journal: Journal) -> list[Params]:
    """Take over the results of an earlier run if they are what this study would get; else return its front.

    Its complete trials are complete here, without training; those that were stopped early, after as many epochs as the
    first rung, teach the sampler. Neither counts against the budget. Networks that this space does not hold are left
    out.
    """
    earlier, loaded = read_earlier(run)
    alike = comparable(earlier, study)
    best = {t.number for t in loaded.best_trials}
    front: list[Params] = []
    for trial in loaded.get_trials(deepcopy=False):
        entry = entry_of(loaded, trial)
        if entry is None or entry.twin is not None:
            continue
        preset = Preset(trial.params, exact=True)
        if networks.identify(networks.suggest(preset))[1] != entry.training_id:
            continue
        stopped = entry.outcome == "stopped" and len(entry.curve) >= study.budgets[0]
        if not alike and entry.number in best:
            front.append(preset.params)
        elif alike and (entry.outcome == "complete" or stopped) and entry.training not in journal.first:
            journal.optuna.enqueue_trial(preset.params)
            live = journal.optuna.ask()
            known = journal.add(live, networks.describe(networks.suggest(live)), entry.seed)
            keep_weights(Path(run), entry.number, study.folder, known.number)
            journal.take_over(known, entry, f"{run} trial {entry.number}")
    return front


def keep_weights(run: Path, number: int, folder: Path, here: int) -> None:
    """Copy the trained weights of a trial, where there are any."""
    weights = run / "weights" / f"{number}.safetensors"
    if weights.is_file():
        (folder / "weights").mkdir(parents=True, exist_ok=True)
        shutil.copyfile(weights, folder / "weights" / f"{here}.safetensors")


def comparable(earlier: Study, study: Study) -> bool:
    """Whether both train and judge alike, and measure alike where speed counts; where the data lies does not matter."""

    def defined(by: Study) -> object:
        speed = {"throughput", "latency"} & set(study.objectives)
        return (
            by.training,
            by.data.model_dump(exclude={"root", "download"}),
            (by.measure, by.resources.device) if speed else None,
        )

    return defined(earlier) == defined(study)


def read_earlier(run: str) -> tuple[Study, optuna.Study]:
    """Return the definition and the trials of a run; nothing of it is changed.

    Raises:
        StudyError: if there is none.
    """
    url, _, name = run.rpartition("#")
    path = Path(run) / "journal.log"
    try:
        if url and "://" in url:
            loaded = optuna.load_study(study_name=name, storage=url)
        elif path.is_file():
            storage = JournalStorage(JournalFileBackend(str(path)))
            loaded = optuna.load_study(study_name=storage.get_all_studies()[0].study_name, storage=storage)
        else:
            raise StudyError(f"from_runs: {run} is not a run folder, since {path} does not exist.")
        return Study.model_validate(upgraded(loaded.user_attrs["study"])), loaded
    except (KeyError, IndexError, OSError, ImportError, ValidationError) as error:
        raise StudyError(f"from_runs: {run} cannot be read as a run: {error}") from None
