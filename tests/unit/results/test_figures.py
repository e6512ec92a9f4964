"""The figure for papers, and what is shown of a trial."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from results.figures import COLUMN, front_figure, write
from results.front import front
from results.points import points, quantities
from results.statistics import accuracy_interval
from tests.made_runs import IMAGES, made_run

RUN = made_run(["complete"] * 12 + ["stopped"] * 6 + ["running", "failed"])


def test_stopped_trials_show_their_last_accuracy_without_an_interval() -> None:
    shown = points(RUN)
    assert list(shown.index) == list(range(19))
    stopped = shown.loc[12:17]
    last = RUN.epochs[RUN.epochs["trial"] == 12]["accuracy"].iloc[-1]
    assert stopped.loc[12, "accuracy"] == last
    assert stopped[["low", "high"]].isna().all(axis=None)
    first = shown.loc[0]
    assert (first["low"], first["high"]) == accuracy_interval(first["accuracy"], IMAGES)


def test_mean_iou_is_named_and_has_no_interval() -> None:
    run = made_run(["complete"] * 3, data={"name": "cityscapes"})
    assert points(run)["low"].isna().all()
    assert quantities(run)["accuracy"].axis == "mIoU (%)"


def test_an_accuracy_on_unknown_images_has_no_interval() -> None:
    run = made_run(["complete"] * 3)
    run.trials["images"] = run.trials["images"].mask(run.trials.index == 1)
    assert list(points(run)["low"].isna()) == [False, True, False]


def test_quantities_without_any_value_are_left_out() -> None:
    run = made_run(["complete"] * 3)
    run.trials[["throughput", "latency", "relative"]] = np.nan
    assert list(quantities(run)) == ["accuracy", "macs", "params", "seconds"]


@pytest.mark.parametrize("other", ["throughput", "latency", "macs", "params"])
def test_axes_have_names_and_units_and_the_front_is_marked(other: str) -> None:
    run = made_run(["complete"] * 12 + ["stopped"] * 3, (other, "accuracy"), limits={"max_latency": 1e6})
    figure = front_figure(run)
    axes = figure.axes[0]
    assert axes.get_xlabel() == quantities(run)[other].axis
    assert axes.get_ylabel() == "accuracy (%)"
    assert figure.get_figwidth() == COLUMN
    drawn = {c.get_label(): c.lines[0] for c in axes.containers}
    assert set(drawn) == {"stopped early, last accuracy", "at full budget", "front"}
    assert len(drawn["front"].get_xdata()) == len(front(run))
    assert len({line.get_marker() for line in drawn.values()}) == 3


def test_text_stays_text_in_vector_files(tmp_path: Path) -> None:
    for ending in ("pdf", "svg", "png"):
        write(RUN, tmp_path / f"front.{ending}")
    assert "throughput (img/s)</text>" in (tmp_path / "front.svg").read_text()
    assert b"/FontFile2" in (tmp_path / "front.pdf").read_bytes()  # TrueType
    with Image.open(tmp_path / "front.png") as image:
        assert image.width == round(300 * COLUMN)
    assert len(list(tmp_path.iterdir())) == 3


def test_another_ending_and_a_run_without_results_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"front\.gif must end in \.pdf, \.svg or \.png\."):
        write(RUN, tmp_path / "front.gif")
    with pytest.raises(ValueError, match="no trial of made has an accuracy and throughput yet"):
        front_figure(made_run(["failed", "infeasible"]))


def test_listed_networks_have_their_names_within_the_figure_and_off_one_another() -> None:
    run = made_run(["complete"] * 6)
    run.trials["param.network"] = ["one", "two", "three", "four", "five", "one"]
    figure = front_figure(run)
    texts = figure.axes[0].texts
    assert [text.get_text() for text in texts] == ["one", "two", "three", "four", "five"]
    boxes = [text.get_window_extent() for text in texts]
    assert all(box.x1 <= figure.bbox.x1 for box in boxes)
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))


@pytest.mark.parametrize(("factor", "scale"), [(1.0, "linear"), (100.0, "log")])
def test_an_axis_over_more_than_a_decade_is_logarithmic(factor: float, scale: str) -> None:
    run = made_run(["complete"] * 6)
    run.trials["throughput"] = np.linspace(1000, 2000, 6)
    run.trials.loc[0, "throughput"] *= factor
    assert front_figure(run).axes[0].get_xscale() == scale
