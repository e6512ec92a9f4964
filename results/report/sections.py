"""The sections of the report below its front: a title, a note, and a figure, a table or a picture."""

import base64
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from markupsafe import Markup

from record.run import Run, RunError
from record.study import Comparison
from repmlp import RepMLP
from results.ablation import ablation_table, readable_table, title
from results.choice import Rule, choose
from results.front import complete, hypervolume_over_time
from results.importance import LEAST, importance
from results.kernel import default_block, draw, fc3_blocks
from results.parameters import NOT_ASKED, asked
from results.pivots import holders, pivot, placement
from results.points import OKABE_ITO, STATES
from results.provenance import made_on
from results.table import readable
from results.weights import trained

MOST = 12
"""Parameters whose importance is drawn."""
FEW = 100
"""Steps of the hypervolume that are marked."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the report; what it does not have is left out."""

    title: str
    note: str = ""
    figure: dict[str, Any] | None = None
    """Of Plotly, as plain values."""
    html: str = ""


def sections(run: Run) -> list[Section]:
    """Return the sections that a run has something for."""
    if complete(run).empty:
        return []
    return [section for part in (COMPARED if isinstance(run.study, Comparison) else SEARCHED) for section in part(run)]


def variants(run: Run) -> Iterator[Section]:
    """Set each variant beside the base."""
    table = ablation_table(run)
    note = f"{title(run, table)}. {made_on(run)}"
    yield Section(title="Ablation", note=note, html=html_table(readable_table(table, run.study.own)))


def hypervolumes(run: Run) -> Iterator[Section]:
    """Plot the hypervolume of the front so far, a step at each complete trial."""
    if not run.reference:
        return
    curve = hypervolume_over_time(run)
    line = go.Scatter(
        x=curve["minutes"].tolist(),
        y=curve["hypervolume"].tolist(),
        mode="lines+markers" if len(curve) <= FEW else "lines",
        line={"shape": "hv", "color": STATES["complete"]},
        hovertemplate="%{x:.1f} min: %{y:,.6~g}<extra></extra>",
    )
    reference = ", ".join(f"{name} {value:g}" for name, value in run.reference.items())
    yield Section(
        title="Hypervolume over time",
        note=f"In the product of the objectives' units, against the reference point {reference}, which the study fixed "
        "at its start.",
        figure=figure([line], "minutes since the start", "hypervolume"),
    )


def parameters(run: Run) -> Iterator[Section]:
    """Say how much each parameter matters, and set the two that matter most for accuracy against each other."""
    shares = importance(run)
    yield importance_section(run, shares)
    given = asked(run).loc[complete(run).index]
    everywhere = [name for name in shares["parameter"] if NOT_ASKED not in set(given[name])]
    if len(everywhere) > 1:
        yield pivot_section(run, *everywhere[:2])


def importance_section(run: Run, shares: pd.DataFrame) -> Section:
    """Plot the share of each parameter in each objective, the most important on top."""
    if shares.empty:
        found = len(complete(run))
        return Section(
            title="Importance of the parameters",
            note=f"Too few complete trials for importance ({found} of {LEAST})."
            if found < LEAST
            else "The space has no parameters.",
        )
    top = shares.iloc[:MOST][::-1]
    bars = [
        go.Bar(
            x=top[objective].tolist(),
            y=top["parameter"].tolist(),
            name=objective,
            orientation="h",
            marker={"color": OKABE_ITO[place]},
            hovertemplate="%{y}: %{x:.0%}<extra>" + objective + "</extra>",
        )
        for place, objective in reversed(list(enumerate(run.objectives)))
    ]
    drawn = figure(bars, "share in the objective", "")
    legend = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "traceorder": "reversed"}
    drawn["layout"] |= {"height": 130 + len(top) * (12 + 12 * len(bars)), "legend": legend}
    drawn["layout"]["xaxis"]["tickformat"] = ".0%"
    return Section(
        title="Importance of the parameters",
        note=f"How much each tells the best of {len(complete(run))} complete trials from all of them (PED-ANOVA)"
        + (f"; the first {MOST} of {len(shares)}." if len(shares) > MOST else "."),
        figure=drawn,
    )


def pivot_section(run: Run, rows: str, columns: str) -> Section:
    """Set the two parameters that matter most for accuracy against each other."""
    table = pivot(run, rows, columns)
    table.columns = [f"{columns} {v}" for v in table.columns]
    return Section(
        title=f"Accuracy by {rows} and {columns}",
        note="The two parameters that matter most for it, of those that every network has: mean in percent, and in "
        "brackets how many complete trials.",
        html=html_table(table.reset_index()),
    )


def placements(run: Run) -> Iterator[Section]:
    """Say what accuracy RepMLP has where."""
    yield Section(
        title="Where RepMLP goes",
        note="Complete trials by the stages that hold a RepMLP, as in the paper's Table 3; accuracy in percent.",
        html=html_table(placement(run)),
    )


def kernels(run: Run) -> Iterator[Section]:
    """Show the FC3 of the most accurate network with RepMLP, if it has one and its weights can be read."""
    done = complete(run)
    holding = done[done["config"].map(holders) != "none"]
    if holding.empty:
        return
    number = choose(holding, Rule.max_accuracy, run.objectives, run.maximise)
    try:
        blocks = fc3_blocks(trained(run, number))
    except RunError:  # a report does without the picture
        return
    if blocks:
        yield Section(
            title=f"FC3 of trial {number}, the most accurate with RepMLP",
            note="How strongly each input position acts on one output position, before and after the convolutions are "
            "merged into FC3, as in the paper's Figure 5.",
            html=kernel_picture(blocks),
        )


SEARCHED = hypervolumes, parameters, placements, kernels
COMPARED = variants, kernels
"""What the reports of searches and of comparisons say, in order; each yields nothing where a run has nothing for it."""


def figure(traces: list[Any], x: str, y: str) -> dict[str, Any]:
    """Return a figure of these traces as plain values, with titles on its axes."""
    layout: dict[str, Any] = {
        "height": 400,
        "xaxis": {"title": {"text": x}, "rangemode": "tozero"},
        "yaxis": {"title": {"text": y}},
    }
    return {"data": [trace.to_plotly_json() for trace in traces], "layout": layout}


def kernel_picture(blocks: Mapping[str, RepMLP]) -> str:
    """Return the picture of Figure 5 for the first of some blocks as an image element."""
    name = default_block(blocks)
    h, w = blocks[name].partition
    file = io.BytesIO()
    draw(blocks[name], name, (h // 2, w // 2)).savefig(file, format="png", dpi=130)
    image = base64.b64encode(file.getvalue()).decode()
    return Markup('<img alt="FC3 kernel of {} before and after the merge" src="data:image/png;base64,{}">').format(
        name, image
    )


def html_table(frame: pd.DataFrame) -> str:
    """Return a table of readable values as HTML."""
    return frame.map(readable).to_html(index=False, border=0)
