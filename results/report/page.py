"""The report: one HTML file that works offline."""

import json
import shlex
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from record.folders import folder_at, whole
from record.run import Run
from record.same import plain
from results.choice import Rule
from results.front import complete
from results.points import segments
from results.provenance import measured_at, training
from results.report.embedded import embedded, script, sliders
from results.report.sections import html_table, sections
from results.views import front_table


def report(run: Run, path: str | Path | None = None) -> Path:
    """Write the report of a run, whole or not at all, and return its path; about 5 MB, the plotting library inside.

    Args:
        run: with at least one trial.
        path: of the HTML file; report.html in the run folder otherwise.
    """
    path = folder_at(str(path or run.folder / "report.html"))
    html = page(run)
    with whole(path) as part:
        part.write_text(html)
    return path


def page(run: Run) -> str:
    """Return the report as HTML."""
    files = resources.files("results.report")
    template = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        files.joinpath("report.html").read_text()
    )
    below = sections(run)
    data = embedded(run) | {
        "source": shlex.quote(run.source),
        "pick": shlex.quote(str(run.local / "pick.yaml")),
        "sections": [section.figure for section in below],
    }
    return template.render(
        run=run,
        counts=", ".join(f"{n} {outcome}" for outcome, n in run.trials["outcome"].value_counts().items()),
        accuracy_is="mIoU" if segments(run) else "top-1",
        measured_at=measured_at(run),
        training=training(run),
        data=data,
        json=script(data),
        rules=[rule.value for rule in Rule],
        sliders=sliders(run),
        front_table="" if complete(run).empty else html_table(front_table(run)),
        sections=below,
        study=json.dumps(plain(run.study), indent=2),
        commands=commands(run),
        # Browsers read a page of ASCII alone about a tenth faster.
        plotly=Markup(get_plotlyjs().encode("ascii", "backslashreplace").decode()),
        code=Markup(files.joinpath("pick.js").read_text() + files.joinpath("report.js").read_text()),
    )


def commands(run: Run) -> str:
    """Return the commands that repeat a run and its report."""
    lines: list[Any] = []
    for environment in run.environments:
        commit = environment.get("commit") or ""
        if commit:
            lines.append(
                f"git checkout {commit.rstrip('+')}" + "  # and changes that were not committed" * ("+" in commit)
            )
        lines.append(environment["command"])
    return "\n".join([*dict.fromkeys(lines), f"python analyze.py report {shlex.quote(run.source)}"])
