"""Run or continue a study."""

import signal
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from record.files import read_study
from record.run import Run
from record.study import Comparison, Study, StudyError
from results.ablation import ablation_table, readable_table, title
from results.front import front
from results.table import Format, write
from results.views import front_table
from search.backends import slurm as slurm_job
from search.data import DataError
from search.running import run, sample, settled, tell_precision
from search.stopping import to_its_end
from search.storage import HaltedError
from spaces.catalogue import listing

console = Console(stderr=True, markup=False, emoji=False)
HALTED = 75
"""Exit code, that of sysexits.h for what may be tried again: the disk was full or the storage gone."""


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
    slurm: Annotated[
        bool,
        typer.Option("--slurm", help="Print a script that runs this under SLURM, for sbatch, and end."),
    ] = False,
    nodes: Annotated[
        int, typer.Option(min=1, help="With --slurm: nodes of the job; several run a Ray cluster inside.")
    ] = 1,
    array: Annotated[
        int,
        typer.Option(
            min=0, help="With --slurm: tasks of a job array, a node each, that join and leave as SLURM has room."
        ),
    ] = 0,
    time: Annotated[
        str,
        typer.Option(help="With --slurm: time limit; there the job stops cleanly, is queued again and continues."),
    ] = "04:00:00",
    _spaces: Annotated[
        bool,
        typer.Option("--spaces", callback=show_spaces, is_eager=True, help="List the spaces, without a study."),
    ] = False,
) -> None:
    """Search for networks: train candidates, measure them, and print the accuracy-speed front.

    With `seeds`, train listed networks instead, such as an ablation or a finished pick, and print their test accuracy.

    The same command again continues: nothing that is finished is trained again, what was cut off goes on from its last
    checkpoint, and a larger trials= adds to it. Ctrl-C stops cleanly at any time, and so do SIGTERM and SIGHUP.

    Exit codes: 0 done; 1 no trial has a result; 2 something given is wrong; 75 the disk is full or the storage is gone,
    so try again later; 129, 130 and 143 stopped by SIGHUP, Ctrl-C and SIGTERM.
    """
    if not slurm and (nodes > 1 or array):
        fail("--nodes and --array are for --slurm; a Ray cluster that is there is named with resources.address.")
    try:
        chosen = read_study(study, overrides or [])
        if slurm:
            search = [sys.executable, str(Path(__file__).resolve()), str(study), *(overrides or [])]
            print(slurm_job.script(chosen, search, Path.cwd(), nodes=nodes, array=array, limit=time), end="")
        elif dry_run:
            show_candidates(chosen)
        else:
            show_front(run(chosen, console))
    except (StudyError, DataError) as error:
        fail(str(error))
    except HaltedError as error:
        fail(f"{error} Nothing that is recorded is lost: once that is mended, the same command continues.", HALTED)
    except OSError as error:
        fail(f"the run folder cannot be used: {error}. Name another with runs=FOLDER.")
    except KeyboardInterrupt as error:
        stop(getattr(error, "number", signal.SIGINT))


def show_candidates(study: Study) -> None:
    """Print 20 random candidates, or all that are listed, with their costs, and which limits they exceed."""
    found = sample(study)
    tell_precision(settled(study), console)
    title = f"20 random candidates of {study.name}, not trained"
    if isinstance(study, Comparison):
        seeds = f"{study.seeds} seed{'s' * (study.seeds > 1)}"
        title = f"The {len(found)} networks of {study.name}, each trained with {seeds}"
    print(write(found, Format.table, title))


def show_front(result: Run) -> None:
    """Print the front, what happened to the candidates, and the next command."""
    counts = ", ".join(f"{n} {outcome}" for outcome, n in result.trials["outcome"].value_counts().items())
    console.print(f"{len(result.trials)} candidates: {counts}.")
    if front(result).empty:
        fail("no trial reached its full budget; see the reasons above.", code=1)
    if isinstance(result.study, Comparison):
        table = ablation_table(result)
        print(write(readable_table(table, result.study.own), Format.table, title(result, table)))
        following = "ablation" if len(table) > 1 else "export"
        console.print(f"Next: python analyze.py {following} {result.source}", soft_wrap=True)
        return
    print(write(front_table(result), Format.table, f"Front of {result.name}"))
    console.print(f"Next: python analyze.py report {result.source}", soft_wrap=True)


def stop(number: int) -> NoReturn:
    """Say how to go on after Ctrl-C or another signal, and end as shells expect of it."""
    console.print("Stopped. What is finished is kept; the same command continues.")
    raise typer.Exit(128 + number)


def fail(message: str, code: int = 2) -> NoReturn:
    """End with one clear error."""
    print(f"error: {message}", file=sys.stderr)
    raise typer.Exit(code)


if __name__ == "__main__":
    to_its_end(lambda: typer.run(main))
