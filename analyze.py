"""Read what came out of a study, and set our counts beside the paper's."""

import functools
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from record.quantities import limits
from record.run import Run, RunError, open_run
from record.study import Comparison
from results.choice import Rule
from results.table import Format, write, write_all, write_with_notes

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)
console = Console(stderr=True)
RunName = Annotated[str, typer.Argument(help="Run folder, such as runs/default, or STORAGE_URL#NAME.", metavar="RUN")]
Style = Annotated[Format, typer.Option("--format", help="How the table is written.")]


def limited(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command an option for each quantity that can be limited, such as --max-params, and --limit for others."""

    @functools.wraps(command)
    def with_limits(*arguments: Any, limit: list[str] | None = None, **options: Any) -> None:
        given = {key: options.pop(key) for key in limits()}
        for pair in limit or []:
            key, _, value = pair.partition("=")
            try:
                given[key] = float(value)
            except ValueError:
                fail(f"--limit {pair} must be KEY=VALUE, such as max_bytes=100000.")
        command(*arguments, **options, **{key: value for key, value in given.items() if value is not None})

    options: dict[str, Any] = {key: Annotated[float | None, typer.Option(help=q.help)] for key, q in limits().items()}
    options["limit"] = Annotated[
        list[str] | None, typer.Option(help="Limit on a quantity of your own, such as max_bytes=100000.")
    ]
    own = [p for p in inspect.signature(command).parameters.values() if p.kind is not p.VAR_KEYWORD]
    added = [
        inspect.Parameter(k, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=t) for k, t in options.items()
    ]
    with_limits.__signature__ = inspect.Signature([*own, *added])  # type: ignore[attr-defined]
    with_limits.__annotations__ = {**command.__annotations__, **options}
    return with_limits


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
    from results.report.page import report as written

    result = started(run)
    try:
        path = written(result, out)
    except OSError as error:
        fail(f"the report cannot be written: {error}.")
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
    path = out or result.folder / "front.pdf"
    try:
        save(front_figure(result), path)
    except ValueError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{path} cannot be written: {error}.")
    console.print(f"Written: {path}")


@app.command()
def ablation(
    run: RunName,
    paper: Annotated[bool, typer.Option("--paper", help="Set the paper's cells of the same rows beside ours.")] = False,
    rows: Annotated[str | None, typer.Option("--rows", help="Of a search: parameter down a pivot.")] = None,
    columns: Annotated[str | None, typer.Option("--columns", help="Of a search: parameter across it.")] = None,
    style: Style = Format.table,
) -> None:
    """Print the ablation table: each variant against the base, with intervals, p-values and costs.

    Of a search, print the same questions as its trials answer them: the importance of each parameter for each objective
    (PED-ANOVA), accuracy by where RepMLP goes, and with --rows and --columns two parameters against each other.
    """
    from results.ablation import ablation_table, readable_table, title
    from results.agreement import agreement, beside_paper, paper_rows
    from results.parameters.questions import questions
    from results.provenance import made_on

    result = started(run)
    if not isinstance(result.study, Comparison):
        try:
            print(write_all(questions(result, rows, columns), style))
        except RunError as error:
            fail(str(error))
        return
    try:
        table = ablation_table(result)
        printed = paper_rows(result) if paper else None
    except RunError as error:
        fail(str(error))
    notes = []
    if printed is not None:
        table = beside_paper(table, printed)
        notes.append(agreement(result, printed))
    if style in (Format.csv, Format.json):
        print(write(table, style))
        return
    print(write_with_notes(readable_table(table), style, title(result, table), [*notes, made_on(result)]))


@app.command()
@limited
def pick(
    run: RunName,
    rule: Annotated[Rule, typer.Option("--rule", help="What is best among the trials that keep the limits.")] = (
        Rule.max_accuracy
    ),
    trial: Annotated[
        int | None, typer.Option("--trial", help="Take this trial instead of what the rule gives.")
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Argument(
            help="Changes to the study that is written, such as training.epochs=100.", metavar="[KEY=VALUE]"
        ),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Trainings of the study that is written.")] = 3,
    out: Annotated[Path | None, typer.Option("--out", help="Study to write; RUN/pick.yaml otherwise.")] = None,
    **limits: float,
) -> None:
    """Pick the network to deploy, say why, measure it again, and write the study that trains it fully.

    Trials within the noise of each other are shown as ties, with their differences.
    """
    from deploy.decision import decide, readable_rivals
    from deploy.picking import measured_again, write_study
    from record.study import StudyError

    result = checked(run)
    path = out or result.folder / "pick.yaml"
    try:
        found = decide(result, limits, rule, trial)
        write_study(found.values(seeds), changes or [], path, found.why)
    except (RunError, StudyError, ValueError) as error:
        fail(str(error))
    except OSError as error:
        fail(f"{path} cannot be written: {error}.")
    print(found.why)
    print(write(readable_rivals(found.rivals), Format.table))
    if pending := int(result.trials["outcome"].isin(["running", "paused", "confirming"]).sum()):
        others = "1 trial" if pending == 1 else f"{pending} trials"
        console.print(f"{run} is not finished: {others} may still change this.", soft_wrap=True)
    with console.status("") as status:
        again = measured_again(result, found.trial, limits, status.update)
    print(again)
    console.print(f"Written: {path}. Next: python run_search.py {path}", soft_wrap=True)


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
    from deploy.trained import most_accurate, trained
    from results.kernel import default_block, draw, fc3_blocks

    result = checked(run)
    try:
        number = most_accurate(result) if trial is None else trial
        blocks = fc3_blocks(trained(result, number))
    except RunError as error:
        fail(str(error))
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
    path = out or result.folder / f"kernel-{number}.png"
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        fail(f"--out {path} must end in .png, .svg or .pdf.")
    try:
        figure.savefig(path, dpi=150)
    except OSError as error:
        fail(f"{path} cannot be written: {error}.")
    console.print(f"Written: {path}")


@app.command()
def export(
    run: RunName,
    trial: Annotated[
        int | None, typer.Option("--trial", help="Number of the trial; otherwise the most accurate one in validation.")
    ] = None,
    formats: Annotated[
        str, typer.Option("--format", help="List of safetensors, onnx, pt2 and aoti (needs a C++ compiler).")
    ] = "safetensors,onnx,pt2",
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder to write; RUN/export, or RUN/export-N, otherwise.")
    ] = None,
) -> None:
    """Export a trained network: converted, proved equal on the validation images, and timed in each runtime.

    A file that does not agree with the trained network fails the export, and nothing is kept.
    """
    from deploy.exporting import MismatchError, export_trial
    from deploy.formats import FormatError, chosen
    from deploy.trained import most_accurate, trained
    from search.data import DataError

    result = started(run)
    try:
        number = most_accurate(result) if trial is None else trial
        if number in result.trials.index and result.trials.loc[number, "outcome"] != "complete":
            row = result.trials.loc[number]
            why = f": {row['reason']}" if row["reason"] else ""
            raise RunError(f"trial {number} is {row['outcome']}{why}; export a complete one.")
        model = trained(result, number)
        folder = out or result.folder / ("export" if trial is None else f"export-{trial}")
        with console.status("") as status:
            table = export_trial(result, number, model, chosen(formats), folder, status.update)
    except (RunError, FormatError, DataError) as error:
        fail(str(error))
    except MismatchError as error:
        fail(f"nothing was exported: {error}", code=1)
    except OSError as error:
        fail(f"the export cannot be written: {error}.")
    print(write(table, Format.table, f"Trial {number} of {result.name}, exported"))
    console.print(f"Written: {folder}. How to load each file is in {folder / 'README.md'}.", soft_wrap=True)


@app.command()
def paper(
    table: Annotated[
        int | None, typer.Option("--table", help="Number of the paper's table; all of them otherwise.")
    ] = None,
    style: Style = Format.table,
) -> None:
    """Print our parameters, multiply-accumulates and measured speeds beside the paper's, cell by cell."""
    from results.comparison import TITLES, compare, write_table, write_tables
    from search.measuring.costs import counted

    numbers = list(TITLES) if table is None else [table]
    try:
        with console.status("") as status:
            frames = {number: compare(number, counted(number, status.update)) for number in numbers}
    except ValueError as error:
        fail(str(error))
    print(write_tables(frames, style) if table is None else write_table(table, frames[table], style))
    if any(frame["match"].isin([False]).any() for frame in frames.values()):
        raise typer.Exit(1)


def checked(run: str) -> Run:
    """Read a run, or end with what is wrong with it."""
    try:
        return open_run(run)
    except RunError as error:
        fail(str(error))


def started(run: str) -> Run:
    """Read a run that has a trial, or end with what is wrong with it."""
    result = checked(run)
    if result.trials.empty:
        fail(f"{run} has no trial yet.")
    return result


def fail(message: str, code: int = 2) -> NoReturn:
    """End with one clear error."""
    print(f"error: {message}", file=sys.stderr)
    raise typer.Exit(code)


if __name__ == "__main__":
    app()
