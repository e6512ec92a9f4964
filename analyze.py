"""Read what came out of a study, and set our counts beside the paper's."""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, cast

import typer
from rich.console import Console

from results.frames import Run, RunError, read_run
from results.table import Format, write

if TYPE_CHECKING:
    from torch import nn

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
    """Write one HTML file that works offline: the front with limits and picks, curves, importance, every candidate."""
    from results.report import write_report

    result = started(run)
    path = out or (Path("report.html") if "://" in run else Path(run) / "report.html")
    try:
        write_report(result, path, run, run_folder(run, result))
    except OSError as error:
        fail(f"{path} cannot be written: {error}.")
    console.print(f"Written: {path}")


@app.command()
def figure(
    run: RunName,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="File to write: .pdf, .svg or .png; front.pdf in the run folder otherwise."),
    ] = None,
) -> None:
    """Draw the front for a paper: one column wide, readable in grey, its text as text."""
    from results.figures import front_figure, save

    result = started(run)
    path = out or run_folder(run, result) / "front.pdf"
    try:
        save(front_figure(result), path)
    except ValueError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{path} cannot be written: {error}.")
    console.print(f"Written: {path}")


@app.command()
def kernel(
    run: RunName,
    trial: Annotated[
        int | None, typer.Option("--trial", help="Number of the trial; the most accurate one otherwise.")
    ] = None,
    block: Annotated[
        str | None, typer.Option("--block", help="Name of the RepMLP; the first with a Local Perceptron otherwise.")
    ] = None,
    point: Annotated[
        str | None, typer.Option("--point", metavar="ROW,COLUMN", help="Output position; the centre otherwise.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="File to write: .png, .svg or .pdf; RUN/kernel-N.png otherwise.")
    ] = None,
) -> None:
    """Draw an FC3 kernel before and after the convolutions are merged into it, as the paper's Figure 5."""
    from results.kernel import default_block, draw, fc3_blocks

    result = checked(run)
    done = result.trials[result.trials["outcome"] == "complete"]
    if trial is None and done.empty:
        fail(f"{run} has no complete trial yet.")
    number = int(done.index[int(done["accuracy"].argmax())]) if trial is None else trial
    blocks = fc3_blocks(trained(run, result, number))
    if not blocks:
        fail(f"the network of trial {number} has no RepMLP with an FC3 kernel.")
    name = block or default_block(blocks)
    if name not in blocks:
        fail(f"--block {name} is not in the network of trial {number}; it has {', '.join(blocks)}.")
    chosen = blocks[name]
    if point and not re.fullmatch(r"\d+,\d+", point):
        fail(f"--point {point} must be ROW,COLUMN, such as 3,4.")
    try:
        row, column = (int(v) for v in point.split(",")) if point else (side // 2 for side in chosen.partition)
        figure = draw(chosen, name, (row, column))
    except ValueError as error:
        fail(f"--point {point}: {error}")
    path = out or run_folder(run, result) / f"kernel-{number}.png"
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        fail(f"--out {path} must end in .png, .svg or .pdf.")
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        fail(f"{path} cannot be written: {error}.")
    console.print(f"Written: {path}")


@app.command()
def paper(
    table: Annotated[
        int | None, typer.Option("--table", help="Number of the paper's table; all of them otherwise.")
    ] = None,
    style: Style = Format.table,
) -> None:
    """Print our parameters, multiply-accumulates and measured speeds beside the paper's, cell by cell."""
    from results.comparison import TITLES, compare, write_table, write_tables

    numbers = list(TITLES) if table is None else [table]
    try:
        frames = {number: compare(number, counted(number)) for number in numbers}
    except ValueError as error:
        fail(str(error))
    print(write_tables(frames, style) if table is None else write_table(table, frames[table], style))
    if any(frame["match"].isin([False]).any() for frame in frames.values()):
        raise typer.Exit(1)


def counted(number: int) -> dict[str, dict[str, int]]:
    """Count the networks of a table of the paper, naming each meanwhile; none if there is no such table."""
    from repmlp.paper import TABLES
    from search.costs import network_costs, training_costs

    counts = {}
    with console.status(f"Table {number}") as status:
        for row, config in TABLES.get(number, {}).items():
            status.update(f"Table {number}: counting {row}")
            counts[row] = network_costs(config)
    if number == 1:
        counts["A) before conversion"] = training_costs(TABLES[1]["Pure MLP"])
    return counts


def run_folder(run: str, result: Run) -> Path:
    """Return where a run keeps its weights; that of a storage URL is looked for in runs/."""
    return Path("runs") / result.name if "://" in run else Path(run)


def trained(run: str, result: Run, number: int) -> "nn.Module":
    """Return the network of a trial with its trained weights, or end with what is wrong."""
    from safetensors.torch import load_file

    from repmlp import build, config_from_dict

    folder = run_folder(run, result) / "weights"
    path = folder / f"{number}.safetensors"
    if not path.is_file():
        kept = ", ".join(sorted((p.stem for p in folder.glob("*.safetensors")), key=int)) or "none"
        problem = "has no trained weights in" if number in result.trials.index else "is not in this run; weights are in"
        fail(f"trial {number} {problem} {folder}; these have: {kept}.")
    model = build(config_from_dict(cast(Any, result.trials.loc[number, "config"])))
    model.load_state_dict(load_file(path))
    return model.eval()


def checked(run: str) -> Run:
    """Read a run, or end with what is wrong with it."""
    try:
        return read_run(run)
    except RunError as error:
        fail(str(error))


def started(run: str) -> Run:
    """Read a run that has a trial, or end with what is wrong with it."""
    result = checked(run)
    if result.trials.empty:
        fail(f"{run} has no trial yet.")
    return result


def fail(message: str) -> NoReturn:
    """End with one clear error."""
    print(f"error: {message}", file=sys.stderr)
    raise typer.Exit(2)


if __name__ == "__main__":
    app()
