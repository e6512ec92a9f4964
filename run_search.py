"""Run or continue a study."""

import contextlib
import fcntl
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import pandas as pd
import typer
from rich.console import Console
from rich.table import Table

from repmlp import config_to_dict
from results.ablation import ablation_table, readable_table, title
from results.frames import RunError, read_run
from results.front import front
from results.summary import summary
from results.table import Format, write
from results.views import front_table
from search import backends
from search.data import DataError, load
from search.draws import listed_networks, random_networks, reference_point
from search.engine import Engine
from search.environment import environment
from search.journal import Journal
from search.measuring.locks import held
from search.networks import Image, SpaceNetworks
from search.progress import Display
from search.study import Study, StudyError, read_study
from search.training.precision import Precision, native, slow
from search.warmstart import check
from spaces.catalogue import listing

console = Console(stderr=True)


def show_spaces(wanted: bool) -> None:
    """Print a table of the spaces and end."""
    if not wanted:
        return
    rows = listing()
    table = Table(*rows[0], title="Spaces, by default; networks: how many different ones for such images")
    for row in rows:
        table.add_row(*row.values(), end_section=True)
    Console(width=max(120, console.width)).print(table)
    raise typer.Exit


def main(
    study: Annotated[
        Path, typer.Argument(help="Study file (YAML); ready-made ones are in studies/.", metavar="STUDY.yaml")
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            help="Changes to it, such as trials=40 training.epochs=3 data.root=data.", metavar="[KEY=VALUE]..."
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Check the study and show candidates with their costs, without training."),
    ] = False,
    _spaces: Annotated[
        bool,
        typer.Option("--spaces", callback=show_spaces, is_eager=True, help="List the spaces, without a study."),
    ] = False,
) -> None:
    """Search for networks: train candidates, measure them, and print the accuracy-speed front.

    With `seeds`, train listed networks instead, such as an ablation or a finished pick, and print their test accuracy.

    The same command again continues: nothing that is finished is trained again, what was cut off goes on from its last
    checkpoint, and a larger trials= adds to it. Ctrl-C stops cleanly at any time.
    """
    try:
        chosen = read_study(study, overrides or [])
        image = image_of(chosen)
        check(chosen, SpaceNetworks(chosen.space, image))
        if chosen.listed and chosen.test:
            next(load(chosen.data).test())
        if dry_run:
            show_candidates(chosen, image)
        else:
            search(chosen, image)
    except (StudyError, DataError) as error:
        fail(str(error))
    except OSError as error:
        fail(f"the run folder cannot be used: {error}. Name another with runs=FOLDER.")
    except KeyboardInterrupt:
        stop()


def image_of(study: Study) -> Image:
    """Load the data once and return its channels, size and classes.

    Raises:
        StudyError: if there are fewer training images than a batch takes.
    """
    data = load(study.data)
    if len(data) < study.training.batch:
        raise StudyError(f"training.batch={study.training.batch} exceeds the {len(data)} training images; lower it.")
    return data.channels, data.size, data.classes


def show_candidates(study: Study, image: Image) -> None:
    """Print 20 random candidates, or all that are listed, with their costs, and which limits they exceed."""
    reference_point(study, image)
    tell_precision(study.settled(recorded_precision(study)))
    networks = random_networks(study, image)
    if study.listed:
        drawn = listed_networks(study, image)
        title = f"The {len(study.listed)} networks of {study.name}, each trained with {study.seeds} seeds"
    else:
        drawn = [("", *next(networks)) for _ in range(20)]
        title = f"20 random candidates of {study.name}, not trained"
    rows = []
    for name, config, costs in drawn:
        over = [name for name, share in study.limits.excess(costs).items() if share > 0]
        named = {"name": name} if study.listed else {}
        rows.append({**named, **costs, "over limit": ", ".join(over), "network": summary(config_to_dict(config))})
    print(write(pd.DataFrame(rows), Format.table, title))


