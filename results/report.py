"""The report: one HTML file that works offline."""

import json
from importlib import resources
from pathlib import Path

import jinja2
import plotly.graph_objects as go
from markupsafe import Markup

from results.frames import Run
from results.front import complete, front, hypervolume_over_time
from results.summary import summary
from results.table import readable
from results.views import front_table, table

TITLES = {
    "accuracy": "accuracy (%)",
    "throughput": "throughput (img/s)",
    "latency": "latency (ms a batch)",
    "macs": "FLOPs (M)",
    "params": "params (M)",
}
COLOURS = {"front": "#d55e00", "complete": "#0072b2", "stopped": "#999999"}
"""Colours that colour-blind readers tell apart (Okabe and Ito)."""


def write_report(run: Run, path: Path) -> None:
    """Write the report of a run whole or not at all; about 5 MB, the plotting library inside."""
    template = jinja2.Environment(autoescape=True).from_string(
        resources.files("results").joinpath("report.html").read_text()
    )
    everything = table(run.trials)
    everything.insert(1, "outcome", run.trials["outcome"].to_numpy())
    everything.insert(len(everything.columns) - 1, "reason", run.trials["reason"].to_numpy())
    counts = run.trials["outcome"].value_counts()
    html = template.render(
        run=run,
        counts=", ".join(f"{n} {outcome}" for outcome, n in counts.items()),
        reference=", ".join(f"{name} {value:g}" for name, value in run.reference.items()),
        front_figure=embed(front_figure(run), first=True),
        front_table=Markup(front_table(run).map(readable).to_html(index=False, border=0)),
        hypervolume_figure=embed(hypervolume_figure(run)),
        all_table=Markup(everything.map(readable).to_html(index=False, border=0)),
        study=json.dumps(run.study, indent=2),
    )
    part = path.with_suffix(".part")
    part.write_text(html)
    part.replace(path)


def embed(figure: go.Figure, first: bool = False) -> Markup:
    """Return a figure as HTML; the first carries the plotting library."""
    figure.update_layout(template="simple_white", height=460, margin={"t": 20, "r": 20})
    return Markup(figure.to_html(full_html=False, include_plotlyjs=first, config={"displaylogo": False}))


def front_figure(run: Run) -> go.Figure:
    """Plot every trained trial, accuracy over the other first objective; stopped ones at their last accuracy."""
    other = next(o for o in run.objectives if o != "accuracy")
    figure = go.Figure()
    best = front(run)
    done = complete(run)
    stopped = run.trials[run.trials["outcome"] == "stopped"].copy()
    last = run.epochs.groupby("trial")["accuracy"].last()
    stopped["accuracy"] = last.reindex(stopped.index)
    unit = 1e6 if other in ("macs", "params") else 1
    groups = [
        ("stopped early, last accuracy", stopped, COLOURS["stopped"], "x", "markers"),
        ("at full budget", done.drop(best.index), COLOURS["complete"], "circle", "markers"),
        ("front", best.sort_values(other), COLOURS["front"], "diamond", "lines+markers"),
    ]
    for name, trials, colour, symbol, mode in groups:
        if trials.empty:
            continue
        texts = [f"trial {n}<br>{summary(c).replace(' | ', '<br>')}" for n, c in trials["config"].items()]
        figure.add_scatter(
            x=(trials[other] / unit).tolist(),
            y=trials["accuracy"].tolist(),
            name=name,
            mode=mode,
            text=texts,
            hovertemplate="%{text}<br>%{x:,.6~g}, %{y:.2f}%<extra></extra>",
            marker={"color": colour, "symbol": symbol, "size": 9},
            line={"color": colour, "width": 1, "dash": "dot", "shape": "vh" if other == "throughput" else "hv"},
        )
    figure.update_xaxes(title=TITLES[other])
    figure.update_yaxes(title=TITLES["accuracy"])
    figure.update_layout(legend={"orientation": "h", "y": 1.08})
    return figure


def hypervolume_figure(run: Run) -> go.Figure:
    """Plot the hypervolume of the front so far, a step at each complete trial."""
    curve = hypervolume_over_time(run)
    figure = go.Figure()
    figure.add_scatter(
        x=curve["minutes"].tolist(),
        y=curve["hypervolume"].tolist(),
        mode="lines+markers",
        line={"shape": "hv", "color": COLOURS["complete"]},
        hovertemplate="%{x:.1f} min: %{y:,.6~g}<extra></extra>",
    )
    figure.update_xaxes(title="minutes since the start", rangemode="tozero")
    figure.update_yaxes(title="hypervolume")
    return figure
