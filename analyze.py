"""Read what came out of a study, and set our counts beside the paper's."""

import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from results.frames import Run, RunError, read_run
from results.table import Format, write

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)
console = Console(stderr=True)
RunName = Annotated[str, typer.Argument(help="Run folder, such as runs/default, or STORAGE_URL#NAME.", metavar="RUN")]
Style = Annotated[Format, typer.Option("--format", help="How the table is written.")]


@app.command()
def front(run: RunName, style: Style = Format.table) -> None:
    """Print the trials that no other one beats in all objectives."""
    from results.views import front_table

    result = checked(run)
    print(write(front_table(result), style, f"Front of {result.name}"))


@app.command()
def report(
    run: RunName,
    out: Annotated[
        Path | None, typer.Option("--out", help="File to write; report.html in the run folder otherwise.")
    ] = None,
) -> None:
    """Write one HTML file that works offline: the front, hypervolume over time, every candidate, the environment."""
    from results.report import write_report

    result = checked(run)
    path = out or (Path("report.html") if "://" in run else Path(run) / "report.html")
    try:
        write_report(result, path)
    except OSError as error:
        fail(f"{path} cannot be written: {error}.")
    console.print(f"Written: {path}")


@app.command()
def paper(
    table: Annotated[int, typer.Option("--table", help="Number of the paper's table.")] = 1,
    style: Style = Format.table,
) -> None:
    """Print our parameters and multiply-accumulates beside the paper's, cell by cell."""
    from repmlp.cifar import TABLE_1
    from results.comparison import compare
    from search.costs import network_costs, training_costs

    counts = {row: network_costs(config) for row, config in TABLE_1.items()}
    counts["A) before conversion"] = training_costs(TABLE_1["Pure MLP"])
    try:
        rows = compare(table, counts)
    except ValueError as error:
        fail(str(error))
    print(write(rows, style, f"Table {table}: counted here, and as the paper prints them (cut, not rounded)"))
    if not rows["match"].all():
        raise typer.Exit(1)


def checked(run: str) -> Run:
    """Read a run, or end with what is wrong with it."""
    try:
        return read_run(run)
    except RunError as error:
        fail(str(error))


def fail(message: str) -> NoReturn:
    """End with one clear error."""
    print(f"error: {message}", file=sys.stderr)
    raise typer.Exit(2)


if __name__ == "__main__":
    app()
