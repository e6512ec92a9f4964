"""Where trials are kept: opened, mended, and what is said of one that takes no more."""

import os
import warnings
from pathlib import Path

import optuna
from optuna.storages import BaseStorage

from record.folders import UnreachableError, hidden
from record.run import DATABASE, journal_in
from record.study import Study
from search.candidate import FULL

BROKEN = OSError, *DATABASE
"""What a storage raises that is full, stopped or gone."""


class HaltedError(RuntimeError):
    """The disk is full or the storage is gone; nothing is lost, and the same command continues once it is there."""


def open_storage(study: Study) -> BaseStorage | str:
    """Return the study's storage, its folder made; a line that a killed process left torn is cut off.

    Call it only while no other process writes to the run.

    Raises:
        RunError: if its journal is damaged.
    """
    if study.storage is not None:
        return study.storage
    if isinstance(study.folder, Path):
        mend(study.folder / "journal.log")
    return journal_in(study.folder)


def study_in_storage(study: Study, storage: BaseStorage | None = None) -> optuna.Study:
    """Return the Optuna study of a study, made if it is not there; in its own storage unless another is given.

    Raises:
        RunError: if its journal is damaged.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.get_storage(open_storage(study) if storage is None else storage)
    if study.name in {s.study_name for s in storage.get_all_studies()}:
        return optuna.load_study(study_name=study.name, storage=storage)
    directions = [q.better or "maximize" for q in study.quantities]
    made = optuna.create_study(study_name=study.name, storage=storage, directions=directions, load_if_exists=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        made.set_metric_names([q.name for q in study.quantities])  # as optuna-dashboard calls them
    return made


def mend(path: Path) -> None:
    """Cut an unfinished last line off, and remove the lock file of a process that is gone."""
    path.with_name(path.name + ".lock").unlink(missing_ok=True)
    if path.exists():
        with path.open("rb+") as file:
            content = file.read()
            lines = content[: content.rfind(b"\n") + 1].rstrip(b"\0\r\n ")  # NULs are what a power cut leaves
            whole = len(lines) + 1 if lines else 0
            if whole < len(content):
                file.truncate(whole)
                os.fsync(file.fileno())


def reason(error: BaseException, study: Study) -> str:
    """Say in a sentence, without passwords, why a study's storage takes no more."""
    if isinstance(error, UnreachableError):
        return f"{error}."
    if isinstance(error, OSError):
        if error.errno in FULL:
            return f"the disk that holds {study.folder} is full."
        return f"{study.folder} cannot be written: {error.strerror or error}."
    cause: BaseException = error.__cause__ or error
    said = str(getattr(cause, "orig", None) or cause).strip().splitlines()
    return f"the storage {hidden(str(study.storage))} cannot be used: {hidden(said[0] if said else repr(cause))}."
