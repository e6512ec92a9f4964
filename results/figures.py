"""The figure of a front for a paper: one column wide, readable in print and in grey."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import pandas as pd

from record.folders import whole
from record.run import Run, RunError
from results.front import front
from results.points import STATES, UNDER_WAY, points, quantities

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN = 3.3
"""Width of a column of text, in inches."""
NAMES = 5
"""Size of the names of networks."""
PLACES = (1, 1), (1, -1), (-1, 1), (-1, -1), (1, 0)
"""Of a name beside its point, right and up, by preference; the last one if there is no room."""
WIDE = 10
"""Times that the largest value is the smallest, from which on an axis is logarithmic."""
STYLE = {
    "font.size": 8,
    "axes.titlesize": 8,
    "legend.fontsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "pdf.fonttype": 42,  # TrueType, so that text stays text
    "svg.fonttype": "none",
}
ENDINGS = (".pdf", ".svg", ".png")


def write(run: Run, path: Path) -> None:
    """Write the figure of a front, see `front_figure`, whole or not at all.

    Raises:
        RunError: if the ending of `path` is not one of `ENDINGS`.
    """
    if path.suffix.lower() not in ENDINGS:
        raise RunError(f"--out {path} must end in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}.")
    figure = front_figure(run)
    with mpl.rc_context(STYLE), whole(path) as part:
        figure.savefig(part, format=path.suffix[1:].lower(), dpi=300)


def front_figure(run: Run) -> "Figure":
    """Draw accuracy over the first other objective: the front, the other complete trials, and those stopped early.

    Bars are the 95 % intervals of accuracies that were judged on a known number of images. Listed networks have their
    names.

    Raises:
        RunError: if no trial can be drawn.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator

    other = next(o for o in run.objectives if o != "accuracy")
    shown, known = points(run), quantities(run)
    if other not in known or shown[other].isna().all():
        raise RunError(f"no trial of {run.name} has an accuracy and {other} yet.")
    shown[other] = shown[other].astype(float) / known[other].divisor
    best = shown.loc[front(run).index].sort_values(other)
    rest = shown.drop(best.index)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(COLUMN, 0.75 * COLUMN), layout="constrained")
        axes = figure.subplots()
        more = run.maximise[run.objectives.index(other)]
        if len(run.objectives) == 2:
            step = "steps-pre" if more else "steps-post"
            axes.plot(best[other], best["accuracy"], ":", color=STATES["front"], drawstyle=step, linewidth=0.8)
        draw(axes, rest[rest["outcome"] == "stopped"], other, "x", STATES["stopped"], "stopped early, last accuracy")
        draw(axes, rest[rest["outcome"].isin(UNDER_WAY)], other, "^", STATES["under way"], "under way, so far")
        draw(axes, rest[rest["outcome"] == "complete"], other, "o", STATES["complete"], "at full budget")
        draw(axes, best, other, "D", STATES["front"], "front")
        axes.set(xlabel=known[other].axis, ylabel=known["accuracy"].axis)
        if shown[other].min() > 0 and shown[other].max() > WIDE * shown[other].min():
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter("{x:,g}")
            axes.xaxis.set_minor_locator(NullLocator())
        figure.legend(loc="outside upper left", ncols=2, frameon=False, handletextpad=0.2, columnspacing=1)
        if "param.network" in shown:
            names = shown.dropna(subset="param.network").drop_duplicates("param.network")
            write_names(figure, axes, zip(names["param.network"], names[other], names["accuracy"], strict=True))
    return figure


def write_names(figure: "Figure", axes: "Axes", named: Iterable[tuple[str, float, float]]) -> None:
    """Write names beside points, each where it covers none before it, if there is such a place."""
    figure.draw_without_rendering()
    taken: list[Any] = []
    for name, x, y in named:
        for right, up in PLACES:
            text = axes.annotate(
                name, (x, y), (3 * right, 4 * up), textcoords="offset points", fontsize=NAMES, va="center"
            )
            text.set(ha="left" if right > 0 else "right", in_layout=False)
            box = text.get_window_extent()
            free = box.x1 <= figure.bbox.x1 and not box.count_overlaps(taken)
            if free or (right, up) == PLACES[-1]:
                taken.append(box)
                break
            text.remove()


def draw(axes: "Axes", trials: pd.DataFrame, other: str, marker: str, colour: str, label: str) -> None:
    """Draw some trials, with their intervals where they are known; the front filled, the others open."""
    if trials.empty:
        return
    bars = (trials[["low", "high"]].sub(trials["accuracy"], axis=0)).abs().fillna(0).to_numpy().T
    axes.errorbar(
        trials[other],
        trials["accuracy"],
        yerr=bars if bars.any() else None,
        fmt=marker,
        color=colour,
        markerfacecolor=colour if marker == "D" else "none",
        markersize=3.5,
        markeredgewidth=0.8,
        elinewidth=0.6,
        label=label,
    )
