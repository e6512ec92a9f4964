"""A study worked off, and random candidates of it: what the command and the library share."""

import contextlib
import fcntl
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pandas as pd
from optuna.storages import BaseStorage
from rich.console import Console

from record.folders import UnreachableError, hidden
from record.quantities import excess
from record.run import DATABASE, Run, RunError, open_run
from record.study import Comparison, Study, StudyError
from search import backends
from search.data import load
from search.draws import limits_text, listed_networks, random_networks, reference_point
from search.engine import Engine
from search.environment import environment
from search.journal import Journal
from search.lease import InFolder, InStudy, leased
from search.measuring.locks import held
from search.networks import Image, networks_of
from search.progress import Display
from search.stopping import stoppable
from search.storage import HaltedError, open_storage, reason, study_in_storage
from search.training.precision import native, slow
from search.warmstart import check


def run(study: Study, console: Console | None = None) -> Run:
    """Run or continue a study to its end, and return the run.

    Args:
        study: a `Search` or a `Comparison`.
        console: where progress is shown; None takes the standard error, or the cell of a notebook.

    Raises:
        StudyError: if the study cannot be run, or nothing of its space keeps its limits.
        DataError: if its data is missing.
        HaltedError: if the disk is full or the storage gone; what is recorded is kept, and the same call continues.
        Stopped: if Ctrl-C, SIGTERM or SIGHUP stopped it; what is finished is kept, and the same call continues.
    """
    console = console or Console(stderr=True, markup=False, emoji=False)
    image = checked(study)
    reference = reference_point(study, image)
    study.local.mkdir(parents=True, exist_ok=True)
    with alone(study) as (storage, lost):
        with opening(study):
            journal = Journal(study, storage)
            journal.opened(reference, environment())
        if journal.trials:
            console.print(f"{study.folder}: continuing after {len(journal.trials)} candidates.")
        tell_precision(journal.study, console)
        engine = worked_off(journal, image, console, lost)
    tell_waiting(journal, console)
    if engine.halted:
        raise HaltedError(engine.halted)
    if not engine.finished:
        raise KeyboardInterrupt
    if engine.exhausted and engine.trained() == 0:
        raise StudyError(
            f"none of {engine.rejected} candidates keeps the limits {limits_text(study)}. Lower them or widen the "
            "space."
        )
    if engine.exhausted:
        console.print(f"The space is nearly exhausted: the last {engine.rejected} candidates needed no training.")
    return journal.run()


def sample(study: Study, count: int = 20) -> pd.DataFrame:
    """Return random candidates of a study, or all that it lists, with their costs; nothing is trained or recorded.

    Returns:
        Columns: name (of listed ones), the counted costs, the limits that are exceeded, and the network in words.

    Raises:
        StudyError: if the study cannot be run.
        DataError: if its data is missing.
    """
    image = checked(study)
    reference_point(study, image)
    if study.listed:
        drawn = listed_networks(study, image)
    else:
        networks = random_networks(study, image)
        drawn = [("", *next(networks)) for _ in range(count)]
    rows = []
    for name, config, costs in drawn:
        over = [limit for limit, share in excess(costs, study.bounds).items() if share > 0]
        named = {"name": name} if study.listed else {}
        rows.append({**named, **costs, "over limit": ", ".join(over), "network": config.describe()})
    return pd.DataFrame(rows)


def checked(study: Study) -> Image:
    """Load the data once, see that all that the study needs is there, and return channels, size and classes.

    Raises:
        StudyError: if there are fewer training images than a batch takes, or what it begins with is missing.
        DataError: if the data, or the test images that it wants, are missing.
    """
    data = load(study.data)
    if len(data) < study.training.batch:
        raise StudyError(f"training.batch={study.training.batch} exceeds the {len(data)} training images; lower it.")
    image = data.channels, data.size, data.classes
    check(study, networks_of(study, image))
    if isinstance(study, Comparison) and study.test:
        next(data.test())
    return image


@contextlib.contextmanager
def alone(study: Study) -> Iterator[tuple[BaseStorage, Callable[[], str]]]:
    """Be the only process that runs a study; gives its storage, and what tells why that is no longer so.

    Raises:
        StudyError: if another process runs it, or its storage cannot be used.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(held(study.local / "lock", fcntl.LOCK_EX | fcntl.LOCK_NB))
        except BlockingIOError:
            raise StudyError(f"{study.local} is being run by another process; wait for it, or set name=NEW.") from None
        lost: Callable[[], str] = str
        with opening(study):
            if study.storage is None and not isinstance(study.folder, Path):
                lost = stack.enter_context(leased(InFolder(study.folder / "driver.json"), str(study.folder)))
            storage = optuna.storages.get_storage(open_storage(study))
            if study.storage is not None:
                name = f"{study.name} of {hidden(study.storage)}"
                lost = stack.enter_context(leased(InStudy(study_in_storage(study, storage)), name))
        yield storage, lost


@contextlib.contextmanager
def opening(study: Study) -> Iterator[None]:
    """Tell what goes wrong when a storage is opened.

    Raises:
        StudyError: if its storage cannot be used.
    """
    try:
        yield
    except RunError as error:
        raise StudyError(str(error)) from None
    except (*DATABASE, ImportError, UnreachableError) as error:
        raise StudyError(reason(error, study)) from None


def worked_off(journal: Journal, image: Image, console: Console, lost: Callable[[], str] = str) -> Engine:
    """Let the study's backend work off what the journal lacks, as long as no other process has taken it over."""
    study = journal.study
    display = Display(console, study, journal.optuna.user_attrs["reference"], journal.trials.values())
    told: list[int] = []

    def over() -> str:
        return "it was told to stop." if told else lost()

    engine = Engine(journal, networks_of(study, image), display.changed, over)
    if not engine.finished:
        try:
            with stoppable(told), display:
                backends.run(engine)
        finally:
            sweep(study)
    return engine


def sweep(study: Study) -> None:
    """Remove what workers that were ended had begun to write."""
    if isinstance(study.folder, Path):
        for part in study.folder.glob("*/*.part"):
            part.unlink(missing_ok=True)


def settled(study: Study) -> Study:
    """Return the study with the precision that a run of its name in a folder has, else that of its device here."""
    precision = native(study.resources.device)
    if study.storage is None:
        with contextlib.suppress(RunError):
            precision = open_run(str(study.folder)).study.training.precision
    return study.settled(precision)


def tell_precision(study: Study, console: Console) -> None:
    """Say in which precision a study trains, and if its device has to emulate that."""
    precision, device = study.training.precision, study.resources.device
    console.print(f"Training in {precision} on {'the GPU' if device == 'cuda' else 'the CPU'}.")
    if slow(precision, device):
        console.print(
            f"This processor emulates {precision}, which is slow; a new study (name=NEW) with training.precision=auto "
            f"takes {native(device)} here."
        )


def tell_waiting(journal: Journal, console: Console) -> None:
    """Say which share of their time trainers have waited for measurements, if it is worth mentioning."""
    curves = [result for trial in journal.trials.values() for result in trial.curve]
    seconds, waited = sum(r.seconds for r in curves), sum(r.waited for r in curves)
    if waited > 0.0005 * seconds:
        console.print(f"Trainers waited {waited / seconds:.1%} of their time for measurements.")
