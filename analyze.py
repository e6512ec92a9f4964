"""Read what came out of a study, and set our counts beside the paper's."""

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import Parameter
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, cast

import typer
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from yaml import YAMLError

from record.folders import whole
from record.quantities import limits
from record.run import Run, RunError, open_run
from record.study import Comparison, StudyError
from results.choice import Rule
from results.table import Format, write, write_all, write_with_notes
from search.data import DataError
from search.formats import FormatError, names
from search.stopping import to_its_end

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)
console = Console(stderr=True, markup=False, emoji=False)
RunName = Annotated[str, typer.Argument(help="Run folder, such as runs/default, or STORAGE_URL#NAME.", metavar="RUN")]
TrialNumber = Annotated[int | None, typer.Option("--trial", help="The most accurate one in validation otherwise.")]
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
    result = started(run)
    path = out or result.folder / "report.html"
    with told(path):
        result.report(path)
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
    result = started(run)
    path = out or result.folder / "front.pdf"
    with told(path):
        result.figure(path)
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
    from results.paper.agreement import agreement, beside_paper, paper_rows
    from results.provenance import made_on, measured_at
    from results.questions import questions

    result = started(run)
    if not isinstance(result.study, Comparison):
        with told():
            print(write_all(questions(result, rows, columns), style))
        return
    with told():
        table = ablation_table(result)
        printed = paper_rows(result) if paper else None
    notes = [f"Speeds are measured {measured_at(result)}."]
    if printed is not None:
        table = beside_paper(table, printed)
        notes.append(agreement(result, printed))
    if style in (Format.csv, Format.json):
        print(write(table, style))
        return
    print(
        write_with_notes(
            readable_table(table, result.study.extra), style, title(result, table), [*notes, made_on(result)]
        )
    )


def limited(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command that takes `**limits` an option for each quantity that can be limited."""
    signature = inspect.signature(command)
    *own, _ = signature.parameters.values()
    kinds = {key: Annotated[float | None, typer.Option(help=quantity.help)] for key, quantity in limits().items()}
    options = [Parameter(key, Parameter.KEYWORD_ONLY, default=None, annotation=kind) for key, kind in kinds.items()]
    command.__signature__ = signature.replace(parameters=[*own, *options])  # type: ignore[attr-defined]
    return command


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
    limit: Annotated[
        list[str] | None,
        typer.Option("--limit", help="One on any objective, such as max_bytes=1e6; repeatable.", metavar="KEY=VALUE"),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Argument(
            help="Changes to the study that is written, such as training.epochs=100.", metavar="[KEY=VALUE]"
        ),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Trainings of the study that is written.")] = 3,
    out: Annotated[Path | None, typer.Option("--out", help="Study to write; RUN/pick.yaml otherwise.")] = None,
    **given: float | None,
) -> None:
    """Pick the network to deploy, say why, measure it again, and write the study that trains it fully.

    Trials within the noise of each other are shown as ties, with their differences.
    """
    from deploy.picking import readable_rivals

    result = checked(run)
    path = out or result.local / "pick.yaml"
    with told(path):
        kept = {key: value for key, value in given.items() if value is not None} | dict(map(number_of, limit or []))
        chosen = result.pick(rule, trial, **kept)
        chosen.write(chosen.study(seeds, **cast(Any, OmegaConf.to_object(OmegaConf.from_dotlist(changes or [])))), path)
    print(chosen.why)
    print(write(readable_rivals(chosen.rivals), Format.table))
    if pending := int(result.trials["outcome"].isin(["running", "paused"]).sum()):
        others = "1 trial" if pending == 1 else f"{pending} trials"
        console.print(f"{run} is not finished: {others} may still change this.", soft_wrap=True)
    with console.status("") as status:
        again = chosen.measured_again(status.update)
    print(again)
    console.print(f"Written: {path}. Next: python run_search.py {path}", soft_wrap=True)


def number_of(limit: str) -> tuple[str, float]:
    """Return key and number of a limit, or end with what is wrong with it."""
    key, _, value = limit.partition("=")
    try:
        if key.startswith(("min_", "max_")):
            return key, float(value)
    except ValueError:
        pass
    fail(f"--limit {limit} must be a key, min_ or max_ and a name, and a number, such as max_params=1e6.")


@app.command()
def kernel(
    run: RunName,
    trial: TrialNumber = None,
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
    from results.choice import best_trial
    from results.kernel import default_block, draw, fc3_blocks
    from results.weights import trained

    result = checked(run)
    with told():
        number = best_trial(result) if trial is None else trial
        blocks = fc3_blocks(trained(result, number))
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
    path = out or result.local / f"kernel-{number}.png"
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        fail(f"--out {path} must end in .png, .svg or .pdf.")
    with told(path), whole(path) as part:
        figure.savefig(part, format=path.suffix[1:].lower(), dpi=150)
    console.print(f"Written: {path}")


@app.command()
def export(
    run: RunName,
    trial: TrialNumber = None,
    formats: Annotated[
        str, typer.Option("--format", help=f"List of {', '.join(names())}, or my_package.module:Name of your own.")
    ] = "safetensors,onnx,pt2",
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder to write; RUN/export, or RUN/export-N, otherwise.")
    ] = None,
    takes: Annotated[
        Literal["uint8", "float32"],
        typer.Option(
            "--input", help="uint8: images (N, H, W, C) as they are read, normalised inside; float32: normalised ones."
        ),
    ] = "uint8",
) -> None:
    """Export a trained network: converted, proved equal on the validation images, and timed in each runtime.

    A file that does not agree with the trained network fails the export, and nothing is kept.
    """
    from deploy.exporting import MismatchError
    from results.choice import best_trial

    result = started(run)
    folder = out or result.local / ("export" if trial is None else f"export-{trial}")
    try:
        with told("the export"), console.status("") as status:
            number = best_trial(result) if trial is None else trial
            table = result.export(folder, formats.split(","), number, say=status.update, pixels=takes == "uint8")
    except MismatchError as error:
        fail(f"nothing was exported: {error}", code=1)
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
    from results.paper.comparison import TITLES, compare, write_table, write_tables
    from search.measuring.costs import paper_costs

    numbers = list(TITLES) if table is None else [table]
    try:
        with console.status("") as status:
            frames = {number: compare(number, paper_costs(number, status.update)) for number in numbers}
    except ValueError as error:
        fail(str(error))
    print(write_tables(frames, style) if table is None else write_table(table, frames[table], style))
    if any(frame["match"].isin([False]).any() for frame in frames.values()):
        raise typer.Exit(1)


@contextmanager
def told(path: Path | str = "") -> Iterator[None]:
    """End with one clear error at what cannot be read or asked, or if `path` cannot be written."""
    try:
        yield
    except (RunError, StudyError, DataError, FormatError, OmegaConfBaseException, YAMLError) as error:
        fail(" ".join(str(error).split()))
    except OSError as error:
        fail(f"{path} cannot be written: {error}.")


def checked(run: str) -> Run:
    """Read a run, or end with what is wrong with it."""
    with told():
        return open_run(run)


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
    to_its_end(app)
