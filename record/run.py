"""A run: a study that has been started, as its storage holds it, with its trials and frames of them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
from optuna.exceptions import StorageInternalError
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from record.files import explained
from record.folders import UnreachableError, elsewhere, folder_at, hidden
from record.measure import DEFAULT
from record.plugins import called
from record.quantities import QUANTITIES, Quantity
from record.segments import Segments
from record.stored import second_measurements, study_values, trial_attributes
from record.study import Study, kind_of
from record.trial import Trial, restored

BEFORE = ("training_macs", "training_params")
"""Counts of the network before its conversion, which are known of listed networks."""
DTYPES = {
    "outcome": "str",
    "reason": "str",
    "twin": "Int64",
    "origin": "str",
    "images": "Int64",
    "test": "float64",
    "test_images": "Int64",
    "throughput_p10": "float64",
    "throughput_p90": "float64",
    "steady": "boolean",
    "host_bound": "boolean",
    "device": "str",
    "training_macs": "Int64",
    "training_params": "Int64",
    "epochs": "Int64",
    "start": "datetime64[us]",
    "end": "datetime64[us]",
    "seed": "Int64",
    "config": "object",
    "training_id": "str",
    "deploy_id": "str",
}
"""Columns of the frame of trials beside the quantities and the parameters, and their types."""
WHOLE = ("macs", "params")
"""Quantities that are whole numbers."""


DATABASE = StorageInternalError, SQLAlchemyError
"""What a database raises that is stopped or gone."""
DAMAGE = AssertionError, AttributeError, IndexError, KeyError, TypeError, ValueError
"""What reading a damaged record raises."""


class RunError(ValueError):
    """A run that cannot be read; the message says what to give."""


@dataclass
class Run:
    """A study that has been started.

    Methods that draw, pick or export lie on higher floors, and are found by their names, so that this one needs none.
    """

    study: Study
    entries: list[Trial]
    """All trials, by number."""
    reference: dict[str, float] = field(default_factory=dict)
    """Reference point of the hypervolume, fixed when the study started."""
    environments: list[dict[str, Any]] = field(default_factory=list)
    """Where and how it was run, one entry each time."""
    source: str = ""
    """As commands are given it: the run folder, or URL#NAME."""
    folder: Path = Path()
    """Where weights and reports are; one elsewhere is of universal_pathlib."""

    @property
    def name(self) -> str:
        return self.study.name

    @cached_property
    def objectives(self) -> list[str]:
        """Names, which are columns of `trials`."""
        return [q.name for q in self.study.quantities]

    @property
    def local(self) -> Path:
        """Where to write what is read here next: the run folder, or runs/NAME if that is elsewhere."""
        return self.folder if isinstance(self.folder, Path) else Path("runs") / self.name

    @property
    def maximise(self) -> list[bool]:
        """Whether more is better, an entry an objective."""
        return self.study.maximised

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row a trial, see `trials_frame`."""
        return trials_frame(self.entries, self.study)

    @cached_property
    def epochs(self) -> pd.DataFrame:
        """One row an epoch, see `epochs_frame`."""
        return epochs_frame(self.entries)

    def front(self) -> pd.DataFrame:
        """Return the trials that no other one beats in all objectives, most accurate first, see `results.front`."""
        return called("results.front:front", self)

    def figure(self, path: str | Path) -> None:
        """Draw the front into a .pdf, .svg or .png, see `results.figures`."""
        called("results.figures:write", self, folder_at(str(path)))

    def report(self, path: str | Path | None = None) -> Path:
        """Write the report, one HTML file that works offline; in the run folder by default. See `results.report`."""
        return called("results.report:report", self, path)

    def pick(self, rule: str = "max-accuracy", trial: int | None = None, **limits: float) -> Any:
        """Choose the network to deploy among the trials that keep some limits, see `deploy.pick`."""
        return called("deploy:pick", self, rule, trial, **limits)

    def load(self, trial: int | None = None, *, best: bool = False) -> Any:
        """Return the trained network of a trial, or of the best one, converted, see `deploy.load`."""
        return called("deploy:load", self, trial, best=best)

    def export(self, folder: str | Path, *given: Any, **options: Any) -> pd.DataFrame:
        """Export the trained network of a trial, or of the best one, in some formats, verified, see `deploy.export`."""
        return called("deploy:export", self, folder, *given, **options)


def open_run(run: str | Path) -> Run:
    """Open a run for reading.

    Args:
        run: a run folder, such as runs/default, or an Optuna storage URL and study name as URL#NAME.

    Raises:
        RunError: if there is no such run, or it holds no study.
    """
    loaded = open_study(str(run))
    attributes = loaded.user_attrs
    if "objectives" not in attributes:
        raise RunError(f"{hidden(str(run))} holds the Optuna study {loaded.study_name}, but not one of run_search.py.")
    study = study_in(loaded, hidden(str(run)))
    return Run(
        study=study,
        entries=trials_in(loaded, study),
        reference=attributes.get("reference", {}),
        environments=attributes.get("environments", []),
        source=hidden(str(run)),
        folder=study.folder if "://" in str(run) and not elsewhere(run) else folder_at(str(run)),
    )


def study_in(loaded: optuna.Study, run: str) -> Study:
    """Return the study that a storage holds.

    Raises:
        RunError: if the code of today does not read it.
    """
    try:
        values = study_values(loaded.user_attrs, loaded.get_trials(deepcopy=False))
        kind = kind_of(values)
    except DAMAGE as error:
        raise RunError(damaged(run, error)) from None
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise RunError(f"{run} has a study that cannot be read: {'; '.join(explained(kind, error))}") from None


def trials_in(loaded: optuna.Study, study: Study) -> list[Trial]:
    """Return all trials that were begun.

    Raises:
        RunError: if one is damaged.
    """
    found = [begun for begun in loaded.get_trials(deepcopy=False) if begun.state is not TrialState.WAITING]
    twice = second_measurements(loaded.user_attrs, found)
    trials = []
    for frozen in found:
        try:
            trials.append(restored(frozen, trial_attributes(frozen), study.training.epochs))
        except DAMAGE as error:
            raise RunError(damaged(f"trial {frozen.number} of {study.name}", error)) from None
    for trial in trials:
        if trial.deploy_id in twice and not trial.confirmed:
            trial.confirmed = {DEFAULT: twice[trial.deploy_id]}
    return trials


def open_study(run: str) -> optuna.Study:
    """Open the Optuna study of a run for reading."""
    url, _, name = run.rpartition("#")
    if "://" in run and not elsewhere(run):
        if not url:
            raise RunError(f"{hidden(run)} names a storage; add its study, as in {hidden(run)}#NAME.")
        try:
            return optuna.load_study(study_name=name, storage=url)
        except (KeyError, ImportError, OSError, *DATABASE) as error:
            raise RunError(f"{hidden(run)} cannot be opened: {hidden(str(error))}") from None
    if elsewhere(run):
        storage = journal_in(folder_at(run))
        if not storage.get_all_studies():
            raise RunError(f"{run} is not a run folder, since it has no journal.")
    else:
        path = Path(run) / "journal.log"
        if not path.is_file():
            known = sorted(str(p.parent) for p in Path("runs").glob("*/journal.log"))
            there = f"runs here: {', '.join(known)}" if known else "start one with run_search.py"
            raise RunError(f"{run} is not a run folder, since {path} does not exist; {there}.")
        storage = journal_in(Path(run))
    studies = storage.get_all_studies()
    if not studies:
        raise RunError(f"{run} holds no study.")
    return optuna.load_study(study_name=studies[0].study_name, storage=storage)


def journal_in(folder: Path) -> JournalStorage:
    """Open the journal of a run folder; one that is not there is made by the first line.

    Raises:
        RunError: if it is damaged, or its folder cannot be reached.
    """
    path = folder / "journal.log" if isinstance(folder, Path) else folder
    try:
        storage = JournalStorage(JournalFileBackend(str(path)) if isinstance(folder, Path) else Segments(folder))
        storage.get_all_studies()  # which reads it all
    except DAMAGE as error:
        raise RunError(damaged(path, error)) from None
    except UnreachableError as error:
        raise RunError(str(error)) from None
    return storage


def damaged(what: object, error: Exception) -> str:
    """Say that something stored is damaged, and what to do."""
    why = " ".join(str(error).split())[:100] or type(error).__name__
    return f"{what} is damaged ({why}); take it from a backup, or start anew with name=NEW."


def trials_frame(trials: Sequence[Trial], study: Study) -> pd.DataFrame:
    """Return one row a trial, indexed by number.

    Columns: outcome, reason, twin, origin (the trial of an earlier run that answered); every quantity, and those of a
    user's own, by name (accuracy of the converted network at full budget; what is measured at the first point, and
    where points have names, at each, as `throughput.bulk`; of the second measurement where there is one; else missing);
    the number of validation images judged, test (accuracy on the test images, where the study asks for it) and their
    number; throughput_p10 and _p90 (img/s), steady (its spread was within the study's limit), host_bound (a GPU waits
    for its host where operators are launched one by one), device ("cpu" or the GPU that was measured), all of the first
    point; of listed networks macs and params in training; epochs trained; start, end; seed; config, training_id,
    deploy_id; and `param.NAME` for each parameter of the space.
    """
    first = {q.name: replace(q, point=study.first) for q in QUANTITIES.values()}
    quantities = {**first, **{q.name: q for q in study.known}}
    rows = {t.number: trial_row(t, quantities, study.first) for t in trials}
    frame = pd.DataFrame.from_dict(rows, orient="index")
    frame.index.name = "trial"
    return typed(frame, list(quantities))


def typed(frame: pd.DataFrame, quantities: Sequence[str] = tuple(QUANTITIES)) -> pd.DataFrame:
    """Return a frame of trials with all columns, those of parameters last, and their types."""
    types = {**DTYPES, **{name: "Int64" if name in WHOLE else "float64" for name in quantities}}
    parameters = sorted(c for c in frame.columns if c not in types)
    return frame.reindex(columns=[*types, *parameters]).astype(types)


def trial_row(trial: Trial, quantities: Mapping[str, Quantity], point: str) -> dict[str, Any]:
    """Return the row of a trial."""
    final, measured = trial.final, trial.measurement(point)
    return {
        "outcome": str(trial.state),
        "images": final and final.images,
        "test": (final.test or {}).get("accuracy") if final else None,
        "test_images": final and final.test_images,
        "throughput_p10": measured and measured.p10,
        "throughput_p90": measured and measured.p90,
        "steady": measured and measured.steady,
        "host_bound": measured and measured.host_bound,
        "device": measured.device if measured else "",
        "epochs": len(trial.curve),
        "config": trial.config or None,
        **{name: trial.costs.get(name) for name in BEFORE},
        **{name: getattr(trial, name) for name in ("reason", "twin", "origin", "start", "end", "seed")},
        **{name: getattr(trial, name) for name in ("training_id", "deploy_id")},
        **{name: q.value(trial) for name, q in quantities.items()},
        **{f"param.{name}": value for name, value in trial.params.items()},
    }


def epochs_frame(trials: Sequence[Trial]) -> pd.DataFrame:
    """Return one row an epoch: trial, epoch, accuracy (percent, validation, unconverted), loss, seconds, waited.

    `waited` is how many of the seconds passed in waiting for measurements; 0 in runs that did not record it.
    """
    rows = [{"trial": t.number, **asdict(result)} for t in trials for result in t.curve]
    return pd.DataFrame(rows, columns=["trial", "epoch", "accuracy", "loss", "seconds", "waited"])