def search(study: Study, image: Image) -> None:
    """Run the study to its end, then print its front and what to type next."""
    reference = reference_point(study, image)
    study.folder.mkdir(parents=True, exist_ok=True)
    try:
        with held(study.folder / "lock", fcntl.LOCK_EX | fcntl.LOCK_NB):
            journal = Journal(study)
            journal.opened(reference, environment())
            known = len(journal.entries)
            if known:
                console.print(f"{study.folder}: continuing after {known} candidates.")
            tell_precision(journal.study)
            engine = run(journal, image)
            tell_waiting(engine)
    except BlockingIOError:
        raise StudyError(f"{study.folder} is being run by another process; wait for it, or set name=NEW.") from None
    if not engine.finished:
        stop()
    if engine.exhausted and engine.trained() == 0:
        limits = study.limits.model_dump(exclude_none=True)
        raise StudyError(
            f"none of {engine.rejected} candidates keeps the limits {limits}. Lower them or widen the space."
        )
    if engine.exhausted:
        console.print(f"The space is nearly exhausted: the last {engine.rejected} candidates needed no training.")
    show_front(study)


def run(journal: Journal, image: Image) -> Engine:
    """Let the study's backend work off what the journal lacks."""
    study = journal.study
    display = Display(console, study, journal.optuna.user_attrs["reference"], journal.entries.values())
    engine = Engine(journal, SpaceNetworks(study.space, image), display.changed)
    if engine.finished:
        return engine
    with display:
        backends.run(engine)
    return engine


def recorded_precision(study: Study) -> Precision | None:
    """Return the precision that a run of this name in a folder has, if there is one that can be read."""
    if study.storage is None and (study.folder / "journal.log").is_file():
        with contextlib.suppress(RunError):
            return read_run(str(study.folder)).study["training"]["precision"]
    return None


def tell_precision(study: Study) -> None:
    """Say in which precision a study trains, and if its device has to emulate that."""
    precision, device = study.training.precision, study.resources.device
    console.print(f"Training in {precision} on {'the GPU' if device == 'cuda' else 'the CPU'}.")
    if slow(precision, device):
        console.print(
            f"This processor emulates {precision}, which is slow; a new study (name=NEW) with training.precision=auto "
            f"takes {native(device)} here."
        )


def tell_waiting(engine: Engine) -> None:
    """Say which share of their time trainers have waited for measurements, if it is worth mentioning."""
    curves = [result for entry in engine.journal.entries.values() for result in entry.curve]
    seconds, waited = sum(r.seconds for r in curves), sum(r.waited for r in curves)
    if waited > 0.0005 * seconds:
        console.print(f"Trainers waited {waited / seconds:.1%} of their time for measurements.")


def show_front(study: Study) -> None:
    """Print the front, what happened to the candidates, and the next command."""
    name = f"{study.storage}#{study.name}" if study.storage else str(study.folder)
    result = read_run(name)
    counts = ", ".join(f"{n} {outcome}" for outcome, n in result.trials["outcome"].value_counts().items())
    console.print(f"{len(result.trials)} candidates: {counts}.")
    if front(result).empty:
        fail("no trial reached its full budget; see the reasons above.", code=1)
    if study.listed:
        table = ablation_table(result)
        print(write(readable_table(table), Format.table, title(result, table)))
        following = "ablation" if len(table) > 1 else "export"
        console.print(f"Next: python analyze.py {following} {name}", soft_wrap=True)
        return
    print(write(front_table(result), Format.table, f"Front of {study.name}"))
    console.print(f"Next: python analyze.py report {name}", soft_wrap=True)


def stop() -> NoReturn:
    """Say how to go on after Ctrl-C."""
    console.print("Stopped. What is finished is kept; the same command continues.")
    raise typer.Exit(130)


def fail(message: str, code: int = 2) -> NoReturn:
    """End with one clear error."""
    print(f"error: {message}", file=sys.stderr)
    raise typer.Exit(code)


if __name__ == "__main__":
    typer.run(main)
